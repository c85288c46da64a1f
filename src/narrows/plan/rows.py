"""What was found of a variant, as rows of the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from narrows.graph.cuts import Cut
from narrows.plan.candidate import Candidate, Drop, Score
from narrows.plan.judge import Answers, Judge
from narrows.plan.points import Point
from narrows.plan.record import CutRow

Reported = tuple[Score, Drop, float]
"""What the report set says: score, drop, mean payload bytes."""


def wanted_rates(chosen: Sequence[Candidate]) -> dict[int, tuple[int, ...]]:
    """Rates by cut of the candidates that have them."""
    rates: dict[int, set[int]] = {}
    for c in chosen:
        if c.cut is not None and c.rate_index is not None:
            rates.setdefault(c.cut, set()).add(c.rate_index)
    return {cut: tuple(sorted(found)) for cut, found in rates.items()}


def reported(
    judge: Judge,
    candidate: Candidate,
    exact: Answers,
    own: Answers,
    labels: NDArray[Any],
    point: Point | None,
    width: int,
) -> Reported:
    """Score, drop and mean payload of a candidate on a set.

    Args:
        judge: Of the task.
        candidate: Which.
        exact: The original's answers.
        own: Those of the candidate's whole model.
        labels: Of the set.
        point: What was found of its payload; None where nothing is coded.
        width: Number of outputs.
    """
    answers, payload_bytes = own, candidate.payload_bytes
    if point is not None and candidate.codec is not None:
        answers = point.answers
        coder = candidate.codec.name.rpartition("-")[2]
        payload_bytes = float(point.payloads[coder].sizes.mean())
    score = judge.score(answers, labels, width)
    return score, judge.drop(exact, answers, labels), payload_bytes


def cut_row(cut: Cut, planned: bool) -> CutRow:
    """A cut as a record."""
    return CutRow(
        index=cut.index,
        tensor=cut.tensor,
        shape=cut.shape,
        size_bytes=cut.size_bytes,
        head_macs=cut.head_macs,
        head_macs_share=cut.head_macs_share,
        head_weight_bytes=cut.head_weight_bytes,
        head_peak_bytes=cut.head_peak_bytes,
        tail_macs=cut.tail_macs,
        dominated_by=cut.dominated_by,
        planned=planned,
    )
