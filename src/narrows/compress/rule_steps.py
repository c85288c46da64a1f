"""Steps that rules of several layers and calls share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from narrows.compress.analysis import Analysis, Labels, fixed_like, spread


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


def within(analysis: Analysis, node: fx.Node, labels: Tensor, axis: int) -> Tensor:
    """Labels after a call that mixes along an axis: units along it are fixed."""
    if axis % labels.ndim in analysis.classes.varying(labels):
        analysis.classes.pin(labels, f"{node.name} mixes them and has no weights")
    return labels


def pooled(analysis: Analysis, node: fx.Node, result: Tensor, trailing: int) -> Tensor:
    """Labels after a layer that works within each channel, over the trailing axes."""
    axis = result.ndim - trailing - 1
    row = analysis.classes.along(first(analysis, node), axis, f"{node.name} pools over them")
    return spread(row, result.shape, axis)


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
