"""Dead units as a step of a chain, after methods that prune single weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from torch import nn

from narrows.compress.base import Method, Tell
from narrows.compress.dead_units import remove_dead_units
from narrows.compress.units import find_units
from narrows.train import TrainingTask


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadUnits(Method):
    """Remove the units that pruned weights have left without inputs or without readers.

    Nothing is trained and no answer changes (see `remove_dead_units`), but layers become smaller
    for real. It follows `magnitude`, `surgery` or `sparsesep` in a chain.

    Reference:
        Yao et al., "DeepIoT", SenSys 2017, section 5.2, of the methods it is compared with.
    """

    name: ClassVar[str] = "dead_units"

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network without its dead units; nothing is kept in the folder."""
        smaller = remove_dead_units(task.model, task.example).eval()
        if progress is not None:
            pair = (task.model, smaller)
            before, left = (
                sum(group.size for group in find_units(model, task.example).groups)
                for model in pair
            )
            progress(f"dead units: {before - left:,} of {before:,} removed")
        return smaller
