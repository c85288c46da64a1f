"""What each layer of torch.nn does to labels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import batchnorm, conv, instancenorm

from narrows.compress.analysis import Analysis, Labels, fixed_like, spread
from narrows.compress.recurrent import gates, is_plain, runs

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
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


def unknown(analysis: Analysis, node: fx.Node, what: str, result: Any) -> Labels:
    """Fix all that a call touches whose way with units is not known."""
    for source in node.all_input_nodes:
        analysis.pin(
            analysis.labels[source],
            f"they are read by {node.target if node.op == 'call_module' else node.name} ({what}), "
            "and narrows does not know what becomes of units there",
        )
    return fixed_like(result)


def first(analysis: Analysis, node: fx.Node) -> Tensor:
    """Labels of a node's first input."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    labels = analysis.labels[source]
    assert isinstance(labels, Tensor)
    return labels


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


def pooled(analysis: Analysis, node: fx.Node, result: Tensor, trailing: int) -> Tensor:
    """Labels after a layer that works within each channel, over the trailing axes."""
    axis = result.ndim - trailing - 1
    row = analysis.classes.along(first(analysis, node), axis, f"{node.name} pools over them")
    return spread(row, result.shape, axis)


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


def whole_groups(analysis: Analysis, layer: str, row: Tensor, groups: int, reason: str) -> Tensor:
    """One label for each group of channels, which are one unit from now on."""
    parts = row.reshape(groups, -1)
    analysis.classes.join(parts, parts[:, :1].expand_as(parts), reason)
    analysis.groups_of[layer] = parts[:, 0]
    return parts[:, 0]


def equal_groups(analysis: Analysis, row: Tensor, groups: int, reason: str) -> Tensor:
    """The labels of channels, those at the same place of every group one unit from now on."""
    parts = row.reshape(groups, -1)
    analysis.classes.join(parts, parts[:1].expand_as(parts), reason)
    return row


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


def _per_channel(analysis: Analysis, node: fx.Node, layer: Any, result: Tensor) -> Labels:
    labels = first(analysis, node)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = [getattr(layer, name, None) for name in names]
    bound = [tensor for tensor in tensors if tensor is not None and tensor.numel() > 1]
    if bound or not isinstance(layer, nn.PReLU):
        row = analysis.classes.along(labels, 1, f"{node.target} scales each channel")
        analysis.normalised[str(node.target)] = row
        for tensor in bound:
            analysis.bind(tensor, 0, row)
    return labels


def _layer_norm(analysis: Analysis, node: fx.Node, layer: nn.LayerNorm, result: Tensor) -> Labels:
    if len(layer.normalized_shape) != 1:
        return unknown(analysis, node, "LayerNorm over several axes", result)
    row = analysis.read(node, 0, -1, f"{node.target} normalises over them")
    analysis.bind(layer.weight, 0, row)
    analysis.bind(layer.bias, 0, row)
    analysis.normalised[str(node.target)] = row
    return spread(row, result.shape, result.ndim - 1)


def _group_norm(analysis: Analysis, node: fx.Node, layer: nn.GroupNorm, result: Tensor) -> Labels:
    reason = f"{node.target} normalises over groups"
    if layer.num_groups > layer.num_channels // layer.num_groups:
        row = analysis.classes.along(first(analysis, node), 1, reason)
        whole_groups(analysis, str(node.target), row, layer.num_groups, reason)
    else:
        row = analysis.read(node, 0, 1, reason)
        equal_groups(analysis, row, layer.num_groups, reason)
    analysis.normalised[str(node.target)] = row
    analysis.bind(layer.weight, 0, row)
    analysis.bind(layer.bias, 0, row)
    return spread(row, result.shape, 1)


def _softmax(analysis: Analysis, node: fx.Node, layer: nn.Softmax, result: Tensor) -> Labels:
    if layer.dim is None:
        return unknown(analysis, node, "Softmax without dim", result)
    return within(analysis, node, first(analysis, node), layer.dim)


def within(analysis: Analysis, node: fx.Node, labels: Tensor, axis: int) -> Tensor:
    """Labels after a call that mixes along an axis: units along it are fixed."""
    if axis % labels.ndim in analysis.classes.varying(labels):
        analysis.classes.pin(labels, f"{node.name} mixes them and has no weights")
    return labels


