"""`PlanRecord`: everything a plan found, in one JSON file; the only thing a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from narrows.errors import PlanError
from narrows.plan.candidate import Candidate, Score
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.profile import Cloud, Device, Link


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CutRow:
    """One valid cut of a model, uncompressed.

    Args:
        index: 0 is the input, the last is the output.
        tensor: Name of the tensor that crosses.
        shape: Its shape without the batch.
        size_bytes: Bytes of one sample, uncompressed.
        head_macs: Multiply-accumulates before it.
        head_macs_share: The same over the whole model's.
        head_weight_bytes: Weights before it.
        head_peak_bytes: Most activation bytes alive at once before it.
        tail_macs: Multiply-accumulates after it.
        dominated_by: A cut with fewer bytes and fewer MACs, or None.
        planned: Whether the plan ran it: it has candidates.
    """

    index: int
    tensor: str
    shape: tuple[int, ...]
    size_bytes: int
    head_macs: int
    head_macs_share: float
    head_weight_bytes: int
    head_peak_bytes: int
    tail_macs: int
    dominated_by: int | None
    planned: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRow:
    """One model variant, uncompressed.

    Args:
        name: Unique in the plan.
        original: The variant whose answers drops and agreement are against: itself, unless it was
            made smaller from another one, or computes that one in int8.
        source: What the user called it, e.g. "zoo:efficientnet_lite0".
        input_shape: Without the batch.
        total_macs: Multiply-accumulates of the whole model.
        weight_bytes: Weights of the whole model.
        choose: Score of the uncompressed model on the choose set.
        report: Score on the report set; None when nothing of this variant went there.
        cuts: Every valid cut, input and output included.
        refused_cuts: Places that are not cuts, for the record.
    """

    name: str
    original: str
    source: str
    input_shape: tuple[int, ...]
    total_macs: int
    weight_bytes: int
    choose: Score
    report: Score | None
    cuts: tuple[CutRow, ...]
    refused_cuts: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersMap:
    """Which candidate wins where, all else as in the plan.

    Args:
        bandwidths_bits_per_s: Uplink bandwidths (columns); the downlink keeps its ratio to it.
        round_trips_s: Round trips (rows).
        winners: Candidate ids, `winners[row][column]`; None where nothing fits.
        values: The objective's value there.
    """

    bandwidths_bits_per_s: tuple[float, ...]
    round_trips_s: tuple[float, ...]
    winners: tuple[tuple[str | None, ...], ...]
    values: tuple[tuple[float | None, ...], ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SetSizes:
    """Examples used of each set; the three are disjoint."""

    fit: int
    choose: int
    report: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of planning and how long it took."""

    name: str
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """Everything a plan found.

    Args:
        title: What was planned, for headings.
        created: ISO 8601 time, UTC.
        task: Name of the task.
        metric: Name of the metric, higher is better.
        classes: Number of classes; None for regression.
        sets: Examples used.
        demonstration: Too few labelled examples for the metric to mean anything; say so.
        variants: The models, with the table of all their cuts.
        candidates: Every evaluated point.
        frontier: Ids of the candidates that nothing beats in every respect.
        chosen: Id of the recommended candidate; None when nothing fits.
        explanation: One sentence: why this one, or what is nearest and by how much it misses.
        winners: The map over bandwidth × round trip.
        device: Profile used.
        link: Profile used.
        cloud: Profile used.
        constraints: Bounds.
        objective: What was made best.
        stages: Where the planning time went.
        plain_pass_s: One accuracy pass of the first variant over the choose set, same run.
        environment: Machine and versions, as text.
    """

    FORMAT: ClassVar[int] = 2

    title: str
    created: str
    task: str
    metric: str
    classes: int | None
    sets: SetSizes
    demonstration: bool
    variants: tuple[VariantRow, ...]
    candidates: tuple[Candidate, ...]
    frontier: tuple[str, ...]
    chosen: str | None
    explanation: str
    winners: WinnersMap
    device: Device
    link: Link
    cloud: Cloud
    constraints: Constraints
    objective: Objective
    stages: tuple[Stage, ...]
    plain_pass_s: float
    environment: Mapping[str, str]

    @property
    def originals(self) -> tuple[str, ...]:
        """Names of the models that were planned, without what was made of them."""
        return tuple(v.name for v in self.variants if v.original == v.name)

    def variant(self, name: str) -> VariantRow:
        """The variant of this name.

        Raises:
            PlanError: There is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        msg = f"the plan has no variant {name!r}: it has {known}; plan again"
        raise PlanError(msg)

    def candidate(self, candidate_id: str) -> Candidate:
        """The candidate of this id; the name may be left out where one model was planned.

        Raises:
            PlanError: There is none; the message names those of the same beginning.
        """
        originals = self.originals
        alone = f"{originals[0]}/{candidate_id}" if len(originals) == 1 else None
        for candidate in self.candidates:
            if candidate.id in (candidate_id, alone):
                return candidate
        start = candidate_id.split("/")[0]
        known = [c.id for c in self.candidates if c.id.startswith(start)] or list(self.frontier)
        msg = (
            f"the plan has no candidate {candidate_id!r}: it has {len(self.candidates)}, "
            f"for example {', '.join(known[:5])}"
        )
        raise PlanError(msg)
