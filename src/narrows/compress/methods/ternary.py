"""Ternary weights: −α, 0 and +α, from real ones that learn."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.weight_layers import hold_zeros_, refuse_not_finite, weight_layers
from narrows.compress.weight_maps import WeightMap, bake, put_map_, straight_through
from narrows.errors import ConfigError
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TernaryWeights(Method):
    """Train real weights by the gradients of ternary ones.

        Δ = 0.7 · mean |W|,   W_t = α · sign(W) where |W| > Δ, else 0
        α = mean |W| over |W| > Δ

    which is near the ternary weight nearest to W. Δ and α are taken anew whenever the weight is
    used, forwards and backwards; the gradient by W_t goes to W as it is. A weight that an earlier
    method pruned stays zero and counts in neither mean.

    Args:
        training: The one training it takes, from the network as it is.
        per: Δ and α of each "layer", as in the paper, or of each "channel" (output) of it.
        factor: 0.7, of Δ.
        skip: Names of layers that stay real (`weight_layers` says them).

    Example:
        >>> ternary = TernaryWeights(training=TrainSettings(epochs=20, learning_rate=0.01))

    Reference:
        Li, Zhang, Liu, "Ternary Weight Networks", 2016, arXiv 1605.04711, section 2. Departs from
        the paper: Δ and α of each channel can be asked for, and what was pruned stays zero.
    """

    name: ClassVar[str] = "ternary"
    training: TrainSettings
    per: Literal["layer", "channel"] = "layer"
    factor: float = 0.7
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.per not in ("layer", "channel"):
            msg = f"per is {self.per!r}: expected layer or channel"
            raise ConfigError(msg)
        if not 0 <= self.factor < math.inf:
            msg = f"factor is {self.factor}: expected a number from 0 on"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with ternary weights."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        refuse_not_finite(model)
        claim_folder(folder, self, task.model)
        hold_zeros_(model)
        for layer in layers:
            made = TernaryWeight(per_channel=self.per == "channel", factor=self.factor)
            put_map_(model.get_submodule(layer.module), layer.weight, made)
        trained = train(
            replace(task, model=model),
            self.training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "ternary weights", self.training.epochs),
        )
        return bake(trained.model).eval()


@final
class TernaryWeight(WeightMap):
    """W → −α, 0 or +α; the gradient by the ternary weight goes to W as it is.

    Args:
        per_channel: Whether each output has its own Δ and α.
        factor: Of Δ.
    """

    def __init__(self, *, per_channel: bool, factor: float) -> None:
        super().__init__()
        self.per_channel, self.factor = per_channel, factor

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with three values."""
        size = weight.detach().abs()
        kept = size > self.factor * self._mean(size, size > 0)
        alpha = self._mean(size, kept)
        used = torch.where(kept, weight.detach().sign() * alpha, 0.0).to(weight.dtype)
        return straight_through(weight, used)

    def _mean(self, size: Tensor, counted: Tensor) -> Tensor:
        """Over the layer or each of its channels, of what is counted; 0 of nothing."""
        axes = tuple(range(1 if self.per_channel else 0, size.ndim))
        count = counted.sum(axes, keepdim=True).clamp(min=1)
        return size.masked_fill(~counted, 0.0).sum(axes, keepdim=True) / count
