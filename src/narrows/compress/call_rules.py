"""What functions and methods of tensors do to labels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from narrows.compress.analysis import Analysis, Labels, fixed_like, spread
from narrows.compress.call_names import ELEMENTWISE, MOVING, POOLING, REDUCING
from narrows.compress.layer_rules import layer_rule
from narrows.compress.rule_steps import first, pooled, unknown, within
from narrows.compress.tracing import name_of


def label_rule(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Labels:
    """Labels of any node's result."""
    if node.op == "call_module":
        layer = analysis.module.get_submodule(str(node.target))
        return layer_rule(analysis, node, layer, result)
    if node.op == "get_attr":
        return _attribute(analysis, node, result)
    if node.op == "output":
        for source in node.all_input_nodes:
            analysis.pin(analysis.labels[source], "the network answers with them")
        return None
    if node.op == "placeholder":
        return fixed_like(result)
    return _call(analysis, node, args, kwargs, result)


def _attribute(analysis: Analysis, node: fx.Node, result: Any) -> Labels:
    """Each element of a parameter may belong to any unit that it meets."""
    if not isinstance(result, Tensor) or id(result) not in analysis.names or result.ndim == 0:
        return fixed_like(result)
    name = analysis.names[id(result)]
    labels = analysis.classes.fresh(result.numel()).reshape(result.shape)
    layer = analysis.module.get_submodule(name.rpartition(".")[0])
    if name.rpartition(".")[0] and isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
        analysis.classes.pin(labels, f"{name} is used outside its layer")
        for axis, size in enumerate(result.shape):
            analysis.bind(result, axis, torch.zeros(size, dtype=torch.int64))
        return labels
    known = analysis.attributes.setdefault(name, labels)
    analysis.arrays.append((known, f"they are combined with {name}"))
    return known


