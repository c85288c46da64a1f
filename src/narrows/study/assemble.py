"""The record of a cell, from the parts that were measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from narrows.measure.record import Measurement
from narrows.study.cells import Cell
from narrows.study.facts import INSPECTED, VariantFacts, precision_flags
from narrows.study.keys import Keys
from narrows.study.models import Network
from narrows.study.quality import Judged
from narrows.study.record import Facts, MeasuredRecord, Score
from narrows.study.session import Timed
from narrows.study.settings import TORCH

_REASONS: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all cells of a network are put together from.

    Args:
        network: The network.
        variants: What is known of each variant's file.
        scores: How good each variant is on each runtime, or why it was not judged.
        known: Facts of earlier records by their key; they are taken over.
        session: Name of the session.
    """

    network: Network
    variants: Mapping[str, VariantFacts]
    scores: Mapping[Judged, Score | str]
    known: Mapping[str, Facts]
    session: str


def assembled(cell: Cell, key: Keys, timed: Timed, parts: Parts) -> MeasuredRecord:
    """The record of one cell."""
    facts = parts.known.get(key.facts) or _facts(cell, timed, parts)
    return MeasuredRecord(
        cell=cell,
        key=key.whole,
        facts_key=key.facts,
        model=parts.network.settings.model,
        random_weights=parts.network.random_weights,
        session=parts.session,
        batch=parts.network.settings.batch,
        latency=timed.latency,
        ratio=timed.ratio,
        energy=timed.energy,
        facts=facts,
        flags=tuple(_flags(facts, timed)),
    )


def _facts(cell: Cell, timed: Timed, parts: Parts) -> Facts:
    shared = parts.variants[cell.variant]
    score = parts.scores.get((cell.variant, cell.runtime), _why_not_judged(cell, parts))
    return Facts(
        size=shared.size,
        macs=shared.macs,
        precision=timed.precision,
        execution=shared.execution if cell.runtime == INSPECTED else None,
        cold=timed.greeting,
        operators=shared.operators.get(cell.runtime),
        score=None if isinstance(score, str) else score,
        no_score=score if isinstance(score, str) else "",
        estimated_energy_j=None if cell.runtime == TORCH else shared.estimated_energy_j,
    )


def _why_not_judged(cell: Cell, parts: Parts) -> str:
    if cell.runtime == TORCH:
        return "PyTorch eager is a baseline of time"
    if parts.network.random_weights:
        return "random weights: its accuracy would mean nothing"
    return "no task was given for it"


def _flags(facts: Facts, timed: Timed) -> Iterator[str]:
    """What a reader must know of the numbers."""
    if timed.ratio is not None and timed.ratio.verdict == "slower":
        found = timed.ratio.cpu if timed.latency.contended else timed.ratio.wall
        yield f"slower than its original (× {found.value:.2f})"
    yield from precision_flags(facts.precision)
    if facts.execution is not None:
        yield from facts.execution.flags
    latency = timed.latency
    if latency.contended:
        yield _contention(latency)
    if latency.target is not None and latency.half_width > latency.target:
        yield (
            f"interval ± {100 * latency.half_width:.1f} %,"
            f" wider than the {100 * latency.target:g} % asked for"
        )


def _contention(latency: Measurement) -> str:
    held = sum(latency.contended_rounds)
    kinds = Counter(reason for reasons in latency.round_reasons for reason in reasons)
    told = ", ".join(reason for reason, _ in kinds.most_common(_REASONS))
    return f"contended in {held} of {len(latency.contended_rounds)} rounds ({told})"
