"""Dynamic network surgery: weights are pruned while training, and spliced back where they grow."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.weight_layers import WeightLayer, refuse_unknown, weight_layers
from narrows.compress.weight_maps import (
    WeightMap,
    bake,
    before_map,
    maps_in,
    put_map_,
    straight_through,
)
from narrows.errors import ConfigError
from narrows.train import TrainingTask, TrainSettings, train
from narrows.train.task import Loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SurgerySettings:
    """How one layer is pruned and spliced; the defaults are those of the authors' code.

    Args:
        c_rate: c of the threshold mu + c · sigma; negative prunes little. It decides how much is
            left: of Gaussian weights 1 prunes 79 % at once, 2 prunes 93 %, 3 prunes 98 %.
        gamma: How fast the mask settles.
        power: The exponent of that.
        iter_stop: Steps after which the mask is fixed; 0 never prunes the layer.
    """

    c_rate: float = 3.0
    gamma: float = 1e-3
    power: float = 1.0
    iter_stop: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        if not math.isfinite(self.c_rate):
            msg = f"c_rate is {self.c_rate}: expected a finite number"
            raise ConfigError(msg)
        for name in ("gamma", "power"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                msg = f"{name} is {value}: expected a number from 0 on"
                raise ConfigError(msg)

    def refresh_probability(self, step: int) -> float:
        """Of the mask, in a training step counted from 0.

        Example:
            >>> rule = SurgerySettings(gamma=1e-4)
            >>> [round(rule.refresh_probability(step), 2) for step in (0, 5_000, 10_000)]
            [1.0, 0.67, 0.0]
        """
        return (1 + self.gamma * step) ** -self.power if step < self.iter_stop else 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicNetworkSurgery(Method):
    """Train with a mask that prunes small weights and splices grown ones back.

    The network uses W · T; the gradient with respect to W · T goes to all of W, also where T = 0.
    With a probability of (1 + gamma · step)^-power a layer's mask is refreshed before a step:

        T <- 0 where |W| <= a,   1 where |W| > b,   as it was between
        m = max(mu + c · sigma, 0),   a = 0.9 m,   b = 1.1 m

    mu and sigma are mean and standard deviation of |W|, weights and biases of a layer together
    without zeros, taken at the first step and never again. Biases have masks too. A weight that is
    zero to begin with is masked to begin with, so that what an earlier method pruned stays pruned
    where `iter_stop` is 0.

    In recurrent networks (DyNS-Ext) each weight matrix, input and hidden, of every level and
    direction, is a layer of its own, with the bias that goes with it.

    Args:
        training: The one training it takes, from a trained network on. The best epoch on choose is
            chosen among those after which no mask changes any more.
        settings: Of layers that are not in `layers`. For convolutions and linear layers in runs of
            their own, as the authors do, chain two with `iter_stop` 0 for the group whose turn it
            is not.
        layers: Settings of single layers by name (`weight_layers` says them).
        skip: Layers without masks: they are trained on, and zeros in them may grow again.

    Example:
        >>> conv, linear = SurgerySettings(c_rate=1.0), SurgerySettings(c_rate=4.0)
        >>> surgery = DynamicNetworkSurgery(
        ...     training=TrainSettings(epochs=20, learning_rate=0.01),
        ...     settings=linear,
        ...     layers={"conv1": conv},
        ... )

    Reference:
        Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs", NIPS 2016, arXiv 1608.04493,
        section 3, and the authors' Caffe code for 0.9, 1.1 and the biases. DyNS-Ext: Yao et al.,
        "DeepIoT", SenSys 2017, section 5. Departs from the paper: SGD is Nesterov's, biases do not
        decay, and units without connections are left in place (`DeadUnits` removes them).
    """

    name: ClassVar[str] = "surgery"
    training: TrainSettings
    settings: SurgerySettings = SurgerySettings()
    layers: Mapping[str, SurgerySettings] = field(default_factory=dict)
    skip: tuple[str, ...] = ()

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with zeros where the masks ended up."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        refuse_unknown(tuple(self.layers), [layer.name for layer in layers])
        training = self._training([layer.name for layer in layers], len(task.fit))
        claim_folder(folder, self, task.model)
        for layer in layers:
            put_surgery_(model, layer, self.layers.get(layer.name, self.settings))
        trained = train(
            replace(task, model=model, loss=partial(_operated, task.loss)),
            training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "surgery", training.epochs),
        )
        return bake(trained.model).eval()

    def _training(self, names: list[str], steps: int) -> TrainSettings:
        """The training, with the best epoch among those whose masks are final."""
        last = max(self.layers.get(name, self.settings).iter_stop for name in names)
        if last <= 0:
            msg = "iter_stop is 0 for every layer, so nothing is pruned: raise it for some"
            raise ConfigError(msg)
        settled, asked = math.ceil(last / max(steps, 1)), self.training
        if settled > asked.epochs:
            msg = (
                f"masks settle at step {last}, and {asked.epochs} epochs have "
                f"{asked.epochs * steps} steps: train longer, or lower iter_stop"
            )
            raise ConfigError(msg)
        return replace(asked, best_from=max(asked.best_from, settled))


@final
class Spliced(WeightMap):
    """W · T, with the gradient of the product for all of W.

    Args:
        mask: T, of the weight's shape, bool.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with zeros where it is masked."""
        return straight_through(weight, weight.masked_fill(~self.mask, 0.0))

    def refresh_(self, weight: Tensor, middle: Tensor) -> None:
        """Prune what is small and splice what has grown back.

        Args:
            weight: As this map is given it, outside any gradient.
            middle: m, a scalar.
        """
        size = weight.abs()
        self.mask.copy_((self.mask & (size > 0.9 * middle)) | (size > 1.1 * middle))


