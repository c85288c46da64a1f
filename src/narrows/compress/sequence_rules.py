"""What recurrent layers and attention do to labels."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from narrows.compress.analysis import Analysis, Labels, fixed_like, spread
from narrows.compress.attention import ReducedAttention
from narrows.compress.recurrent import gates, is_plain, runs
from narrows.compress.rule_steps import unknown


def recurrent(analysis: Analysis, node: fx.Node, layer: nn.RNNBase, result: Any) -> Labels:
    """Each direction of each layer of a stack makes units, and reads its own."""
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


def attention(
    analysis: Analysis,
    node: fx.Node,
    layer: nn.MultiheadAttention | ReducedAttention,
    result: Any,
) -> Labels:
    """Each head is a unit, and so is each output."""
    if isinstance(layer, nn.MultiheadAttention) and (
        layer.bias_k is not None or layer.add_zero_attn
    ):
        return unknown(analysis, node, "MultiheadAttention with keys of its own", result)
    if len(node.args) != 3 or layer.in_proj_weight is None:
        return unknown(analysis, node, "MultiheadAttention with keys of other sizes", result)
    name = str(node.target)
    count = len(layer.in_proj_weight) // 3 // layer.head_dim
    heads = analysis.produce(f"{name}.heads", name, "heads", count)
    each = heads.repeat_interleave(layer.head_dim)
    for place in range(3):
        row = analysis.read(node, place, -1, f"{name} mixes what lies there")
        analysis.bind(layer.in_proj_weight, 1, row)
    analysis.bind(layer.in_proj_weight, 0, each.repeat(3))
    analysis.bind(layer.in_proj_bias, 0, each.repeat(3))
    out = analysis.produce(name, name, "channels", len(layer.out_proj.weight))
    analysis.bind(layer.out_proj.weight, 1, each)
    analysis.bind(layer.out_proj.weight, 0, out)
    analysis.bind(layer.out_proj.bias, 0, out)
    if any(user.args[1] == 1 and user.users for user in node.users if len(user.args) == 2):
        analysis.classes.pin(heads, f"the attention weights of {name} are used")
    return spread(out, result[0].shape, result[0].ndim - 1), fixed_like(result[1])
