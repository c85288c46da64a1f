"""BinaryConnect: weights of two values forwards and backwards, and real ones that learn."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, final

from torch import nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.binary_weights import (
    Init,
    LossName,
    check_settings,
    choose_loss,
    clip_steps_,
    drawn_loss,
    put_binary_,
)
from narrows.compress.weight_layers import refuse_not_finite, weight_layers
from narrows.compress.weight_maps import bake
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryConnect(Method):
    """Train real weights by the gradients of binary ones.

    Each step uses a binary weight, forwards and backwards, and moves the real one:

        w_b = +H where w >= 0, else −H                               deterministic
        w_b = +H with probability clip((w / H + 1) / 2, 0, 1)        stochastic
        w <- clip(w + s · (w' − w), −H, H)                           w' after the optimiser's step
        s = 1 / sqrt(1.5 / (fan_in + fan_out)), squared for SGD

    The deterministic result has weights ±H. The stochastic one has the real weights, as the paper
    tests it: there the signs were noise to learn by, and nothing is smaller. A weight that an
    earlier method pruned stays zero, so that a pruned layer has three values, −H, 0 and +H. Biases
    and normalisation are trained as ever.

    Args:
        training: The one training it takes. The paper has no weight decay, and learning rates that
            fall exponentially.
        signs: "deterministic", or "stochastic".
        bound: H.
        init: "uniform" draws the weights from [−H, H] as the paper does, by the seed of
            `training`; "given" begins with the network's own, clipped.
        loss: Of the labels: "squared_hinge" as in the paper, or the task's own ("task"). Where the
            task is `taught`, the teacher's answers are learned beside either.
        scale_steps: Whether steps are made longer by s.
        skip: Names of layers that stay real (`weight_layers` says them).

    Example:
        >>> settings = TrainSettings(
        ...     epochs=100, optimizer="adamw", learning_rate=3e-3, weight_decay=0.0, warmup=0.0,
        ...     schedule="exponential", final_rate=3e-6,
        ... )
        >>> binary = BinaryConnect(training=settings)

    Reference:
        Courbariaux, Bengio, David, "BinaryConnect: Training Deep Neural Networks with binary
        weights during propagations", NIPS 2015, arXiv 1511.00363, section 2 and algorithm 1; s as
        in the authors' code. Departs from the paper: what was pruned stays zero.
    """

    name: ClassVar[str] = "binaryconnect"
    training: TrainSettings
    signs: Literal["deterministic", "stochastic"] = "deterministic"
    bound: float = 1.0
    init: Init = "uniform"
    loss: LossName = "squared_hinge"
    scale_steps: bool = True
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        check_settings(
            bound=self.bound,
            signs=(self.signs, ("deterministic", "stochastic")),
            init=(self.init, ("uniform", "given")),
            loss=(self.loss, ("squared_hinge", "task")),
        )

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with binary weights, or with the real ones behind stochastic signs."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        refuse_not_finite(model)
        claim_folder(folder, self, task.model)
        put_binary_(
            model,
            layers,
            bound=self.bound,
            stochastic=self.signs == "stochastic",
            init=self.init,
            seed=self.training.seed,
        )
        loss = partial(drawn_loss, choose_loss(self.loss, task.loss))
        trained = train(
            replace(task, model=model, loss=loss),
            self.training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "BinaryConnect", self.training.epochs),
            prepare=partial(clip_steps_, scaled=self.scale_steps),
        )
        return bake(trained.model).eval()