@final
class Surgery(nn.Module):  # type: ignore[misc]
    """What one layer remembers: its step, mu and sigma. It is kept inside the weight's map.

    Args:
        settings: Of the layer.
        tensors: Names of its weight and bias.
    """

    step: Tensor
    mu: Tensor
    sigma: Tensor

    def __init__(self, settings: SurgerySettings, tensors: tuple[str, ...]) -> None:
        super().__init__()
        self.settings, self.tensors = settings, tensors
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mu", torch.zeros(()))
        self.register_buffer("sigma", torch.zeros(()))

    def operate_(self, owner: nn.Module) -> None:
        """Before a training step: see to the masks, and count it."""
        step = int(self.step)
        pairs = [(_spliced(owner, tensor), tensor) for tensor in self.tensors]
        parts = [(made, before_map(owner, tensor, made).detach()) for made, tensor in pairs]
        if step == 0:
            used = torch.cat([value[made.mask].flatten() for made, value in parts]).abs()
            used = used[used > 0]
            if used.numel():
                self.mu.copy_(used.mean())
                self.sigma.copy_(used.std(correction=0))
        # Drawn in every step, so that the settings of one layer do not shift another's draws.
        if float(torch.rand(())) < self.settings.refresh_probability(step):
            middle = (self.mu + self.settings.c_rate * self.sigma).clamp(min=0)
            for made, value in parts:
                made.refresh_(value, middle)
        self.step += 1


def put_surgery_(model: nn.Module, layer: WeightLayer, settings: SurgerySettings) -> None:
    """Put masks on a layer's weight and bias, and the state of its surgery; in place."""
    owner = model.get_submodule(layer.module)
    tensors = (layer.weight,) if layer.bias is None else (layer.weight, layer.bias)
    for tensor in tensors:
        put_map_(owner, tensor, Spliced(getattr(owner, tensor).detach() != 0))
    _spliced(owner, layer.weight).surgery = Surgery(settings, tensors)


def operate_(model: nn.Module) -> None:
    """See to the masks of every layer before a training step."""
    for owner, _, made in list(maps_in(model)):
        surgery = getattr(made, "surgery", None)
        if surgery is not None:
            surgery.operate_(owner)


def _operated(loss: Loss, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The task's loss; training asks for it once a step."""
    operate_(model)
    return loss(model, x, y)


def _spliced(owner: nn.Module, tensor: str) -> Spliced:
    """The mask that was put on a tensor last."""
    found = [made for made in owner.parametrizations[tensor] if isinstance(made, Spliced)]
    return found[-1]
