"""Pruning whole units by the size of their weights, and training what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.costs import COSTS, Cost, UnitCosts
from narrows.compress.removal import remove_units
from narrows.compress.unit_weights import UnitWeights
from narrows.compress.units import Found, find
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPruning(Method):
    """Remove the units with the smallest weights, round after round, and train on between.

    A unit's score is the norm of all weights that make it, over the mean of its group, so that
    groups can be compared. In each round the units of lowest score, over all groups, are removed
    until the share asked for is left.

    Args:
        shares: Of the cost (0–1) that is left at most after each round, each below the one before.
        cost: "parameters" or "macs".
        retrain: How what is left is trained after each round; the best epoch on choose is kept.
        norm: "l1" or "l2".
        keep_at_least: Share (0–1) of every group that stays in any case.
        skip: Groups of units (by the name `find_units` gives) that stay whole.

    Example:
        >>> pruning = UnitPruning(shares=(0.7, 0.5), retrain=TrainSettings(epochs=5), cost="macs")

    Reference:
        Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017.
        Departs from the paper: scores are compared over layers, and coupled layers share them.
    """

    name: ClassVar[str] = "units"
    shares: tuple[float, ...]
    retrain: TrainSettings
    cost: Cost = "parameters"
    norm: Literal["l1", "l2"] = "l1"
    keep_at_least: float = 0.05
    skip: tuple[str, ...] = ()

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
        if not 0 <= self.keep_at_least < 1:
            msg = f"keep_at_least is {self.keep_at_least}: expected a share from 0 to below 1"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The smaller network."""
        claim_folder(folder, self, task.model)
        model = task.model
        whole = _whole(model, task.example, self.cost)
        for number, share in enumerate(self.shares, start=1):
            keep, left = self._chosen(model, task.example, share * whole)
            if progress is not None:
                missed = "" if left <= share * whole else ", more than was asked for"
                progress(f"round {number}: {left / whole:.2%} of the {self.cost} left{missed}")
            smaller = remove_units(model, task.example, keep)
            model = train(
                replace(task, model=smaller),
                self.retrain,
                folder=None if folder is None else folder / f"round-{number}",
                progress=epoch_teller(
                    progress, f"round {number} of {len(self.shares)}", self.retrain.epochs
                ),
            ).model
        return model.eval()

    def _chosen(
        self, model: nn.Module, example: Tensor, most: float
    ) -> tuple[dict[str, list[int]], float]:
        """The units that stay at a cost of at most so much, and what they cost."""
        found = find(model, example)
        costs = UnitCosts(model, found, example, self.cost)
        scores = self._scores(model, found)
        keep = {name: torch.ones(len(row), dtype=torch.bool) for name, row in scores.items()}
        order = sorted(
            (float(value), name, unit)
            for name, row in scores.items()
            for unit, value in enumerate(row)
        )
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            if costs.of(self._without(order[: middle + 1], keep, found)) <= most:
                high = middle
            else:
                low = middle + 1
        left = self._without(order[: low + 1], keep, found)
        return {n: row.nonzero().flatten().tolist() for n, row in left.items()}, costs.of(left)

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

    def _without(
        self,
        gone: list[tuple[float, str, int]],
        keep: Mapping[str, Tensor],
        found: Found,
    ) -> dict[str, Tensor]:
        """All units but some, where enough of their group stay."""
        left = {name: row.clone() for name, row in keep.items()}
        needed = {group.name: group.needed for group in found.units.groups}
        for _, name, unit in gone:
            row = left[name]
            row[unit] = False
            enough = int(row.sum()) >= max(1, self.keep_at_least * len(row))
            if not enough or not all(bool(row[list(each)].any()) for each in needed[name]):
                row[unit] = True
        return left


def _whole(model: nn.Module, example: Tensor, cost: Cost) -> float:
    return UnitCosts(model, find(model, example), example, cost).whole