def _call(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Labels:
    name = name_of(node.target)
    if not _labelled(analysis, node):
        return fixed_like(result)
    if name in MOVING:
        return _move(analysis, node, args, kwargs, result)
    if not isinstance(result, Tensor):
        lost = fixed_like(result) is not None
        return unknown(analysis, node, name, result) if lost else None
    rule = _RULES.get(name)
    if rule is not None:
        return rule(analysis, node, args, kwargs, result)
    if name in ELEMENTWISE:
        return _elementwise(analysis, node, result)
    if name in REDUCING:
        return _reduce(analysis, node, args, kwargs, result)
    if name in POOLING:
        return pooled(analysis, node, result, POOLING[name] or result.ndim - 2)
    return unknown(analysis, node, name, result)


def _labelled(analysis: Analysis, node: fx.Node) -> bool:
    """Whether any input is a tensor with labels."""
    return any(analysis.labels[source] is not None for source in node.all_input_nodes)


def _move(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Labels:
    """Run the call itself on labels; index tensors stay what they are."""
    if name_of(node.target) == "getattr" and not isinstance(result, Tensor):
        return None
    labelled = _labels_of(analysis, node.args[0])
    if isinstance(labelled, Tensor):
        labelled = labelled.contiguous()  # so that it can be viewed wherever the values can
    if isinstance(labelled, tuple) and node.target is operator.getitem:
        return operator.getitem(labelled, args[1])
    rest = torch.utils._pytree.tree_map(_on_cpu, args[1:])
    call: Callable[..., Any] = (
        getattr(torch.Tensor, node.target) if isinstance(node.target, str) else node.target
    )
    moved = call(labelled, *rest, **kwargs)
    parts = moved if isinstance(moved, tuple | list) else (moved,)
    for part in parts:
        analysis.arrays.append((part, f"they are rearranged by {node.name}"))
    return tuple(moved) if isinstance(moved, list) else moved


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


def _labels_of(analysis: Analysis, argument: Any) -> Any:
    if isinstance(argument, fx.Node):
        return analysis.labels[argument]
    return [analysis.labels[part] for part in argument]


def _elementwise(analysis: Analysis, node: fx.Node, result: Tensor) -> Labels:
    """Units that meet are one; what is repeated along the units, and so meets many, is fixed."""
    shape, classes = result.shape, analysis.classes
    operands = [analysis.labels[source] for source in node.all_input_nodes]
    tensors = [part for part in operands if isinstance(part, Tensor) and part.numel()]
    padded = [part.reshape((1,) * (len(shape) - part.ndim) + part.shape) for part in tensors]
    axes = {axis for part in padded for axis in classes.varying(part)}
    whole = [part for part in padded if all(part.shape[axis] == shape[axis] for axis in axes)]
    reason = f"{node.name} combines them with what cannot be made smaller"
    for part in padded:
        if any(part.shape[axis] != shape[axis] for axis in axes):
            classes.pin(part, f"{node.name} repeats them along other units")
    if not axes and any(bool((classes.of(part) != 0).any()) for part in whole):
        whole = [part for part in whole if part.numel() > 1] or whole
    expanded = [part.expand(shape) for part in whole]
    for other in expanded[1:]:
        classes.join(expanded[0], other, reason)
    return expanded[0].clone() if expanded else fixed_like(result)


def _reduce(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Tensor) -> Labels:
    """Sums over places keep the unit; sums over units fix it."""
    labels = first(analysis, node)
    axes = kwargs.get("dim", args[1] if len(args) > 1 else None)
    wanted = range(labels.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    if isinstance(axes, Tensor):
        return unknown(analysis, node, name_of(node.target), result)
    for axis in wanted:
        within(analysis, node, labels, axis)
    for axis in sorted((axis % labels.ndim for axis in wanted), reverse=True):
        labels = labels.narrow(axis, 0, 1)
    return labels.reshape(result.shape).clone()


def _softmax(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Labels:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if axis is None:
        return unknown(analysis, node, "softmax without dim", result)
    return within(analysis, node, first(analysis, node), axis)


def _layer_norm(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Labels:
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else None)
    if shape is None or len(shape) != 1:
        return unknown(analysis, node, "layer_norm over several axes", result)
    return _counted_layer_norm(analysis, node, args, kwargs, result)


def _counted_layer_norm(
    analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Any
) -> Labels:
    row = analysis.read(node, 0, -1, f"{node.name} normalises over them")
    for source in node.all_input_nodes[1:]:
        weight = analysis.labels[source]
        assert isinstance(weight, Tensor)
        analysis.classes.join(weight, row, f"{node.name} normalises fixed units")
    return spread(row, result.shape, result.ndim - 1)


def _product(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Tensor) -> Labels:
    """Products of activations: what is summed over is one unit, with what it makes (a head)."""
    left, right = (analysis.labels[source] for source in node.args)
    assert isinstance(left, Tensor)
    assert isinstance(right, Tensor)
    if left.ndim < 2 or right.ndim < 2:
        return unknown(analysis, node, "product with a vector", result)
    rows = _summed(analysis, node, left, -1)
    return _heads(analysis, node, rows, _summed(analysis, node, right, -2), result.shape)


def _attend(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Tensor) -> Labels:
    """Attention: a head is one unit."""
    query, key, value = (analysis.labels[source] for source in node.args[:3])
    assert isinstance(query, Tensor)
    assert isinstance(key, Tensor)
    assert isinstance(value, Tensor)
    columns = _summed(analysis, node, key, -1).transpose(-1, -2)
    shape = torch.Size((*query.shape[:-1], key.shape[-2]))
    scores = _heads(analysis, node, _summed(analysis, node, query, -1), columns, shape)
    within(analysis, node, scores, -1)
    rows = _summed(analysis, node, scores, -1)
    return _heads(analysis, node, rows, _summed(analysis, node, value, -2), result.shape)


def _summed(analysis: Analysis, node: fx.Node, labels: Tensor, axis: int) -> Tensor:
    """Labels with one axis left out, along which all became one unit."""
    one = labels.narrow(axis, 0, 1)
    if axis % labels.ndim in analysis.classes.varying(labels):
        analysis.classes.join(labels, one.expand_as(labels), f"{node.name} sums over them")
        analysis.heads.append(one.reshape(-1))
    return one


def _heads(
    analysis: Analysis, node: fx.Node, left: Tensor, right: Tensor, shape: torch.Size
) -> Tensor:
    """Join (..., m, 1) with (..., 1, n): the classes of a product (..., m, n)."""
    rows, columns = left.expand(shape), right.expand(shape)
    free = [part for part in (rows, columns) if bool((analysis.classes.of(part) != 0).any())]
    if len(free) == 2:
        analysis.classes.join(rows, columns, f"{node.name} multiplies them with fixed values")
    return free[0].clone() if free else rows.clone()


def _pad(analysis: Analysis, node: fx.Node, args: Any, kwargs: Any, result: Tensor) -> Labels:
    """What is put beside a unit's values belongs to it; units put beside units are fixed."""
    labels = first(analysis, node)
    analysis.classes.settle([(labels, f"they are rearranged before {node.name}")])
    axes = analysis.classes.varying(labels)
    if len(axes) == 1 and result.shape[axes[0]] == labels.shape[axes[0]]:
        row = analysis.classes.along(labels, axes[0], node.name)
        return spread(row, result.shape, axes[0])
    return unknown(analysis, node, "padding along units", result)


_RULES: dict[str, Callable[..., Labels]] = {
    "pad": _pad,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _layer_norm,
    "counted_layer_norm": _counted_layer_norm,
    "matmul": _product,
    "bmm": _product,
    "scaled_dot_product_attention": _attend,
}