def _recurrent(analysis: Analysis, node: fx.Node, layer: nn.RNNBase, result: Any) -> Labels:
    name = str(node.target)
    if not is_plain(layer) or len(node.args) != 1 or node.kwargs:
        return unknown(analysis, node, f"{type(layer).__name__} with proj_size or a state", result)
    row = analysis.read(node, 0, -1, f"{name} mixes what lies there")
    sizes, count = layer.hidden_size, gates(layer)
    hidden: list[Tensor] = []
    for depth in range(layer.num_layers):
        states = []
        for suffix in runs(layer, depth):
            own = analysis.produce(f"{name}.{suffix}", name, "recurrent", sizes)
            analysis.bind(getattr(layer, f"weight_ih_{suffix}"), 1, row)
            analysis.bind(getattr(layer, f"weight_hh_{suffix}"), 1, own)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                analysis.bind(getattr(layer, f"{part}_{suffix}", None), 0, own.repeat(count))
            states.append(own)
        row = torch.cat(states)
        hidden += states
    out = spread(row, result[0].shape, result[0].ndim - 1)
    last = torch.stack(hidden)
    if result[0].ndim == 3:
        last = last.unsqueeze(1)
    final = result[1][0] if isinstance(layer, nn.LSTM) else result[1]
    last = last.expand(final.shape).clone()
    if not _states_taken_one_by_one(node, nested=isinstance(layer, nn.LSTM)):
        analysis.arrays.append((last, f"the states {name} ends in are used as one array"))
    return (out, (last, last)) if isinstance(layer, nn.LSTM) else (out, last)


def _states_taken_one_by_one(node: fx.Node, *, nested: bool) -> bool:
    """Whether only single rows of the final states are used, so that they may differ in length."""
    parts = [user for user in node.users if user.args[1] == 1]
    if nested:
        parts = [user for part in parts for user in part.users]
    return all(
        user.target is operator.getitem and isinstance(user.args[1], int)
        for part in parts
        for user in part.users
    )


def _attention(
    analysis: Analysis, node: fx.Node, layer: nn.MultiheadAttention, result: Any
) -> Labels:
    if len(node.args) != 3 or layer.in_proj_weight is None or layer.bias_k is not None:
        return unknown(analysis, node, "MultiheadAttention with keys of other sizes", result)
    if layer.add_zero_attn:
        return unknown(analysis, node, "MultiheadAttention with add_zero_attn", result)
    name = str(node.target)
    heads = analysis.produce(f"{name}.heads", name, "heads", layer.num_heads)
    each = heads.repeat_interleave(layer.head_dim)
    for place in range(3):
        row = analysis.read(node, place, -1, f"{name} mixes what lies there")
        analysis.bind(layer.in_proj_weight, 1, row)
    analysis.bind(layer.in_proj_weight, 0, each.repeat(3))
    analysis.bind(layer.in_proj_bias, 0, each.repeat(3))
    out = analysis.produce(name, name, "channels", layer.embed_dim)
    analysis.bind(layer.out_proj.weight, 1, each)
    analysis.bind(layer.out_proj.weight, 0, out)
    analysis.bind(layer.out_proj.bias, 0, out)
    if any(user.args[1] == 1 and user.users for user in node.users if len(user.args) == 2):
        analysis.classes.pin(heads, f"the attention weights of {name} are used")
    return spread(out, result[0].shape, result[0].ndim - 1), fixed_like(result[1])


_RULES: tuple[tuple[Any, Any], ...] = (
    (ELEMENTWISE, _same),
    (_POOLS, _pool),
    (MOVING, _moving),
    (conv._ConvNd, _convolve),
    (nn.Linear, _linear),
    (nn.Embedding, _embedding),
    ((batchnorm._BatchNorm, instancenorm._InstanceNorm, nn.PReLU), _per_channel),
    (nn.LayerNorm, _layer_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.Softmax, nn.LogSoftmax), _softmax),
    (nn.RNNBase, _recurrent),
    (nn.MultiheadAttention, _attention),
)
