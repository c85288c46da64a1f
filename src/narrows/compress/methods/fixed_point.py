"""Training in fixed point: every number on a grid of few bits, and no other weights beneath."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final, final

import torch
from torch import nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.fixed_point_formats import FixedPointFormats, Rounding, Seen, larger
from narrows.compress.fixed_point_network import FixedPointNetwork, check_exact, grids_of
from narrows.compress.node_by_node import with_weights
from narrows.compress.tracing import trace
from narrows.compress.weight_layers import hold_zeros_
from narrows.compress.weight_maps import bake
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, train

_WATCHED: Final = 8  # batches


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPointTraining(Method):
    """Train with weights, biases, activations, gradients and updates in fixed point <IL, FL>.

        z = Convert(W a + b)     δ = Convert(Wᵀ δ')     g = Convert(Σ δ aᵀ / n)
        W <- Convert(W - η g)

    Sums of products are exact and converted once. No weights are kept elsewhere: an update of less
    than half a step is lost where it is rounded to the nearest, and happens now and then where it
    is rounded stochastically. Conversions saturate, and no gradient passes what has saturated.
    Gradients of answers are each sample's own, their mean is taken with the sum over samples.
    Losses are computed in floating point. Weights that are zero, where others are not, stay so.

    The result is a plain network with its weights on their grids; `network` gives one that computes
    on the grids as well.

    Args:
        training: By "sgd", without `clip_norm`. Momentum's velocity is a gradient among others.
        rounding: "stochastic" or "nearest", of all.
        formats: Of each kind of number.
        last: Formats of the last epochs, e.g. with more bits.
        last_epochs: How many these are; the best epoch is one of them.

    Example:
        >>> method = FixedPointTraining(
        ...     training=TrainSettings(epochs=20, momentum=0.0),
        ...     formats=FixedPointFormats(weights=(2, 14), activations=(6, 10)),
        ...     last=FixedPointFormats(weights=(4, 16), activations=(6, 14), gradients=(4, 16)),
        ...     last_epochs=3,
        ... )

    Reference:
        Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep Learning with Limited Numerical Precision",
        ICML 2015, arXiv 1502.02551, sections 3 and 4. Departs from the paper: words may have their
        point placed layer by layer; the gradient of an answer that has saturated is zero;
        gradients of answers are each sample's own, n times its share of the mean; in evaluation
        all is rounded to the nearest; momentum is Nesterov's, and its velocity is rounded, too.
    """

    name: ClassVar[str] = "fixed_point"
    training: TrainSettings
    rounding: Rounding = "stochastic"
    formats: FixedPointFormats = field(default_factory=FixedPointFormats)
    last: FixedPointFormats | None = None
    last_epochs: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no fixed-point form.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.rounding not in ("nearest", "stochastic"):
            msg = f"rounding is {self.rounding!r}: expected nearest or stochastic"
            raise ConfigError(msg)
        asked = self.training
        if asked.optimizer != "sgd" or asked.clip_norm is not None or asked.precision == "bf16":
            msg = (
                f"optimizer is {asked.optimizer!r}, clip_norm {asked.clip_norm} and precision "
                f"{asked.precision!r}: fixed point takes sgd, none and f32"
            )
            raise ConfigError(msg)
        if not 0 <= self.last_epochs < asked.epochs or (self.last is None) != (
            not self.last_epochs
        ):
            msg = (
                f"last_epochs is {self.last_epochs} of {asked.epochs}, with"
                f"{'out' if self.last is None else ''} formats of the last: give both, or neither"
            )
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network as it was trained, its weights on their grids."""
        claim_folder(folder, self, task.model)
        settings = replace(self.training, precision="f32")
        if self.last_epochs:
            first = settings.epochs - self.last_epochs + 1
            settings = replace(settings, best_from=max(settings.best_from, first))
        trained = train(
            replace(task, model=self.network(task)),
            settings,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "fixed point", settings.epochs),
            prepare=FixedPointNetwork.hook_into_,
        )
        return with_weights(task.model, bake(trained.model).traced)

    def network(self, task: TrainingTask, model: nn.Module | None = None) -> FixedPointNetwork:
        """A network that computes on the grids, as this method trains it.

        Args:
            task: Where the point of a word is placed for what is seen, it is seen in this network
                and the first batches of its fit set.
            model: Where its weights are from; by default the task's.

        Raises:
            ConfigError: A sum of products is not exact.
            ModelError: There is something in the network that has no fixed-point form, what is seen
                is not finite, or the other network has not the same parameters.
        """
        traced = trace(copy.deepcopy(task.model).cpu())
        for formats in (self.formats, self.last):
            if formats is not None:
                check_exact(traced, formats)
        hold_zeros_(traced)
        made = FixedPointNetwork(traced)
        placed = any(formats.is_placed for formats in (self.formats, self.last or self.formats))
        seen = _watch(made, task) if placed else Seen()
        grids = [(0, grids_of(made, self.formats, seen, self.rounding))]
        if self.last is not None:
            first = (self.training.epochs - self.last_epochs) * len(task.fit)
            grids.append((first, grids_of(made, self.last, seen, self.rounding)))
        if model is not None:
            _take_weights_(made.traced, model)
            grids = [(0, grids[-1][1])]
        made.grids = tuple(grids)
        made.round_weights_(drawn=False)
        made.eval()
        return made


def _take_weights_(traced: nn.Module, model: nn.Module) -> None:
    """Give a traced network the parameters of another, in place."""
    given = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in traced.named_parameters():
            plain = name.replace("parametrizations.", "").removesuffix(".original")
            found = given.get(plain)
            if found is None or found.shape != value.shape:
                shape = " × ".join(map(str, value.shape))
                has = "none" if found is None else " × ".join(map(str, found.shape))
                msg = f"parameter {plain!r} is {shape} in the task's network, {has} in the other: "
                raise ModelError(msg + "give one that this method made of it")
            value.copy_(found)


def _watch(network: FixedPointNetwork, task: TrainingTask) -> Seen:
    """The largest numbers that there are in float64, over a few batches."""
    parameters = dict(network.named_parameters())
    gradients = dict.fromkeys(parameters, 0.0)
    network.eval()
    for x, y in islice(task.fit.batches(0), _WATCHED):
        network.zero_grad()
        task.loss(network, x, y).mean().backward()
        for name, value in parameters.items():
            if value.grad is not None:
                largest = float(value.grad.abs().max()) / len(x)
                gradients[name] = larger(gradients[name], largest)
    network.zero_grad()
    weights = {name: float(value.detach().abs().max()) for name, value in parameters.items()}
    return Seen(
        answers=dict(network.answers),
        errors=dict(network.errors),
        weights=weights,
        gradients=gradients,
    )
