"""DeepIoT: a recurrent compressor learns which units stay, the network is its critic."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, final

from torch import nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.costs import COSTS, Cost
from narrows.compress.critic import HIGHEST, Critic, joint_loss
from narrows.compress.dropouts import scale_dropouts_
from narrows.compress.latency import LATENCIES, costs_of
from narrows.compress.removal import remove_units
from narrows.compress.units import find
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score, train


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
    than asked, τ goes back as far as that still holds, the most probable of the others that still
    fit come back, and they are fixed: z = 1 where a unit stays. Then all others are removed for
    real, and what is left is trained by `finetune`. Units that are coupled (by additions, depthwise
    convolutions, the time steps of recurrent layers) share one p.

    With `max_drop` all this is done in rounds, each from the network of the one before and to
    `round_share` of what that left, down to `share`; the first round after which the score on
    choose has fallen too far is not taken, nor is there one after it.

    Args:
        share: Of the cost (0–1) that is left at most.
        cost: "parameters", "macs" or "latency", which is measured on this machine whenever the
            threshold has risen.
        search: The training of network and compressor; its loss is that of each sample. Its last
            epoch counts, not its best.
        finetune: The training of the smaller network.
        max_drop: How far the score on choose may fall below that of the network to begin with.
        round_share: Of what the round before has left (0–1), where there are rounds.
        multiple: Units are kept in multiples of it, the most probable ones; see `UnitPruning`.
        factor: γ.
        threshold_step: By how much τ rises at a time.
        threshold_every: After how many steps; by default so that it would reach 0.995 at the end
            of the search.
        width: Of the compressor's cell.
        learning_rate: Of the compressor.
        skip: Groups of units (by the name `find_units` gives) that stay whole.
        scale_dropout: Whether dropout shrinks with the connections that are left, as
            `MagnitudePruning` does it: half of ten units is more than half of a thousand.

    Example:
        >>> search = TrainSettings(epochs=10, learning_rate=0.01, schedule="constant")
        >>> method = DeepIoT(share=0.05, search=search, finetune=TrainSettings(epochs=20))

    Reference:
        Yao, Zhao, Zhang, Su, Abdelzaher, "DeepIoT: Compressing Deep Neural Network Structures for
        Sensing Systems with a Compressor-Critic Framework", SenSys 2017, sections 4.1–4.4 and
        algorithm 1. Departs from the paper: masks sit where a unit is read, so that nothing of its
        bias is left; the last step of τ goes no further than it has to, and what is left of the
        share is used up; dropout shrinks; the compressor is not trained alone first, as in the
        authors' code; network and compressor learn from the same draw; the optimisers are those of
        the settings.
    """

    name: ClassVar[str] = "deepiot"
    share: float
    search: TrainSettings
    finetune: TrainSettings
    cost: Cost = "parameters"
    max_drop: float | None = None
    round_share: float = 0.7
    multiple: int = 1
    factor: float = 0.5
    threshold_step: float = 0.025
    threshold_every: int | None = None
    width: int = 64
    learning_rate: float = 1e-3
    skip: tuple[str, ...] = ()
    scale_dropout: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be searched for.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.cost not in COSTS:
            msg = f"cost is {self.cost!r}: expected one of {', '.join(COSTS)}"
            raise ConfigError(msg)
        for name in ("share", "round_share", "factor", "threshold_step"):
            value = getattr(self, name)
            if not 0 < value < 1:
                msg = f"{name} is {value}: expected a number between 0 and 1"
                raise ConfigError(msg)
        if self.multiple < 1 or (self.max_drop is not None and self.max_drop < 0):
            msg = f"multiple is {self.multiple}, max_drop {self.max_drop}: expected 1, 0 or more"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The smaller network."""
        claim_folder(folder, self, task.model)
        if self.max_drop is None:
            return self._round(task, task.model, self.share, folder, progress)[0]
        model, tell, share, number = copy.deepcopy(task.model), progress or _nobody, 1.0, 0
        least = score(task, model) - self.max_drop
        while share > self.share:
            number, share = number + 1, max(self.share, self.round_share * share)
            tell(f"round {number}: to {share:.2%} of the {self.cost}")
            own = None if folder is None else folder / f"round-{number}"
            smaller, left = self._round(task, model, share, own, progress)
            found = score(task, smaller)
            if found < least:
                back = f"round {number - 1}" if number > 1 else "the network as it was"
                tell(f"round {number}: score {found:.4g}, below {least:.4g}: back to {back}")
                break
            model = smaller
            if left > share:
                break
        return model.cpu().eval()

    def _round(
        self,
        task: TrainingTask,
        model: nn.Module,
        share: float,
        folder: Path | None,
        progress: Tell | None,
    ) -> tuple[nn.Module, float]:
        """A smaller network than this one, and its share of the cost of the task's."""
        found = find(model, task.example)
        if not found.units.groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.units.refused.items())
            msg = f"no unit of {type(model).__name__} can be removed ({reasons})"
            raise ModelError(msg)
        journal = None if folder is None else folder / LATENCIES
        costs = costs_of(
            self.cost, model, found, task.example, original=task.model, journal=journal
        )
        critic = Critic(replace(self, share=share), replace(task, model=model), found, costs)
        searched = train(
            replace(task, model=critic, loss=partial(joint_loss, task.loss)),
            replace(self.search, best_from=self.search.epochs, patience=None),
            folder=None if folder is None else folder / "search",
            progress=epoch_teller(progress, "search", self.search.epochs),
        ).model
        assert isinstance(searched, Critic)
        keep = searched.kept()
        left = searched.costs.left(keep)
        missed = "" if left <= share else f", which misses the {share:.2%} asked for"
        (progress or _nobody)(f"search: {left:.2%} of the {self.cost} left{missed}")
        units = {name: stays.nonzero().flatten().tolist() for name, stays in keep.items()}
        smaller = remove_units(searched.masked.network, task.example, units)
        if self.scale_dropout:
            scale_dropouts_(smaller, searched.masked.network)
        trained = train(
            replace(task, model=smaller),
            self.finetune,
            folder=None if folder is None else folder / "finetune",
            progress=epoch_teller(progress, "fine-tuning", self.finetune.epochs),
        )
        return trained.model.eval(), left

    def every(self, steps: int) -> int:
        """Steps between two rises of the threshold, in a search of so many steps."""
        return self.threshold_every or max(1, int(steps * self.threshold_step / HIGHEST))


def _nobody(_: str) -> None:
    """Nobody is told."""
