"""DeepIoT's critic: the network with masks, and the compressor that draws them."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor, nn

from narrows.compress.compressor import Compressor, draw, log_likelihood, suppressed
from narrows.compress.costs import Costs, UnitCosts
from narrows.compress.masking import masked_copy
from narrows.compress.unit_weights import UnitWeights
from narrows.compress.units import Found, UnitGroup
from narrows.errors import ConfigError
from narrows.train import TrainingTask
from narrows.train.task import Loss

if TYPE_CHECKING:
    from narrows.compress.methods.deepiot import DeepIoT

HIGHEST: Final = 0.995


@final
class Critic(nn.Module):  # type: ignore[misc]
    """The network with masks, and the compressor that draws them; what a search keeps.

    Args:
        settings: Of the search.
        task: With the network.
        found: Its units.
        costs: Of its units.
    """

    threshold: Tensor
    settled: Tensor
    steps: Tensor

    def __init__(self, settings: DeepIoT, task: TrainingTask, found: Found, costs: Costs) -> None:
        super().__init__()
        self.settings = settings
        self.masked = masked_copy(found, task.model)
        self.costs = costs
        self.weights = UnitWeights(task.model, found)
        matrices = self._matrices()
        unknown = set(settings.skip) - {group.name for group in found.units.groups}
        if unknown or not matrices:
            known = ", ".join(group.name for group in found.units.groups)
            msg = f"skip names {', '.join(sorted(unknown)) or 'every group'}: there are {known}"
            raise ConfigError(msg)
        self.groups = {group.name: group for group in found.units.groups if group.name in matrices}
        self.compressor = Compressor(matrices, width=settings.width, seed=settings.search.seed)
        self.every = settings.every(settings.search.epochs * len(task.fit))
        for name, value in (("threshold", 0.0), ("settled", False), ("steps", 0)):
            self.register_buffer(name, torch.tensor(value))
        for number, group in enumerate(self.groups.values()):
            self.register_buffer(f"stays_{number}", torch.ones(group.size, dtype=torch.bool))

    def forward(self, *inputs: Tensor) -> Any:
        """What the network answers under the masks; p itself is the mask when it does not train."""
        if self.settled:
            self.masked.set_masks({name: stays.float() for name, stays in self.kept().items()})
        elif not self.training:
            self.masked.set_masks({name: p.detach() for name, p in self._drawn_with().items()})
        return self.masked(*inputs)

    def learned(self, loss: Loss, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each sample under masks of its own, the compressor one step further."""
        self._raise_()
        if self.settled:
            return loss(self, x, y)
        probabilities = self._drawn_with()
        masks = {name: draw(p, len(x)) for name, p in probabilities.items()}
        self.masked.set_masks(masks)
        found = loss(self, x, y)
        if found.shape != (len(x),):
            msg = (
                f"DeepIoT needs the loss of each sample: expected {len(x)} values, found "
                f"{tuple(found.shape)}; leave out the mean over the batch"
            )
            raise ConfigError(msg)
        likelihood = sum(log_likelihood(masks[name], p) for name, p in probabilities.items())
        assert isinstance(likelihood, Tensor)
        self.compressor.learn_(likelihood, found, self.settings.learning_rate)
        return found

    def kept(self) -> dict[str, Tensor]:
        """Whether each unit stays, by group: as they were fixed, or as they would be now."""
        if self.settled:
            return {n: getattr(self, f"stays_{i}") for i, n in enumerate(self.groups)}
        with torch.no_grad():
            probabilities = self.compressor(self._matrices())
        threshold = float(self.threshold)
        return {
            name: _above(group, probabilities[name], threshold, self.settings.multiple)
            for name, group in self.groups.items()
        }

    def _drawn_with(self) -> dict[str, Tensor]:
        found = self.compressor(self._matrices())
        threshold, factor = float(self.threshold), self.settings.factor
        return {name: suppressed(p, threshold, factor) for name, p in found.items()}

    def _matrices(self) -> dict[str, Tensor]:
        found = self.weights.of(self.masked.network)
        return {name: m for name, m in found.items() if name not in self.settings.skip}

    def _raise_(self) -> None:
        """Count the step, raise the threshold when it is time, and fix the units once they do."""
        self.steps += 1
        if self.settled or int(self.steps) % self.every:
            return
        before = float(self.threshold)
        self.threshold.add_(self.settings.threshold_step).clamp_(max=HIGHEST)
        if self.costs.left(self.kept()) > self.settings.share:
            return
        self._lower_(before)
        for number, stays in enumerate(self._filled(self.kept()).values()):
            getattr(self, f"stays_{number}").copy_(stays)
        self.settled.fill_(value=True)

    def _lower_(self, lowest: float) -> None:
        """The threshold back down, but not below `lowest`, as far as it removes enough units."""
        with torch.no_grad():
            found = torch.cat(list(self.compressor(self._matrices()).values()))
        highest = float(self.threshold)
        between = [v for v in found.unique().tolist() if lowest < v < highest] + [highest]

        def enough(threshold: float) -> bool:
            self.threshold.fill_(threshold)
            return self.costs.left(self.kept()) <= self.settings.share

        self.threshold.fill_(between[bisect_left(between, True, key=enough)])

    def _filled(self, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is kept, and the most probable others that still fit into the share.

        One unit may cost more than is missing, another less. Of a cost that has to be measured
        nothing more is tried.
        """
        if not isinstance(self.costs, UnitCosts):
            return kept
        with torch.no_grad():
            probabilities = self.compressor(self._matrices())
        blocks = [
            (float(p[block].max()), name, block)
            for name, p in probabilities.items()
            for block in _removed(p, kept[name]).split(self.settings.multiple)
            if len(block)
        ]
        for _, name, block in sorted(blocks, key=lambda each: -each[0]):
            more = kept | {name: kept[name].index_fill(0, block, value=True)}
            if self.costs.left(more) <= self.settings.share:
                kept = more
        return kept


def joint_loss(loss: Loss, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """The loss a search is trained by; it is asked for once a step."""
    return critic.learned(loss, x, y)


def _removed(probability: Tensor, kept: Tensor) -> Tensor:
    """Units that are not kept, the most probable first."""
    order = probability.argsort(descending=True)
    return order[~kept[order]]


def _above(group: UnitGroup, probability: Tensor, threshold: float, multiple: int) -> Tensor:
    """Units above the threshold, and the most probable others up to a multiple.

    Of units of which one has to stay the most probable does, whatever the multiple.
    """
    count = int((probability > threshold).sum())
    blocks = max(multiple, math.ceil(count / multiple) * multiple)
    stays = torch.zeros_like(probability, dtype=torch.bool)
    stays[probability.argsort(descending=True)[:blocks]] = True
    for needed in group.needed:
        places = torch.tensor(needed)
        if not bool(stays[places].any()):
            stays[places[probability[places].argmax()]] = True
    return stays
