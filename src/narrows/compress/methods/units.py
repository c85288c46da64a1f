"""Pruning whole units by the size of their weights, and training what is left."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.costs import COSTS, Cost
from narrows.compress.dropouts import scale_dropouts_
from narrows.compress.latency import LATENCIES, costs_of
from narrows.compress.removal import remove_units
from narrows.compress.unit_weights import UnitWeights
from narrows.compress.units import Found, find
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score, train

_Block = tuple[float, str, tuple[int, ...]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPruning(Method):
    """Remove the units with the smallest weights, round after round, and train on between.

    A unit's score is the norm of all weights that make it, over the mean of its group, so that
    groups can be compared. In each round the units of lowest score, over all groups, are removed
    until the share asked for is left.

    Args:
        shares: Of the cost (0–1) that is left at most after each round, each below the one before.
        cost: "parameters", "macs" or "latency", which is measured on this machine.
        retrain: How what is left is trained after each round; the best epoch on choose is kept.
            None trains nothing.
        norm: "l1" or "l2".
        multiple: Units are removed so that a multiple of it stays of each group. Runtimes compute
            channels in blocks (ONNX Runtime in 16 with AVX-512, in 8 with AVX2): a block that is
            not full takes as long as a full one.
        keep_at_least: Share (0–1) of every group that stays in any case.
        max_drop: How far the score on choose may fall below that of the network to begin with; the
            first round that falls further is not taken, nor any after it.
        skip: Groups of units (by the name `find_units` gives) that stay whole.
        scale_dropout: Whether dropout shrinks with the connections that are left; see
            `scaled_dropouts`.

    Example:
        >>> pruning = UnitPruning(shares=(0.7, 0.5), retrain=TrainSettings(epochs=5), cost="macs")

    Reference:
        Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017.
        Departs from the paper: scores are compared over layers, and coupled layers share them.
    """

    name: ClassVar[str] = "units"
    shares: tuple[float, ...]
    retrain: TrainSettings | None
    cost: Cost = "parameters"
    norm: Literal["l1", "l2"] = "l1"
    multiple: int = 1
    keep_at_least: float = 0.05
    max_drop: float | None = None
    skip: tuple[str, ...] = ()
    scale_dropout: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be pruned to.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.cost not in COSTS or self.norm not in ("l1", "l2"):
            msg = (
                f"cost is {self.cost!r} and norm {self.norm!r}: expected {', '.join(COSTS)}, l1, l2"
            )
            raise ConfigError(msg)
        falling = sorted(set(self.shares), reverse=True)
        if not self.shares or list(self.shares) != falling or not 0 < min(self.shares) < 1:
            msg = f"shares are {self.shares}: expected falling numbers between 0 and 1"
            raise ConfigError(msg)
        for name, good in (
            ("keep_at_least", 0 <= self.keep_at_least < 1),
            ("multiple", self.multiple >= 1),
            ("max_drop", self.max_drop is None or self.max_drop >= 0),
        ):
            if not good:
                msg = f"{name} is {getattr(self, name)}: expected a share, of multiple 1 or more"
                raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The smaller network; the task's own where no round keeps the score."""
        claim_folder(folder, self, task.model)
        model, tell = copy.deepcopy(task.model), progress or (lambda line: None)
        least = None if self.max_drop is None else score(task, task.model) - self.max_drop
        for number, share in enumerate(self.shares, start=1):
            keep, left = self._chosen(task, model, share, folder)
            missed = "" if left <= share else f", which misses the {share:.2%} asked for"
            tell(f"round {number}: {left:.2%} of the {self.cost} left{missed}")
            smaller = remove_units(model, task.example, keep)
            if self.scale_dropout:
                scale_dropouts_(smaller, model)
            if self.retrain is not None:
                smaller = train(
                    replace(task, model=smaller),
                    self.retrain,
                    folder=None if folder is None else folder / f"round-{number}",
                    progress=epoch_teller(
                        progress, f"round {number} of {len(self.shares)}", self.retrain.epochs
                    ),
                ).model
            if least is not None:
                found = score(task, smaller)
                if found < least:
                    before = f"round {number - 1}" if number > 1 else "the network as it was"
                    tell(
                        f"round {number}: score {found:.4g} is below {least:.4g}: back to {before}"
                    )
                    break
            model = smaller
        return model.cpu().eval()

    def _chosen(
        self, task: TrainingTask, model: nn.Module, share: float, folder: Path | None
    ) -> tuple[dict[str, list[int]], float]:
        """The units that stay at a share of the cost, and the share."""
        found = find(model, task.example)
        journal = None if folder is None else folder / LATENCIES
        costs = costs_of(
            self.cost, model, found, task.example, original=task.model, journal=journal
        )
        scores = self._scores(model, found)
        keep = {name: torch.ones(len(row), dtype=torch.bool) for name, row in scores.items()}
        order = sorted(block for name, row in scores.items() for block in self._blocks(name, row))
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            if costs.left(_without(order[: middle + 1], keep, found)) <= share:
                high = middle
            else:
                low = middle + 1
        left = _without(order[: low + 1], keep, found)
        return {n: row.nonzero().flatten().tolist() for n, row in left.items()}, costs.left(left)

    def _blocks(self, name: str, scores: Tensor) -> Iterator[_Block]:
        """What is removed at a time, smallest first: units down to the next multiple."""
        order, left = scores.argsort().tolist(), len(scores)
        while left > 1:
            size = left % self.multiple or self.multiple
            if left - size < max(self.multiple, self.keep_at_least * len(scores)):
                return
            units = order[len(scores) - left :][:size]
            yield float(scores[units].mean()), name, tuple(units)
            left -= size

    def _scores(self, model: nn.Module, found: Found) -> dict[str, Tensor]:
        matrices = UnitWeights(model, found).of(model)
        wanted = {n: m.detach().cpu().double() for n, m in matrices.items() if n not in self.skip}
        unknown = set(self.skip) - {group.name for group in found.units.groups}
        if unknown or not wanted:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.units.refused.items())
            what = f"skip names unknown groups {sorted(unknown)}" if unknown else "no unit is left"
            raise ModelError(f"{what} to remove from {type(model).__name__} ({reasons})")
        norms = {n: m.norm(p=1 if self.norm == "l1" else 2, dim=1) for n, m in wanted.items()}
        return {name: row / row.mean().clamp(min=1e-30) for name, row in norms.items()}


def _without(gone: list[_Block], keep: Mapping[str, Tensor], found: Found) -> dict[str, Tensor]:
    """All units but some, where no layer is left with nothing."""
    left = {name: row.clone() for name, row in keep.items()}
    needed = {group.name: group.needed for group in found.units.groups}
    for _, name, units in gone:
        for unit in units:
            left[name][unit] = False
            if not all(bool(left[name][list(each)].any()) for each in needed[name]):
                left[name][unit] = True
    return left
