"""Weights used as ±H: how they are made so, drawn anew, stepped and clipped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from narrows.compress.binary_layers import drawn_signs, signs
from narrows.compress.teaching import TaughtLoss
from narrows.compress.weight_layers import WeightLayer, masks_of_pruned
from narrows.compress.weight_maps import Mask, WeightMap, maps_in, put_map_, straight_through
from narrows.errors import ConfigError
from narrows.train.task import Loss, squared_hinge

Init = Literal["uniform", "given"]
LossName = Literal["squared_hinge", "task"]


@final
class BinaryWeight(WeightMap):
    """W → ±H; the gradient by the binary weight goes to W as it is.

        deterministic  +H where W >= 0, else −H
        stochastic     +H with a probability of clip((W / H + 1) / 2, 0, 1), else −H

    When it does not train, a stochastic one gives W itself, which is what the paper tests with.

    Args:
        shape: Of the weight.
        bound: H.
        stochastic: Draw the sign; `draw_` does it, once for each step.
    """

    chance: Tensor

    def __init__(self, shape: torch.Size, *, bound: float, stochastic: bool) -> None:
        super().__init__()
        self.bound, self.stochastic = bound, stochastic
        # Drawn before it is used, so that no checkpoint has to hold it.
        numbers = torch.zeros(shape if stochastic else ())
        self.register_buffer("chance", numbers, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with two values, or as it is."""
        if self.stochastic and not self.training:
            return weight
        share = weight.detach() / self.bound
        used = drawn_signs(share, self.chance) if self.stochastic else signs(share)
        return straight_through(weight, used.mul_(self.bound))

    def draw_(self) -> None:
        """Draw anew which weights are positive."""
        if self.stochastic:
            self.chance.uniform_()


def rate_scale(shape: Sequence[int]) -> float:
    """What steps of a binary weight are multiplied by: 1 / sqrt(1.5 / (fan_in + fan_out)).

    Args:
        shape: Of the weight: (outputs, inputs, ...), window last.

    Example:
        >>> shapes = ((4096, 784), (4096, 4096), (128, 128, 3, 3))
        >>> [round(rate_scale(shape)) for shape in shapes]
        [57, 74, 39]
    """
    return math.sqrt((shape[0] + shape[1]) * math.prod(shape[2:]) / 1.5)


def put_binary_(
    model: nn.Module,
    layers: Sequence[WeightLayer],
    *,
    bound: float,
    stochastic: bool,
    init: Init,
    seed: int,
) -> None:
    """Let layers use binary weights; what an earlier method pruned stays zero, in all layers.

    Args:
        model: Changed in place.
        layers: Those that become binary.
        bound: H.
        stochastic: As of `BinaryWeight`.
        init: "uniform" draws W from [−H, H], "given" clips what is there to it.
        seed: Of what is drawn.
    """
    pruned = masks_of_pruned(model)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        owner = model.get_submodule(layer.module)
        weight = owner.get_parameter(layer.weight)
        with torch.no_grad():
            if init == "uniform":
                drawn = torch.rand(weight.shape, generator=generator)
                weight.copy_((2 * drawn - 1) * bound)
            weight.clamp_(-bound, bound)
        made = BinaryWeight(weight.shape, bound=bound, stochastic=stochastic)
        put_map_(owner, layer.weight, made.to(weight.device))
    for layer, mask in pruned:
        put_map_(model.get_submodule(layer.module), layer.weight, Mask(mask))


def clip_steps_(model: nn.Module, optimizer: torch.optim.Optimizer, *, scaled: bool) -> None:
    """Make every step of binary weights longer, and clip what it gives.

        W <- clip(W + s · (W' − W), −H, H),   W' where the optimiser's own step leads

    s is `rate_scale`, its square for SGD.

    Args:
        model: With binary weights.
        optimizer: Whose steps are changed from now on.
        scaled: Whether steps are made longer; else s is 1.
    """
    weights: list[Tensor] = []
    bounds: list[float] = []
    for owner, tensor, made in maps_in(model):
        if isinstance(made, BinaryWeight):
            weights.append(owner.parametrizations[tensor].original)
            bounds.append(made.bound)
    power = 2 if isinstance(optimizer, torch.optim.SGD) else 1
    scales = [rate_scale(weight.shape) ** power if scaled else 1.0 for weight in weights]
    before: list[Tensor] = []

    def remember(*_: Any) -> None:
        before[:] = [weight.detach().clone() for weight in weights] if scaled else []

    def move(*_: Any) -> None:
        with torch.no_grad():
            for place, (weight, bound) in enumerate(zip(weights, bounds, strict=True)):
                if scaled:
                    weight.sub_(before[place]).mul_(scales[place]).add_(before[place])
                weight.clamp_(-bound, bound)
        before.clear()

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(move)


def drawn_loss(loss: Loss, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A loss after binary weights were drawn anew; training asks for it once a step."""
    for _, _, made in maps_in(model):
        if isinstance(made, BinaryWeight):
            made.draw_()
    return loss(model, x, y)


def choose_loss(name: LossName, loss: Loss) -> Loss:
    """The paper's loss, or the task's own; where a teacher is learned from, it stays.

    Args:
        name: "squared_hinge" or "task".
        loss: The task's. Of a `TaughtLoss` the loss of the labels becomes the paper's.
    """
    if name == "task":
        return loss
    if isinstance(loss, TaughtLoss):
        return replace(loss, loss=choose_loss(name, loss.loss))
    return squared_hinge


def check_settings(*, bound: float = 1.0, **words: tuple[str, tuple[str, ...]]) -> None:
    """Refuse settings of a binary method that have no meaning.

    Args:
        bound: H.
        words: Setting to its value and the values it may have.

    Raises:
        ConfigError: One is out of its range.
    """
    if not 0 < bound < math.inf:
        msg = f"bound is {bound}: expected more than 0"
        raise ConfigError(msg)
    for name, (word, allowed) in words.items():
        if word not in allowed:
            msg = f"{name} is {word!r}: expected one of {', '.join(allowed)}"
            raise ConfigError(msg)
