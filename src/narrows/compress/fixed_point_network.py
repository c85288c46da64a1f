"""A network whose numbers all lie on fixed-point grids, forwards, backwards and between steps.

    x ──Convert──► a ──W a + b, exact──► Convert ──► a' ──► …                 activations
                   δ ◄──────── Convert ◄──Wᵀ δ, exact──── δ' ◄── …            gradients
    g = Convert(Σ δ aᵀ / n),   W <- Convert(W - η g)                          once a step

Weights, activations and gradients are whole multiples of their steps, held in float64, in which a
product sum over 53 bits is exact: so each sum is converted once, as an accumulator of double width
would be. There are no other weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor, fx, nn

from narrows.coding.quantizers import FixedPoint
from narrows.compress.call_names import MOVING
from narrows.compress.fixed_point_formats import FixedPointFormats, Rounding, Seen, larger
from narrows.compress.node_by_node import called, kind_of, layer_of, run_nodes
from narrows.compress.weight_layers import refuse_empty
from narrows.errors import ConfigError, ModelError

_KEEPING: Final = """
    placeholder get_attr output Identity Flatten Unflatten ReLU MaxPool1d MaxPool2d MaxPool3d
    AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d ZeroPad1d ZeroPad2d ZeroPad3d
    relu relu_ maximum max_pool1d max_pool2d max_pool3d contiguous size dim numel floordiv
