"""Which units the input reaches, which the output depends on, and what is read of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from narrows.compress.analysis import Reader, named_weights
from narrows.compress.classes import FIXED
from narrows.compress.tracing import copy_graph
from narrows.compress.units import Found

_WEIGHING: Final = (nn.Linear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)
_BIASES: Final = ("bias_ih_l0", "bias_ih_l0_reverse")
_ROUNDING: Final = 1e-12


@final
class Flow:
    """What flows through the weights that are not zero.

    Args:
        model: The network.
        found: Its units.
    """

    def __init__(self, model: nn.Module, found: Found) -> None:
        analysis, weights = found.analysis, dict(named_weights(model))
        edges = [
            _edges(model, name, weights[name], axes, found)
            for name, axes in analysis.weights.items()
            if {0, 1} <= set(axes)
        ]
        self._edges = torch.cat([torch.zeros(0, 2, dtype=torch.int64), *edges])
        sources = [
            analysis.classes.of(producer.labels)
            for producer in analysis.producers.values()
            if producer.kind == "heads"
            or not isinstance(layer_of(model, producer.layer), _WEIGHING)
        ]
        sinks = [
            analysis.classes.of(reader.labels)
            for reader in analysis.readers
            if not isinstance(layer_of(model, _name(reader)), _WEIGHING)
        ]
        self.fed = self._reached(sources, 0)
        self.live = self._reached(sinks, 1)

    def still(self, silent: Tensor) -> Tensor:
        """Those of some classes that are reached by others of them only."""
        others = self._edges[:, 0][~torch.isin(self._edges[:, 0], silent)]
        return silent[~torch.isin(silent, self._reached([others], 0))]

    def _reached(self, roots: list[Tensor], start: int) -> Tensor:
        """The classes that edges lead to, from one of their ends, from some and what is fixed."""
        found = torch.cat([torch.tensor([FIXED]), *roots]).unique()
        while True:
            here = torch.isin(self._edges[:, start], found)
            grown = torch.cat([found, self._edges[here, 1 - start]]).unique()
            if len(grown) == len(found):
                return found
            found = grown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A place where units are read, and what was read there.

    Args:
        classes: Of each channel (c,).
        layer: Name of the layer, or "" where no layer reads.
        alone: Whether the layer reads at no other place.
        values: Of each channel, over all inputs and positions (c, n), in float64.
    """

    classes: Tensor
    layer: str
    alone: bool
    values: Tensor

    def spares(self, model: nn.Module, unit: int) -> bool:
        """Whether a unit that nothing feeds can go: zero, not weighed, or a constant for a bias."""
        places = (self.classes == unit).nonzero().reshape(-1)
        values, layer = self.values[places], layer_of(model, self.layer)
        weights = _by_input(layer)
        if weights and not any(bool(each[places % len(each)].any()) for each in weights):
            return True
        least = values[:, :1].abs().clamp(min=1)
        if not bool(((values - values[:, :1]).abs() <= _ROUNDING * least).all()):
            return False
        return not bool(values.any()) or (self.alone and _folds(layer))

    def fold_(self, model: nn.Module, gone: Tensor) -> None:
        """Put what the units that go contribute into the layer's bias, in place.

        Args:
            model: The network, or a copy of another type.
            gone: Classes, each of them spared here.
        """
        layer = layer_of(model, self.layer)
        places = torch.isin(self.classes, gone).nonzero().reshape(-1)
        if not len(places):
            return
        names = _BIASES if isinstance(layer, nn.RNNBase) else ("bias",)
        for weight, name in zip(_by_input(layer), names, strict=False):
            columns = weight[places % len(weight)].double()
            added = self.values[places, 0] @ columns.reshape(*columns.shape[:2], -1).sum(2)
            if bool(added.any()):
                before = getattr(layer, name)
                whole = added if before is None else before.detach().double() + added
                setattr(layer, name, nn.Parameter(whole.to(weight)))


def reads_of(
    model: nn.Module, found: Found, inputs: list[tuple[Tensor, ...]]
) -> tuple[list[Read], list[Any]]:
    """What each reader of a network reads, and what the network answers, for some inputs.

    Args:
        model: Copies of it are run.
        found: Its units.
        inputs: One call each.
    """
    module, origins = copy_graph(found.analysis.module, model)
    nodes = {old: new for new, old in origins.items()}
    readers = found.analysis.readers
    values: list[list[Tensor]] = [[] for _ in readers]
    answers = []
    for given in inputs:
        run = fx.Interpreter(module, garbage_collect_values=False)
        with torch.no_grad():
            answers.append(run.run(*given))
        for reader, seen in zip(readers, values, strict=True):
            value = run.env[nodes[reader.node].args[reader.place]].movedim(reader.axis, 0)
            seen.append(value.reshape(len(value), -1).double())
    calls = Counter(_name(reader) for reader in readers)
    reads = [
        Read(
            classes=found.analysis.classes.of(reader.labels),
            layer=_name(reader),
            alone=calls[_name(reader)] == 1,
            values=torch.cat(seen, 1),
        )
        for reader, seen in zip(readers, values, strict=True)
    ]
    return reads, answers


def layer_of(model: nn.Module, name: str) -> nn.Module | None:
    """The layer of a name, or None where it is a parameter's, or none."""
    try:
        return model.get_submodule(name) if name else None
    except AttributeError:
        return None


def _name(reader: Reader) -> str:
    return str(reader.node.target) if reader.node.op == "call_module" else ""


def _edges(
    model: nn.Module, name: str, weight: Tensor, axes: dict[int, Tensor], found: Found
) -> Tensor:
    """From the class of an input to that of an output (n, 2), where a weight is not zero."""
    transposed = isinstance(layer_of(model, name.rpartition(".")[0]), _ConvTransposeNd)
    into, out = (0, 1) if transposed else (1, 0)
    there = weight.detach().movedim((into, out), (0, 1)) != 0
    pairs = there.reshape(*there.shape[:2], -1).any(2).nonzero()
    sources, targets = (found.analysis.classes.of(axes[axis]) for axis in (into, out))
    return torch.stack([sources[pairs[:, 0]], targets[pairs[:, 1]]], 1).unique(dim=0)


def _by_input(layer: nn.Module | None) -> list[Tensor]:
    """The weights that a layer reads its input with, of shape (inputs, outputs, ...)."""
    if isinstance(layer, nn.RNNBase):
        names = ("weight_ih_l0", "weight_ih_l0_reverse")[: 2 if layer.bidirectional else 1]
        return [getattr(layer, name).detach().T for name in names]
    if isinstance(layer, nn.MultiheadAttention):
        return [layer.in_proj_weight.detach().T]
    if isinstance(layer, nn.Linear | _ConvNd):
        transposed = isinstance(layer, _ConvTransposeNd)
        return [layer.weight.detach().movedim(0 if transposed else 1, 0)]
    return []


def _folds(layer: nn.Module | None) -> bool:
    """Whether an input that is the same everywhere adds the same everywhere to the output."""
    if isinstance(layer, _ConvNd):
        padded = layer.padding == "same" or any(map(int, _numbers(layer.padding)))
        plain = layer.groups == 1 and not isinstance(layer, _ConvTransposeNd)
        return plain and (not padded or layer.padding_mode != "zeros")
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.RNNBase) and bool(layer.bias))


def _numbers(padding: Any) -> tuple[int, ...]:
    return () if isinstance(padding, str) else padding
