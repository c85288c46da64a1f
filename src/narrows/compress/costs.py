"""What units cost: parameters or multiply-accumulates, of a whole network and of what is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from narrows.compress.analysis import named_weights
from narrows.compress.attention import ReducedAttention
from narrows.compress.tracing import Example, as_inputs
from narrows.compress.units import Found
from narrows.errors import ModelError

Counted = Literal["parameters", "macs"]
Cost = Literal["parameters", "macs", "latency"]
COSTS: Final = ("parameters", "macs", "latency")
_WEIGHING: Final = (_ConvNd, nn.Linear, nn.RNNBase, nn.MultiheadAttention, ReducedAttention)


class Costs(ABC):
    """What a network costs with some of its units only."""

    @abstractmethod
    def left(self, keep: Mapping[str, Tensor]) -> float:
        """Share (0–1) of the whole cost that is left.

        Args:
            keep: Group to whether each unit stays (n,), bool; of other groups all stay.
        """


@final
class UnitCosts(Costs):
    """The cost of a network, for any choice of the units that stay, without making it smaller.

    A tensor costs what its elements cost, and shrinks along each axis with the units that lie
    there.

    Args:
        model: The network that was analysed.
        found: Its units.
        example: An input, or a tuple of them.
        cost: "parameters" counts all of them. "macs" counts the multiply-accumulates of
            convolutions, linear and recurrent layers for one sample: each weight as often as it
            is used.
        whole: The cost that shares are of; by default this network's.

    Raises:
        ModelError: Nothing in the network costs anything.
    """

    def __init__(
        self,
        model: nn.Module,
        found: Found,
        example: Example,
        cost: Counted,
        *,
        whole: float | None = None,
    ) -> None:
        factors = {"": 1.0} if cost == "parameters" else _uses(model, as_inputs(example))
        self._terms = list(_terms(model, found, factors))
        self.whole = self.of({}) if whole is None else whole
        if self.whole <= 0:
            msg = f"{type(model).__name__} has no {cost}: there is nothing to make smaller"
            raise ModelError(msg)

    def of(self, keep: Mapping[str, Tensor]) -> float:
        """The cost with some units only.

        Args:
            keep: Group to whether each unit stays (n,), bool; of other groups all stay.
        """
        total = 0.0
        for factor, fixed, axes in self._terms:
            size = factor
            for axis, length in enumerate(fixed):
                size *= length + sum(
                    float(counts @ keep[group].to(counts)) if group in keep else float(counts.sum())
                    for group, counts in axes.get(axis, ())
                )
            total += size
        return total

    def left(self, keep: Mapping[str, Tensor]) -> float:
        """Share (0–1) of the whole cost that is left with some units only."""
        return self.of(keep) / self.whole


_Term = tuple[float, tuple[int, ...], dict[int, list[tuple[str, Tensor]]]]


def _terms(model: nn.Module, found: Found, factors: Mapping[str, float]) -> list[_Term]:
    """Of each parameter: cost of an element, fixed places along each axis, units along each axis.

    The units of an axis are, by group, how many of its places belong to each unit.
    """
    made: list[_Term] = []
    seen: set[int] = set()
    for name, tensor in named_weights(model):
        factor = factors.get("", factors.get(name, 0.0))
        if id(tensor) in seen or not isinstance(tensor, nn.Parameter) or not factor:
            continue
        seen.add(id(tensor))
        fixed, axes = list(tensor.shape), {}
        for axis, labels in found.analysis.weights.get(name, {}).items():
            classes = found.analysis.classes.of(labels)
            axes[axis] = [
                (group, counts)
                for group, members in found.members.items()
                if float((counts := _counts(classes, members)).sum())
            ]
            fixed[axis] -= int(sum(float(counts.sum()) for _, counts in axes[axis]))
        made.append((factor, tuple(fixed), axes))
    return made


def _counts(classes: Tensor, members: Tensor) -> Tensor:
    return (classes[:, None] == members[None]).sum(0).double()


def _uses(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """How often each weight multiplies for one sample, by the weight's name."""
    uses: dict[str, float] = {}
    samples = inputs[0].shape[0]

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, given: tuple[Tensor, ...], result: object) -> None:
            count = _places(layer, given[0], result) / samples
            whole = isinstance(layer, nn.MultiheadAttention)  # its inner layer is never called
            for part, tensor in layer.named_parameters(recurse=whole):
                if tensor.ndim > 1:
                    key = f"{name}.{part}" if name else part
                    uses[key] = uses.get(key, 0.0) + count

        handles.append(layer.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in model.named_modules():
        if isinstance(layer, _WEIGHING):
            watch(name, layer)
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return uses


def _places(layer: nn.Module, given: Tensor, result: object) -> float:
    """At how many places, over all samples, a layer's weights are applied."""
    if isinstance(layer, _ConvTransposeNd):
        return float(given.numel() / layer.in_channels)
    if isinstance(layer, _ConvNd):
        assert isinstance(result, Tensor)
        return float(result.numel() / layer.out_channels)
    return float(given.numel() / given.shape[-1])
