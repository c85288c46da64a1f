"""Precision, recall and F1 of classes and their means, from the cells of a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.measure.intervals import Estimate, delta_interval, wilson

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """How one class fared.

    Args:
        label: Its number.
        support: Samples that are of it.
        answered: Samples that were said to be of it.
        hits: Samples that are and were said to be.
        precision: hits / answered, 0 where it was never answered.
        recall: hits / support, 0 where there is none of it.
        f1: 2 hits / (support + answered), 0 where both are 0.
    """

    label: int
    support: int
    answered: int
    hits: int
    precision: float
    recall: float
    f1: float

    @property
    def precision_interval(self) -> Estimate | None:
        """Wilson's; None where the class was never answered."""
        return wilson(self.precision, self.answered) if self.answered else None

    @property
    def recall_interval(self) -> Estimate | None:
        """Wilson's; None where there is no sample of the class."""
        return wilson(self.recall, self.support) if self.support else None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Averages:
    """Means over classes, each with an interval.

    Args:
        precision: Mean precision.
        recall: Mean recall.
        f1: Mean F1.
    """

    precision: Estimate
    recall: Estimate
    f1: Estimate


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a confusion matrix that are not empty.

    Args:
        labels: What the samples of each cell are (c,).
        answers: What they were said to be (c,).
        counts: How many they are (c,).
        classes: How many classes there are.
    """

    labels: Counts
    answers: Counts
    counts: Counts
    classes: int

    @property
    def matrix(self) -> Counts:
        """Samples by label (rows) and answer (columns)."""
        whole = np.zeros((self.classes, self.classes), np.int64)
        whole[self.labels, self.answers] = self.counts
        return whole

    @property
    def support(self) -> Counts:
        """Samples of each class."""
        return self._sums(self.labels)

    @property
    def answered(self) -> Counts:
        """Answers of each class."""
        return self._sums(self.answers)

    @property
    def hits(self) -> Counts:
        """Right answers of each class."""
        return self._sums(self.labels, self.labels == self.answers)

    def _sums(self, index: Counts, where: NDArray[np.bool_] | bool = True) -> Counts:
        sums = np.bincount(index, weights=self.counts * where, minlength=self.classes)
        return sums.astype(np.int64)


def cells_of(labels: Counts, answers: Counts, classes: int) -> Cells:
    """Count samples (n,) by label and answer."""
    pairs, counts = np.unique(labels * classes + answers, return_counts=True)
    return Cells(labels=pairs // classes, answers=pairs % classes, counts=counts, classes=classes)


def class_scores(cells: Cells) -> tuple[ClassScore, ...]:
    """Every class's score, in order."""
    precision, recall, f1 = _scores(cells)
    support, answered, hits = cells.support, cells.answered, cells.hits
    return tuple(
        ClassScore(
            label=label,
            support=int(support[label]),
            answered=int(answered[label]),
            hits=int(hits[label]),
            precision=float(precision[label]),
            recall=float(recall[label]),
            f1=float(f1[label]),
        )
        for label in range(cells.classes)
    )


def averages(cells: Cells, *, by_support: bool = False) -> Averages:
    """Means over classes with intervals by the delta method.

    Args:
        cells: The confusion matrix.
        by_support: Each class counts by its samples (weighted means); else those among labels or
            answers count the same (macro means).
    """
    n = int(cells.counts.sum())
    shares = cells.counts / n
    found = [
        delta_interval(value, gradient, shares, n)
        for value, gradient in mean_scores(cells, by_support=by_support)
    ]
    return Averages(precision=found[0], recall=found[1], f1=found[2])


def _scores(cells: Cells) -> tuple[Shares, Shares, Shares]:
    support, answered, hits = cells.support, cells.answered, cells.hits
    return (
        hits / np.maximum(answered, 1),
        hits / np.maximum(support, 1),
        2 * hits / np.maximum(support + answered, 1),
    )


def mean_scores(cells: Cells, *, by_support: bool) -> list[tuple[float, Shares]]:
    """Mean precision, recall and F1, each with its derivative by the share of every cell (c,).

    With row sums r, column sums s and hits h as shares of all samples, a score is c·h / d, where d
    is s, r or r + s and c is 1, 1 or 2. A cell (i, j) adds to r_i and to s_j, and to h_i where
    i = j. Weights that are the support move with r_i as well.
    """
    n = int(cells.counts.sum())
    support, answered = cells.support, cells.answered
    seen = (support + answered) > 0
    weights = support / n if by_support else seen / seen.sum()
    i, j = cells.labels, cells.answers
    found = []
    for score, factor, by_row, by_column in zip(
        _scores(cells), (1.0, 1.0, 2.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), strict=True
    ):
        whole = (by_row * support + by_column * answered) / n
        rate = weights / np.where(whole > 0, whole, 1)
        gradient = np.where(i == j, factor * rate[i], 0.0)
        gradient -= by_row * (rate * score)[i] + by_column * (rate * score)[j]
        if by_support:
            gradient += score[i]
        found.append((float((weights * score).sum()), gradient))
    return found
