"""How a network is trained: the optimiser, its learning rate over time, precision and stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from narrows.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What one training does, apart from its data, model and loss.

    Args:
        epochs: Passes over the fit set.
        optimizer: "sgd" (Nesterov momentum), "adamw", or "shift_adamax", whose rates and
            divisions are shifts (`narrows.train.shift_adamax`) and which takes no weight decay.
        learning_rate: The highest of the schedule.
        momentum: Of SGD.
        weight_decay: On tensors of two or more axes; biases and normalisation are left alone.
        schedule: "cosine" rises over `warmup` and then falls to 0; "exponential" falls by the same
            share in every step, to `final_rate`; "constant" only rises.
        final_rate: The learning rate at the end of an exponential schedule; None with others.
        warmup: Share of all steps over which the learning rate rises.
        clip_norm: Longest gradient, or None for any.
        patience: Stop after this many epochs without a better score on choose; None never stops.
        best_from: Number of the first epoch that can be the best, for methods that are still
            changing the network before it.
        precision: "auto" is "bf16" on a GPU that has it and "f32" elsewhere. "bf16" is mixed:
            weights and sums stay in f32. On a processor with AMX dense convolutions gain most;
            those of a shape that it computes wrongly stay in f32 (`narrows.train.precision`).
        seed: Of weights drawn anew, dropout and whatever else the model draws.

    Example:
        >>> settings = TrainSettings(epochs=10, learning_rate=0.1, warmup=0.2)
        >>> [round(settings.rate_at(share), 3) for share in (0.1, 0.2, 0.6, 1.0)]
        [0.05, 0.1, 0.05, 0.0]
    """

    epochs: int
    optimizer: Literal["sgd", "adamw", "shift_adamax"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    final_rate: float | None = None
    warmup: float = 0.1
    clip_norm: float | None = None
    patience: int | None = None
    best_from: int = 1
    precision: Literal["auto", "f32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            ConfigError: A value is out of its range.
        """
        positive = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        positive |= {"patience": 1 if self.patience is None else self.patience}
        positive |= {"clip_norm": 1.0 if self.clip_norm is None else self.clip_norm}
        for name, value in positive.items():
            if not value > 0:
                msg = f"{name} is {value}: expected more than 0"
                raise ConfigError(msg)
        if not 1 <= self.best_from <= self.epochs:
            msg = f"best_from is {self.best_from}: expected an epoch from 1 to {self.epochs}"
            raise ConfigError(msg)
        for name, value in (("warmup", self.warmup), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                msg = f"{name} is {value}: expected a share from 0 to below 1"
                raise ConfigError(msg)
        known = {
            "optimizer": ("sgd", "adamw", "shift_adamax"),
            "schedule": ("cosine", "exponential", "constant"),
            "precision": ("auto", "f32", "bf16"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                msg = f"{name} is {getattr(self, name)!r}: expected one of {', '.join(values)}"
                raise ConfigError(msg)
        if (self.final_rate is not None) != (self.schedule == "exponential"):
            msg = f"final_rate is {self.final_rate} and schedule {self.schedule!r}: an exponential "
            raise ConfigError(msg + "schedule takes a final_rate, and no other does")
        if self.final_rate is not None and not 0 < self.final_rate <= self.learning_rate:
            msg = f"final_rate is {self.final_rate}: expected from above 0 to learning_rate"
            raise ConfigError(f"{msg}, {self.learning_rate}")
        if self.optimizer == "shift_adamax" and self.weight_decay:
            msg = f"weight_decay is {self.weight_decay}: shift_adamax takes none, set it to 0"
            raise ConfigError(msg)

    def rate_at(self, share: float) -> float:
        """The learning rate once a share (0–1) of all steps is done."""
        if share < self.warmup:
            return self.learning_rate * share / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        through = (share - self.warmup) / (1 - self.warmup)
        if self.final_rate is not None:
            return float(self.learning_rate * (self.final_rate / self.learning_rate) ** through)
        return self.learning_rate * (1 + math.cos(math.pi * through)) / 2

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all parameters that are trained."""
        import torch

        from narrows.train.shift_adamax import ShiftAdaMax

        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        if self.optimizer == "shift_adamax":
            return ShiftAdaMax(groups, lr=self.learning_rate)
        nesterov = self.momentum > 0
        return torch.optim.SGD(
            groups, lr=self.learning_rate, momentum=self.momentum, nesterov=nesterov
        )
