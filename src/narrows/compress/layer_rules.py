"""What each layer of torch.nn does to labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules import batchnorm, conv, instancenorm

from narrows.compress.analysis import Analysis, Labels, spread
from narrows.compress.attention import ReducedAttention
from narrows.compress.binary_layers import BinaryActivation, ShiftBatchNorm
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm
from narrows.compress.norm_rules import group_norm, layer_norm, per_channel
from narrows.compress.rule_steps import (
    equal_groups,
    first,
    pooled,
    unknown,
    whole_groups,
    within,
)
from narrows.compress.sequence_rules import attention, recurrent

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold),
    *(
        BinaryActivation,
        nn.Identity,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
    ),
)
_POOLS = (
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.LPPool1d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d),
    *(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d),
    *(nn.ConstantPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
)
MOVING = (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)

Rule = Callable[[Analysis, fx.Node, Any, Any], Labels]


def layer_rule(analysis: Analysis, node: fx.Node, layer: nn.Module, result: Any) -> Labels:
    """Labels of what a layer answers; what it needs of its weights goes into the analysis."""
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            return rule(analysis, node, layer, result)
    if type(layer).__name__ == "StochasticDepth":
        return first(analysis, node)
    if any(True for _ in layer.parameters()):
        analysis.unknown[str(node.target)] = f"narrows does not know {type(layer).__name__}"
    return unknown(analysis, node, type(layer).__name__, result)


def _same(analysis: Analysis, node: fx.Node, layer: nn.Module, result: Tensor) -> Labels:
    return first(analysis, node)


def _moving(analysis: Analysis, node: fx.Node, layer: nn.Module, result: Tensor) -> Labels:
    moved: Tensor = layer(first(analysis, node))
    analysis.arrays.append((moved, f"they are rearranged by {node.target}"))
    return moved


def _pool(analysis: Analysis, node: fx.Node, layer: nn.Module, result: Any) -> Labels:
    if isinstance(result, Tensor):
        return pooled(analysis, node, result, _trailing(layer, result))
    return unknown(analysis, node, type(layer).__name__, result)


def _trailing(layer: nn.Module, result: Tensor) -> int:
    """How many axes a layer pools over."""
    digits = [int(letter) for letter in type(layer).__name__ if letter.isdigit()]
    return digits[0] if digits else result.ndim - 2


def _convolve(analysis: Analysis, node: fx.Node, layer: conv._ConvNd, result: Tensor) -> Labels:
    axis = result.ndim - len(layer.kernel_size) - 1
    name = str(node.target)
    out = analysis.produce(name, name, "channels", layer.out_channels)
    transposed = isinstance(layer, conv._ConvTransposeNd)
    out_axis, in_axis = (1, 0) if transposed else (0, 1)
    if layer.groups == 1:
        read = analysis.read(node, 0, axis, f"{name} mixes what lies there")
        analysis.bind(layer.weight, in_axis, read)
        analysis.bind(layer.weight, out_axis, out)
    else:
        _convolve_groups(analysis, node, layer, axis, out)
    analysis.bind(layer.bias, 0, out)
    return spread(out, result.shape, axis)


def _convolve_groups(
    analysis: Analysis, node: fx.Node, layer: conv._ConvNd, axis: int, out: Tensor
) -> None:
    """Whole groups are units where there are more of them than channels in one.

    Elsewhere every group loses the channels at the same places, so that they stay equally large.
    """
    reason = f"{node.target} has groups"
    made = out.reshape(layer.groups, -1)
    axes = (1, 0) if isinstance(layer, conv._ConvTransposeNd) else (0, 1)
    if layer.groups > layer.in_channels // layer.groups:
        row = analysis.classes.along(first(analysis, node), axis, reason)
        each = whole_groups(analysis, str(node.target), row, layer.groups, reason)
        analysis.classes.join(made, each.reshape(-1, 1).expand_as(made), reason)
        analysis.bind(layer.weight, 0, out if axes[0] == 0 else row)
        return
    row = equal_groups(analysis, analysis.read(node, 0, axis, reason), layer.groups, reason)
    analysis.classes.join(made, made[:1].expand_as(made), reason)
    if axes[0] == 0:
        analysis.bind(layer.weight, 0, out)
        analysis.bind(layer.weight, 1, row[: len(row) // layer.groups])
    else:
        analysis.bind(layer.weight, 0, row)
        analysis.bind(layer.weight, 1, made[0])


def _linear(analysis: Analysis, node: fx.Node, layer: nn.Linear, result: Tensor) -> Labels:
    name = str(node.target)
    analysis.bind(layer.weight, 1, analysis.read(node, 0, -1, f"{name} mixes what lies there"))
    out = analysis.produce(name, name, "channels", layer.out_features)
    analysis.bind(layer.weight, 0, out)
    analysis.bind(layer.bias, 0, out)
    return spread(out, result.shape, result.ndim - 1)


def _embedding(analysis: Analysis, node: fx.Node, layer: nn.Embedding, result: Tensor) -> Labels:
    if layer.max_norm is not None:
        return unknown(analysis, node, "Embedding with max_norm", result)
    name = str(node.target)
    out = analysis.produce(name, name, "channels", layer.embedding_dim)
    analysis.bind(layer.weight, 1, out)
    return spread(out, result.shape, result.ndim - 1)


def _softmax(analysis: Analysis, node: fx.Node, layer: nn.Softmax, result: Tensor) -> Labels:
    if layer.dim is None:
        return unknown(analysis, node, "Softmax without dim", result)
    return within(analysis, node, first(analysis, node), layer.dim)


_RULES: tuple[tuple[Any, Any], ...] = (
    (ELEMENTWISE, _same),
    (_POOLS, _pool),
    (MOVING, _moving),
    (conv._ConvNd, _convolve),
    (nn.Linear, _linear),
    (nn.Embedding, _embedding),
    ((batchnorm._BatchNorm, instancenorm._InstanceNorm, nn.PReLU), per_channel),
    (ShiftBatchNorm, per_channel),
    ((nn.LayerNorm, CountedLayerNorm), layer_norm),
    ((nn.GroupNorm, CountedGroupNorm), group_norm),
    ((nn.Softmax, nn.LogSoftmax), _softmax),
    (nn.RNNBase, recurrent),
    ((nn.MultiheadAttention, ReducedAttention), attention),
)
