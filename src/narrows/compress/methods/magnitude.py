"""Magnitude pruning: small weights go for good, the others are trained on, in rounds."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.dropouts import scaled_dropouts
from narrows.compress.weight_layers import WeightLayer, refuse_unknown, weight_layers
from narrows.compress.weight_maps import Mask, bake, maps_in, put_map_
from narrows.errors import ConfigError
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MagnitudePruning(Method):
    """Set the smallest weights to zero and train the others on, round after round.

    keep W where |W| >= q · std(W) of its layer, or where it is not among the smallest share s;
    once pruned, never restored. Biases are not pruned. With each round dropout shrinks with the
    connections that are left, because it drops out of less: D_r = D_o · sqrt(C_r / C_o).

    Args:
        by: "quality": a target is q, the threshold in standard deviations of the layer's weights
            (over all of them, pruned ones as zeros). "layer": a target is the share (0–1) of zeros
            in each layer. "global": it is the share of zeros in all layers together, so that layers
            of small weights lose most.
        targets: One for each round.
        retrain: How the weights that are left are trained after each pruning; the paper takes a
            tenth (LeNet) or a hundredth (AlexNet) of the learning rate of the first training. The
            best epoch on choose is kept.
        layers: Targets of single layers, one for each round, by name (`weight_layers` says them).
            With "global" such a layer has its own share of zeros and is not counted with others.
        skip: Layers without a mask: they are trained on, and zeros in them may grow again, which
            a target of 0 does not let them.
        scale_dropout: Whether dropout shrinks; see `scaled_dropouts`.

    Example:
        >>> settings = TrainSettings(epochs=10, learning_rate=0.01)
        >>> pruning = MagnitudePruning(by="layer", targets=(0.8, 0.92), retrain=settings)

    Reference:
        Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", NIPS 2015, arXiv 1506.02626, section 3. Departs from the paper: convolutional and
        linear layers are retrained together (in a Chain of two, each with targets of 0 for the
        layers of the other, one group is pruned after the other); every layer keeps at least its
        largest weight; units without connections are left in place (`DeadUnits` removes them).
    """

    name: ClassVar[str] = "magnitude"
    by: Literal["quality", "layer", "global"]
    targets: tuple[float, ...]
    retrain: TrainSettings
    layers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    scale_dropout: bool = True

    def __post_init__(self) -> None:
        """Refuse targets that cannot be pruned to.

        Raises:
            ConfigError: A value is out of its range, or a layer has not a target for each round.
        """
        kinds = ("quality", "layer", "global")
        if self.by not in kinds:
            msg = f"by is {self.by!r}: expected one of {', '.join(kinds)}"
            raise ConfigError(msg)
        for where, targets in (("targets", self.targets), *self.layers.items()):
            if not targets or len(targets) != len(self.targets):
                msg = f"{where} has {len(targets)} values for {len(self.targets)} rounds"
                raise ConfigError(f"{msg}: give one for each round, at least one")
            good = all(t >= 0 and (t < 1 or self.by == "quality") for t in targets)
            if not good or not all(map(math.isfinite, targets)):
                wanted = "from 0 on" if self.by == "quality" else "from 0 to below 1"
                msg = f"{where} is {targets}: expected numbers {wanted}"
                raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The pruned network: of the same shape, with zeros in it."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        refuse_unknown(tuple(self.layers), [layer.name for layer in layers])
        claim_folder(folder, self, task.model)
        for layer in layers:
            owner = model.get_submodule(layer.module)
            put_map_(owner, layer.weight, Mask(layer.value(model) != 0))
        dropouts = scaled_dropouts(model) if self.scale_dropout else ()
        for number in range(len(self.targets)):
            self._prune_(model, layers, number)
            for dropout in dropouts:
                dropout.scale_(model)
            what = f"magnitude pruning, round {number + 1} of {len(self.targets)}"
            model = train(
                replace(task, model=model),
                self.retrain,
                folder=None if folder is None else folder / f"round-{number + 1}",
                progress=epoch_teller(progress, what, self.retrain.epochs),
            ).model
        return bake(model).eval()

    def _prune_(self, model: nn.Module, layers: Sequence[WeightLayer], number: int) -> None:
        """Mask what the targets of a round say, in place."""
        values = {layer.name: layer.value(model) for layer in layers}
        sizes = {name: value.abs() for name, value in values.items()}
        kept: dict[str, Tensor] = {}
        for name, size in sizes.items():
            target = self.layers.get(name, self.targets)[number]
            if self.by == "quality":
                kept[name] = size >= target * values[name].std(correction=0)
            elif self.by == "layer" or name in self.layers:
                kept[name] = _largest(size, 1 - target)
        rest = [name for name in sizes if name not in kept]
        if rest:
            joint = _largest(
                torch.cat([sizes[name].flatten() for name in rest]), 1 - self.targets[number]
            )
            parts = joint.split([sizes[name].numel() for name in rest])
            for name, part in zip(rest, parts, strict=True):
                kept[name] = part.reshape(sizes[name].shape)
        for layer in layers:
            _mask_of(model, layer).mask.copy_(_at_least_one(kept[layer.name], sizes[layer.name]))


def _largest(sizes: Tensor, share: float) -> Tensor:
    """Where the largest of some sizes are, the first of equals going last."""
    gone = sizes.numel() - round(share * sizes.numel())
    order = sizes.flatten().argsort(stable=True)
    kept = torch.ones(sizes.numel(), dtype=torch.bool, device=sizes.device)
    kept[order[:gone]] = False
    return kept.reshape(sizes.shape)


def _at_least_one(kept: Tensor, sizes: Tensor) -> Tensor:
    """What is kept and not zero already; the largest in any case, or the layer would be cut."""
    largest = torch.zeros_like(kept).flatten()
    largest[sizes.argmax()] = True
    return (kept & (sizes > 0)) | largest.reshape(kept.shape)


def _mask_of(model: nn.Module, layer: WeightLayer) -> Mask:
    """The mask that this method put on a layer: the last one on its weight."""
    owner = model.get_submodule(layer.module)
    found = [m for o, tensor, m in maps_in(model) if o is owner and tensor == layer.weight]
    mask = found[-1]
    assert isinstance(mask, Mask)
    return mask
