"""DeepIoT: a recurrent compressor learns which units stay, the network is its critic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.compressor import Compressor, draw, log_likelihood, suppressed
from narrows.compress.costs import COSTS, Cost, UnitCosts
from narrows.compress.masking import masked_copy
from narrows.compress.removal import remove_units
from narrows.compress.unit_weights import UnitWeights
from narrows.compress.units import Found, UnitGroup, find
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, train
from narrows.train.task import Loss

_HIGHEST: Final = 0.995


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeepIoT(Method):
    """Remove whole units, by keep probabilities that are learned with the network.

    The compressor reads the weights of each layer and answers, for each unit, the probability p
    that it stays. In each training step

        z ~ Bernoulli(p · γ where p <= τ, else p)      for each sample, at every reader of the unit
        W <- W - η · gradient of L(y, F_W(x | z))                      the network, by `search`
        φ <- φ - gradient of log μ_φ(z) · (L - c) / max(1, √v)         the compressor, by RMSProp

    with moving averages c and v of the loss. The threshold τ rises from 0; a unit whose p falls
    below it is suppressed, and comes back when p rises again. When the units above τ cost no more
    than asked, they are fixed: z = 1 where p > τ. Then all others are removed for real, and what is
    left is trained by `finetune`. Units that are coupled (by additions, depthwise convolutions,
    the time steps of recurrent layers) share one p.

    Args:
        share: Of the cost (0–1) that is left at most.
        cost: "parameters" or "macs".
        search: The training of network and compressor; its loss is that of each sample. Its last
            epoch counts, not its best.
        finetune: The training of the smaller network.
        factor: γ.
        threshold_step: By how much τ rises at a time.
        threshold_every: After how many steps; by default so that it would reach 0.995 at the end
            of the search.
        width: Of the compressor's cell.
        learning_rate: Of the compressor.
        skip: Groups of units (by the name `find_units` gives) that stay whole.

    Example:
        >>> search = TrainSettings(epochs=10, learning_rate=0.01, schedule="constant")
        >>> method = DeepIoT(share=0.05, search=search, finetune=TrainSettings(epochs=20))

    Reference:
        Yao, Zhao, Zhang, Su, Abdelzaher, "DeepIoT: Compressing Deep Neural Network Structures for
        Sensing Systems with a Compressor-Critic Framework", SenSys 2017, sections 4.1–4.4 and
        algorithm 1. Departs from the paper: masks sit where a unit is read, so that nothing of its
        bias is left; the compressor is not trained alone first, as in the authors' code; network
        and compressor learn from the same draw; the optimisers are those of the settings.
    """

    name: ClassVar[str] = "deepiot"
    share: float
    search: TrainSettings
    finetune: TrainSettings
    cost: Cost = "parameters"
    factor: float = 0.5
    threshold_step: float = 0.025
    threshold_every: int | None = None
    width: int = 64
    learning_rate: float = 1e-3
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be searched for.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.cost not in COSTS:
            msg = f"cost is {self.cost!r}: expected one of {', '.join(COSTS)}"
            raise ConfigError(msg)
        for name, low, high in (("share", 0, 1), ("factor", 0, 1), ("threshold_step", 0, 1)):
            value = getattr(self, name)
            if not low < value < high:
                msg = f"{name} is {value}: expected a number between {low} and {high}"
                raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The smaller network."""
        claim_folder(folder, self, task.model)
        found = find(task.model, task.example)
        if not found.units.groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.units.refused.items())
            msg = f"no unit of {type(task.model).__name__} can be removed ({reasons})"
            raise ModelError(msg)
        critic = Critic(self, task, found)
        searched = train(
            replace(task, model=critic, loss=partial(_joint, task.loss)),
            replace(self.search, best_from=self.search.epochs, patience=None),
            folder=None if folder is None else folder / "search",
            progress=epoch_teller(progress, "search", self.search.epochs),
        ).model
        assert isinstance(searched, Critic)
        keep = searched.kept()
        left = searched.costs.left(keep)
        if progress is not None:
            missed = "" if left <= self.share else f", which misses the {self.share:.2%} asked for"
            progress(f"search: {left:.2%} of the {self.cost} left{missed}")
        smaller = remove_units(
            searched.masked.network,
            task.example,
            {name: stays.nonzero().flatten().tolist() for name, stays in keep.items()},
        )
        trained = train(
            replace(task, model=smaller),
            self.finetune,
            folder=None if folder is None else folder / "finetune",
            progress=epoch_teller(progress, "fine-tuning", self.finetune.epochs),
        )
        return trained.model.eval()

    def every(self, steps: int) -> int:
        """Steps between two rises of the threshold, in a search of so many steps."""
        return self.threshold_every or max(1, int(steps * self.threshold_step / _HIGHEST))


@final
class Critic(nn.Module):  # type: ignore[misc]
    """The network with masks, and the compressor that draws them; what a search keeps.

    Args:
        settings: Of the search.
        task: With the network.
        found: Its units.
    """

    threshold: Tensor
    settled: Tensor
    steps: Tensor

    def __init__(self, settings: DeepIoT, task: TrainingTask, found: Found) -> None:
        super().__init__()
        self.settings = settings
        self.masked = masked_copy(found, task.model)
        self.costs = UnitCosts(task.model, found, task.example, settings.cost)
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
        return {
            name: _above(group, probabilities[name], float(self.threshold))
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
        self.threshold.add_(self.settings.threshold_step).clamp_(max=_HIGHEST)
        keep = self.kept()
        if self.costs.left(keep) <= self.settings.share:
            for number, stays in enumerate(keep.values()):
                getattr(self, f"stays_{number}").copy_(stays)
            self.settled.fill_(value=True)


def _joint(loss: Loss, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """The loss a search is trained by; it is asked for once a step."""
    return critic.learned(loss, x, y)


def _above(group: UnitGroup, probability: Tensor, threshold: float) -> Tensor:
    """Units above the threshold, and the most probable of those of which one has to stay."""
    stays = probability > threshold
    for needed in ((*range(group.size),), *group.needed):
        places = torch.tensor(needed)
        if not bool(stays[places].any()):
            stays[places[probability[places].argmax()]] = True
    return stays
