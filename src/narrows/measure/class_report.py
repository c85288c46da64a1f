"""Everything that one pass says of a classifier, with 95 % intervals: a ClassReport."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.calibration import Calibration, calibration
from narrows.measure.class_averages import (
    Averages,
    Cells,
    ClassScore,
    averages,
    cells_of,
    class_scores,
    mean_scores,
)
from narrows.measure.divergence import Scale
from narrows.measure.intervals import Z95, Estimate, wilson

Numbers = NDArray[np.int64]

_STORED = "<u4"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport:
    """How a classifier answered a set.

    Args:
        n: Samples.
        classes: Number of classes.
        scale: What its outputs are, by which confidence was read off them.
        accuracy: Share of right answers, with Wilson's interval.
        top: Share whose label is among the k highest outputs, by k as text.
        macro: Means over the classes among labels or answers.
        weighted: Means over classes by their samples.
        per_class: Every class's score, in order.
        calibration: Expected calibration error and its bins.
        agreement: Share with the reference's answer; None without a reference.
        labels: Of the samples, in order, as unsigned little-endian numbers of 32 bits.
        answers: The same of the answers.
    """

    FORMAT: ClassVar[int] = 1

    n: int
    classes: int
    scale: Scale
    accuracy: Estimate
    top: Mapping[str, Estimate]
    macro: Averages
    weighted: Averages
    per_class: tuple[ClassScore, ...]
    calibration: Calibration
    agreement: Estimate | None
    labels: bytes
    answers: bytes

    def __post_init__(self) -> None:
        """Refuse labels and answers that are not those of n samples."""
        for title, data in (("labels", self.labels), ("answers", self.answers)):
            numbers = np.frombuffer(data, _STORED) if len(data) == 4 * self.n else None
            if numbers is None or (self.n and numbers.max() >= self.classes):
                msg = (
                    f"{title} of {len(data)} bytes are not those of {self.n} samples of"
                    f" {self.classes} classes: the record is damaged; judge the model again"
                )
                raise MeasureError(msg)

    @property
    def label_numbers(self) -> Numbers:
        """What the samples are (n,)."""
        return np.frombuffer(self.labels, _STORED).astype(np.int64)

    @property
    def answer_numbers(self) -> Numbers:
        """What they were said to be (n,)."""
        return np.frombuffer(self.answers, _STORED).astype(np.int64)

    @property
    def confusion(self) -> Numbers:
        """Samples by label (rows) and answer (columns); (classes, classes)."""
        return self._cells.matrix

    @property
    def _cells(self) -> Cells:
        return cells_of(self.label_numbers, self.answer_numbers, self.classes)


def class_report(
    *,
    labels: Numbers,
    answers: Numbers,
    ranks: Numbers,
    confidence: NDArray[np.float64],
    scale: Scale,
    classes: int,
    top: Sequence[int],
    agreeing: int | None,
) -> ClassReport:
    """Sum up a pass.

    Args:
        labels: Class numbers (n,).
        answers: Class numbers of the highest outputs (n,).
        ranks: Place of the label among the outputs (n,), 0 = highest.
        confidence: Probability of the answers (n,).
        scale: What the outputs were.
        classes: Number of classes.
        top: The k of the top-k shares.
        agreeing: Answers that are the reference's; None without one.
    """
    n, cells = len(labels), cells_of(labels, answers, classes)
    right = labels == answers
    return ClassReport(
        n=n,
        classes=classes,
        scale=scale,
        accuracy=wilson(float(right.mean()), n),
        top={str(k): wilson(float((ranks < k).mean()), n) for k in top},
        macro=averages(cells),
        weighted=averages(cells, by_support=True),
        per_class=class_scores(cells),
        calibration=calibration(confidence, right),
        agreement=None if agreeing is None else wilson(agreeing / n, n),
        labels=labels.astype(_STORED).tobytes(),
        answers=answers.astype(_STORED).tobytes(),
    )


def paired_averages(
    reference: ClassReport, candidate: ClassReport, *, by_support: bool = False
) -> Averages:
    """Mean precision, recall and F1 lost against the reference on the same samples.

    Each mean's derivative says how much one sample moves it. With d the difference of the two
    models' derivatives at each sample, the variance of the loss is (Σ (d − mean)² + 1) / (n + 2)²:
    the delta method, with the half observations that `quality.paired_drop` adds, so that answers
    that are all equal still leave some width.

    Args:
        reference: Of the model compared with.
        candidate: Of the other model.
        by_support: Weighted means instead of macro means.

    Returns:
        Losses (positive: the candidate is worse) as shares of one.

    Raises:
        MeasureError: They were not judged on the same samples.
    """
    if reference.labels != candidate.labels or reference.classes != candidate.classes:
        msg = (
            f"cannot pair {reference.n} judged samples with {candidate.n}:"
            " judge both on the same samples in the same order"
        )
        raise MeasureError(msg)
    first, second = (_moves(report, by_support) for report in (reference, candidate))
    drops = []
    for (before, own), (after, other) in zip(first, second, strict=True):
        gap, n = own - other, reference.n
        half = Z95 * math.sqrt(float(((gap - gap.mean()) ** 2).sum()) + 1) / (n + 2)
        drop = before - after
        drops.append(Estimate(value=drop, low=max(-1.0, drop - half), high=min(1.0, drop + half)))
    return Averages(precision=drops[0], recall=drops[1], f1=drops[2])


def _moves(report: ClassReport, by_support: bool) -> list[tuple[float, NDArray[np.float64]]]:
    """Each mean, and its derivative at every sample (n,)."""
    labels, answers = report.label_numbers, report.answer_numbers
    cells = cells_of(labels, answers, report.classes)
    places = np.searchsorted(
        cells.labels * report.classes + cells.answers, labels * report.classes + answers
    )
    means = mean_scores(cells, by_support=by_support)
    return [(value, gradient[places]) for value, gradient in means]