"""
_LEAVING: Final = """
    AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
    Dropout Dropout1d Dropout2d Dropout3d ReLU6 Hardtanh
    add add_ iadd sub mul mean sum dropout relu6 hardtanh
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
"""
# What these give for numbers of a grid are numbers of the grid; what the others give is converted.
# Constants and what is filled up with them lie on no grid.
_EXACT: Final = frozenset(_KEEPING.split()) | MOVING
_CONSTANT: Final = "get_attr"
_FILLED: Final = "pad"
_WEIGHTED: Final = frozenset(("Linear", "Conv1d", "Conv2d", "Conv3d"))
_CONVERTED: Final = _WEIGHTED | frozenset(_LEAVING.split())
_EXACT_BITS: Final = 53  # of float64
_AT_ONCE: Final = 2**14  # numbers that stay in the processor's cache


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """The grid of everything, by the name of a call or of a parameter.

    Args:
        answers: Of calls.
        errors: Of the gradients of their answers.
        weights: Of parameters.
        gradients: Of their gradients.
    """

    answers: Mapping[str, FixedPoint]
    errors: Mapping[str, FixedPoint]
    weights: Mapping[str, FixedPoint]
    gradients: Mapping[str, FixedPoint]


def grids_of(
    network: FixedPointNetwork, formats: FixedPointFormats, seen: Seen, rounding: Rounding
) -> Grids:
    """The grids of a network's numbers.

    Args:
        network: Its calls and parameters are meant.
        formats: Of each kind of number.
        seen: Largest magnitudes; where it says nothing they are taken for 0.
        rounding: Of all.
    """

    def grid(kind: str, name: str, largest: Mapping[str, float]) -> FixedPoint:
        return formats.grid(kind, seen=largest.get(name, 0.0), rounding=rounding)

    kinds = {n: "weights" if p.ndim > 1 else "biases" for n, p in network.named_parameters()}
    return Grids(
        answers={name: grid("activations", name, seen.answers) for name in network.places},
        errors={name: grid("gradients", name, seen.errors) for name in network.places},
        weights={name: grid(kind, name, seen.weights) for name, kind in kinds.items()},
        gradients={name: grid("gradients", name, seen.gradients) for name in kinds},
    )


@final
class FixedPointNetwork(nn.Module):  # type: ignore[misc]
    """The arithmetic around a traced network; without grids it computes in float64 and watches.

    When it trains it rounds as its grids say; else it rounds to the nearest, so that it answers the
    same again.

    Args:
        traced: Of linear and convolutional layers, rectifiers, pooling, dropout and additions.

    Raises:
        ModelError: There is something else in it, or a weight is empty or not finite.
    """

    step: Tensor

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = _checked(traced).double()
        self.places = tuple(node.name for node in traced.graph.nodes if _is_converted(traced, node))
        # For each step from which they hold, ascending.
        self.grids: tuple[tuple[int, Grids], ...] = ()
        self.answers: dict[str, float] = {}
        self.errors: dict[str, float] = {}
        self.samples = 1
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers, in float32."""
        self.samples = len(x)
        answer: Tensor = _Answer.apply(
            run_nodes(self.traced, x.double().contiguous(), self._after), self
        )
        return answer

    @property
    def now(self) -> Grids | None:
        """The grids of this step."""
        return next((grids for first, grids in self.grids[::-1] if first <= int(self.step)), None)

    def hook_into_(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep gradients, velocities and weights on their grids in every step from now on."""
        for value in self.parameters():
            # float64 has no convolutions with channels last: each would copy all it reads.
            value.data = value.data.contiguous()
        optimizer.register_step_pre_hook(lambda *_: self._before_step_())
        optimizer.register_step_post_hook(lambda *_: self._after_step_(optimizer))
        self.round_weights_(drawn=False)

    def round_weights_(self, *, drawn: bool) -> None:
        """Put the weights on their grids, in place."""
        grids = self.now
        assert grids is not None
        with torch.no_grad():
            for name, value in self.named_parameters():
                value.copy_(converted(value, grids.weights[name], drawn=drawn))

    def _after(self, node: fx.Node, value: Tensor) -> Tensor:
        if node.name not in self.places or not value.is_floating_point():
            return value
        answer: Tensor = _OnGrid.apply(value, self, node.name)
        return answer

    def _before_step_(self) -> None:
        grids = self.now
        assert grids is not None
        for name, value in self.named_parameters():
            if value.grad is not None:
                mean = value.grad / self.samples
                value.grad.copy_(converted(mean, grids.gradients[name], drawn=True))

    def _after_step_(self, optimizer: torch.optim.Optimizer) -> None:
        # The weights before were on the grid, so that rounding them now rounds the update alone.
        self.step += 1
        self.round_weights_(drawn=True)
        grids = self.now
        assert grids is not None
        for name, value in self.named_parameters():
            velocity = optimizer.state[value].get("momentum_buffer")
            if velocity is not None:
                velocity.copy_(converted(velocity, grids.gradients[name], drawn=True))


def converted(x: Tensor, grid: FixedPoint, *, drawn: bool) -> Tensor:
    """A tensor on a grid, in parts that fit into a cache.

    Args:
        x: In float64.
        grid: Where it is stochastic, torch's own generator draws.
        drawn: Else it is rounded to the nearest.
    """
    grid = grid if drawn else replace(grid, rounding="nearest")
    given = x.detach().contiguous()
    made = torch.empty_like(given)
    for part, out in zip(
        given.view(-1).split(_AT_ONCE), made.view(-1).split(_AT_ONCE), strict=True
    ):
        noise = torch.rand(part.shape, device=x.device) if grid.stochastic else None
        out.copy_(grid.convert(part, noise=noise))
    return made


def check_exact(traced: fx.GraphModule, formats: FixedPointFormats) -> None:
    """See that float64 holds every product sum over a layer's inputs or outputs exactly.

    A gradient of weights sums over samples and positions besides; what of it is beyond 53 bits is
    lost, which is far below any step.

    Raises:
        ConfigError: It does not hold one; the message names the layer.
    """
    weight = formats.word_bits("weights")
    for node in traced.graph.nodes:
        if kind_of(traced, node) not in _WEIGHTED:
            continue
        shape = layer_of(traced, node).weight.shape
        for kind, count in (("activations", shape[1:].numel()), ("gradients", shape.numel())):
            needed = formats.word_bits(kind) + weight + (count - 1).bit_length()
            if needed > _EXACT_BITS:
                msg = (
                    f"sums of {count} products in {called(traced, node)} need {needed} bits: "
                    f"expected at most {_EXACT_BITS}, take shorter words"
                )
                raise ConfigError(msg)


def _checked(traced: fx.GraphModule) -> fx.GraphModule:
    for node in traced.graph.nodes:
        if kind_of(traced, node) not in _EXACT | _CONVERTED | {_FILLED}:
            msg = (
                f"{called(traced, node)} is not known in fixed point: expected linear and "
                "convolutional layers, rectifiers, pooling, dropout and additions"
            )
            raise ModelError(msg)
    layers = [node for node in traced.graph.nodes if kind_of(traced, node) in _WEIGHTED]
    if not layers:
        msg = "there is no linear or convolutional layer to train in fixed point"
        raise ModelError(msg)
    for node in layers:
        refuse_empty(str(node.target), layer_of(traced, node).weight)
    for name, value in traced.named_parameters():
        if not bool(value.isfinite().all()):
            msg = f"{name!r} is not finite throughout: train the network again"
            raise ModelError(msg)
    return traced


def _is_converted(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether what a node gives for numbers of a grid is no number of one."""
    kind = kind_of(traced, node)
    if kind == _FILLED:
        return not _fills_zeros(node)
    if kind == _CONSTANT:
        # What is added up is converted as a sum.
        return any(kind_of(traced, user) in _EXACT | {_FILLED} for user in node.users)
    return kind == "placeholder" or kind in _CONVERTED


def _fills_zeros(node: fx.Node) -> bool:
    """Whether padding takes zeros, or numbers that are there already."""
    given = dict(zip(("mode", "value"), node.args[2:], strict=False)) | node.kwargs
    return given.get("mode", "constant") != "constant" or given.get("value") in (None, 0)


class _OnGrid(torch.autograd.Function):  # type: ignore[misc]
    """Converts a call's answer, and the gradient that comes back for it.

    Saturation is a clip, whose gradient is zero beyond the ends: if gradients passed it, answers
    would be pushed ever further beyond, and with ends of 2 networks do not learn.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: FixedPointNetwork, name: str) -> Tensor:
        """The answer on its grid."""
        ctx.network, ctx.name = network, name
        grids = network.now
        if grids is None:
            _note(network.answers, name, x)
            return x.clone()
        if ctx.needs_input_grad[0]:
            low, high = grids.answers[name].ends
            ctx.save_for_backward((low <= x) & (x <= high))
        return converted(x, grids.answers[name], drawn=network.training)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient on its grid, and zero where the answer was at an end of its own."""
        grids = ctx.network.now
        if grids is None:
            _note(ctx.network.errors, ctx.name, gradient)
            return gradient, None, None
        (inside,) = ctx.saved_tensors
        return converted(gradient * inside, grids.errors[ctx.name], drawn=True), None, None


class _Answer(torch.autograd.Function):  # type: ignore[misc]
    """The answer in float32; backwards each sample's own gradient, not its share of the mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: FixedPointNetwork) -> Tensor:
        """The same numbers."""
        ctx.samples = network.samples
        return x.float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Times the number of samples."""
        return gradient.double() * ctx.samples, None


def _note(seen: dict[str, float], name: str, x: Tensor) -> None:
    largest = float(x.detach().abs().max()) if x.numel() else 0.0
    seen[name] = larger(seen.get(name, 0.0), largest)
