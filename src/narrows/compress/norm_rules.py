"""What normalisation does to labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from narrows.compress.analysis import Analysis, Labels, spread
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm
from narrows.compress.rule_steps import equal_groups, first, unknown, whole_groups


def per_channel(analysis: Analysis, node: fx.Node, layer: Any, result: Tensor) -> Labels:
    """Batch and instance normalisation, and slopes of their own: each channel for itself."""
    labels = first(analysis, node)
    names = ("weight", "bias", "running_mean", "running_var", "running_inverse_std")
    tensors = [getattr(layer, name, None) for name in names]
    bound = [tensor for tensor in tensors if tensor is not None and tensor.numel() > 1]
    if bound or not isinstance(layer, nn.PReLU):
        row = analysis.classes.along(labels, 1, f"{node.target} scales each channel")
        analysis.normalised[str(node.target)] = row
        for tensor in bound:
            analysis.bind(tensor, 0, row)
    return labels


def layer_norm(
    analysis: Analysis, node: fx.Node, layer: nn.LayerNorm | CountedLayerNorm, result: Tensor
) -> Labels:
    """Normalisation over the last axis reads what lies there; absent units count as zeros."""
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) != 1:
        return unknown(analysis, node, "LayerNorm over several axes", result)
    row = analysis.read(node, 0, -1, f"{node.target} normalises over them")
    analysis.bind(layer.weight, 0, row)
    analysis.bind(layer.bias, 0, row)
    analysis.normalised[str(node.target)] = row
    return spread(row, result.shape, result.ndim - 1)


def group_norm(
    analysis: Analysis, node: fx.Node, layer: nn.GroupNorm | CountedGroupNorm, result: Tensor
) -> Labels:
    """Whole groups are units where there are more of them than channels in one."""
    reason = f"{node.target} normalises over groups"
    if layer.num_groups > result.shape[1] // layer.num_groups:
        row = analysis.classes.along(first(analysis, node), 1, reason)
        whole_groups(analysis, str(node.target), row, layer.num_groups, reason)
    else:
        row = analysis.read(node, 0, 1, reason)
        equal_groups(analysis, row, layer.num_groups, reason)
    analysis.normalised[str(node.target)] = row
    analysis.bind(layer.weight, 0, row)
    analysis.bind(layer.bias, 0, row)
    return spread(row, result.shape, 1)
