"""The label analysis: a network run once on labels instead of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, fx, nn

from narrows.compress.classes import FIXED, Classes

Labels: TypeAlias = Tensor | tuple[Any, ...] | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """A layer that makes units: one label for each of them, in its order.

    Args:
        name: Of the units, e.g. "conv1" or "rnn.l0_reverse".
        layer: The module, or the parameter.
        kind: "channels", "recurrent" or "heads".
        labels: (n,).
    """

    name: str
    layer: str
    kind: str
    labels: Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A place where units are mixed: the node, which of its inputs, and the labels read.

    Args:
        node: The call.
        place: Which positional argument.
        axis: Of the units in it.
        labels: (n,), one for each place of the axis.
    """

    node: fx.Node
    place: int
    axis: int
    labels: Tensor


@final
@dataclass(slots=True, kw_only=True)
class Analysis:
    """What a run on labels finds out; it grows while the run goes on.

    Args:
        module: The traced network.
        classes: Which labels are one unit.
        labels: Of each node's result.
        weights: Of each parameter or buffer, by its first name: the labels along each axis that
            has any.
        producers: In forward order.
        readers: In forward order.
        groups_of: Of each layer with whole groups as units: one label for each group.
        normalised: Of each layer that normalises or scales units: their labels.
        arrays: What must depend on one axis in the end, and why.
        heads: Labels of units that are attention heads.
        attributes: Labels of parameters that forward itself uses, by name.
        unknown: Layers no rule is known for, and that.
        names: The first name of each parameter and buffer, by identity.
    """

    module: fx.GraphModule
    classes: Classes = field(default_factory=Classes)
    labels: dict[fx.Node, Labels] = field(default_factory=dict)
    weights: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    producers: dict[str, Producer] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    groups_of: dict[str, Tensor] = field(default_factory=dict)
    normalised: dict[str, Tensor] = field(default_factory=dict)
    arrays: list[tuple[Tensor, str]] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    attributes: dict[str, Tensor] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in named_weights(self.module):
            self.names.setdefault(id(tensor), name)

    def bind(self, weight: Tensor | None, axis: int, labels: Tensor) -> None:
        """Say which unit each place along an axis of a weight belongs to."""
        if weight is None:
            return
        axes = self.weights.setdefault(self.names[id(weight)], {})
        known = axes.setdefault(axis, labels)
        self.classes.join(known, labels, f"{self.names[id(weight)]} is shared with fixed units")

    def produce(self, name: str, layer: str, kind: str, count: int) -> Tensor:
        """Fresh labels for a layer's units, the same ones when the layer is called again."""
        made = self.producers.get(name)
        if made is None:
            labels = self.classes.fresh(count)
            made = Producer(name=name, layer=layer, kind=kind, labels=labels)
            self.producers[name] = made
        return made.labels

    def read(self, node: fx.Node, place: int, axis: int, reason: str) -> Tensor:
        """The label at each place of an input's axis, along which a layer mixes."""
        source = node.args[place]
        assert isinstance(source, fx.Node)
        labels = self.labels[source]
        assert isinstance(labels, Tensor)
        axis %= labels.ndim
        row = self.classes.along(labels, axis, reason)
        self.readers.append(Reader(node=node, place=place, axis=axis, labels=row))
        return row

    def pin(self, labels: Labels, reason: str) -> None:
        """Fix all classes of a result."""
        if isinstance(labels, Tensor):
            self.classes.pin(labels, reason)
        elif labels is not None:
            for part in labels:
                self.pin(part, reason)

    def settle(self) -> None:
        """Make every result a dense array whatever classes are removed."""
        self.classes.settle(self.arrays)


@final
class _LabelRun(fx.Interpreter):  # type: ignore[misc]
    """Runs the network on the example and, node by node, the rules on labels."""

    def __init__(self, analysis: Analysis, rule: Callable[..., Labels]) -> None:
        super().__init__(analysis.module)
        self._analysis = analysis
        self._rule = rule

    def run_node(self, n: fx.Node) -> Any:
        """One node's result; its labels go into the analysis."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        result = super().run_node(n)
        self._analysis.labels[n] = self._rule(self._analysis, n, args, kwargs, result)
        return result


def run_on_labels(
    analysis: Analysis, inputs: tuple[Tensor, ...], rule: Callable[..., Labels]
) -> None:
    """Fill an analysis.

    Args:
        analysis: Of the traced network, as it runs when it does not train.
        inputs: The example.
        rule: Labels of a node's result from the analysis, the node, its arguments and result.
    """
    with torch.no_grad():
        _LabelRun(analysis, rule).run(*inputs)
    analysis.settle()


def fixed_like(result: Any) -> Labels:
    """Labels of a result no part of which can be removed."""
    if isinstance(result, Tensor):
        return torch.full(result.shape, FIXED, dtype=torch.int64)
    if isinstance(result, tuple | list) and not isinstance(result, torch.Size):
        parts = tuple(fixed_like(part) for part in result)
        return parts if any(part is not None for part in parts) else None
    return None


def spread(row: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Labels of a result that depend on one axis only.

    Example:
        >>> spread(torch.tensor([4, 5]), torch.Size([1, 2, 2]), 1).tolist()
        [[[4, 4], [5, 5]]]
    """
    sizes = [1] * len(shape)
    sizes[axis] = len(row)
    return row.reshape(sizes).expand(shape).clone()


def named_weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers with every name they have."""
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
