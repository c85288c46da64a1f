"""Quality of a model's outputs from one pass: macro means, top-5, agreement, divergence.

    outputs, labels, reference outputs ──add, batch by batch──► result ► QualityRecord

Two records over the same samples are compared as pairs: `paired_drop` looks at the samples on
which just one of the two is right, which is far sharper than comparing two accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.divergence import Floats, divergences

Labels = NDArray[Any]
Metric = Callable[[Floats, Labels], float]

_TOP = 5
_Z95 = 1.959963984540054


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRecord:
    """How good the outputs of one candidate were.

    Args:
        n: Samples.
        accuracy: Share whose highest output is the label; None where labels are not classes.
        top5: Share whose label is among the five highest outputs; None below five outputs.
        precision_macro, recall_macro, f1_macro: Means over the classes that occur among labels or
            answers; a class never answered has precision 0, one without labels recall 0.
        agreement: Share with the reference's answer; None without a reference.
        logit_divergence: Mean over samples of KL(softmax(reference) ‖ softmax(outputs)) in nats.
        metric: The task's own metric over all outputs, higher is better; None where none is given.
        correct_bits: One bit a sample, in order, packed (highest bit first), as hex digits.
    """

    n: int
    accuracy: float | None
    top5: float | None
    precision_macro: float | None
    recall_macro: float | None
    f1_macro: float | None
    agreement: float | None
    logit_divergence: float | None
    metric: float | None = None
    correct_bits: str = ""

    def __post_init__(self) -> None:
        """Refuse bits that are not those of n samples."""
        digits = set(self.correct_bits) <= set("0123456789abcdef")
        if not digits or len(self.correct_bits) not in (0, 2 * -(-self.n // 8)):
            msg = (
                f"correct_bits of {len(self.correct_bits)} characters are not those of {self.n}"
                " samples: the record is damaged; judge the candidate again"
            )
            raise MeasureError(msg)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """For each sample whether the answer was right; shape (n,), empty without classes."""
        packed = np.frombuffer(bytes.fromhex(self.correct_bits), dtype=np.uint8)
        count = self.n if self.correct_bits else 0
        return np.unpackbits(packed, count=count).astype(np.bool_)


@final
class Quality:
    """Takes in batches; keeps counts and one bit a sample, outputs only where a metric needs them.

    Args:
        classes: Number of classes, or None where labels are not classes (regression).
        metric: `metric(outputs (n, k), labels (n,)) -> float` over everything, higher is better.

    Example:
        >>> quality = Quality(classes=3)
        >>> quality.add(np.eye(3), np.array([0, 1, 1]))
        >>> round(quality.result().accuracy, 3)
        0.667
    """

    def __init__(self, *, classes: int | None, metric: Metric | None = None) -> None:
        self._classes = classes
        self._metric = metric
        # Diagonal, column sums and row sums of the confusion matrix: all the macro means need.
        self._hits = np.zeros(classes or 0, dtype=np.int64)
        self._answered = np.zeros(classes or 0, dtype=np.int64)
        self._labelled = np.zeros(classes or 0, dtype=np.int64)
        self._correct: list[NDArray[np.bool_]] = []
        self._in_top = 0
        self._wide = True
        self._n = 0
        self._agreeing = 0
        self._divergence_sum = 0.0
        self._referenced = 0
        self._kept: list[tuple[Floats, Labels]] = []

    def add(self, outputs: Floats, labels: Labels, reference_outputs: Floats | None = None) -> None:
        """Take in a batch.

        Args:
            outputs: (n, k).
            labels: (n,) class numbers, or (n, ...) targets where labels are not classes.
            reference_outputs: (n, k) of the model the candidate is compared with.

        Raises:
            MeasureError: Shapes do not fit, outputs are not finite, or a label is no class.
        """
        _check_batch(outputs, labels, reference_outputs)
        self._n += len(outputs)
        if self._classes is not None:
            self._count(outputs, _class_numbers(labels, self._classes))
        if reference_outputs is not None:
            self._referenced += len(outputs)
            same = outputs.argmax(1) == reference_outputs.argmax(1)
            self._agreeing += int(same.sum())
            self._divergence_sum += float(divergences(reference_outputs, outputs).sum())
        if self._metric is not None:
            self._kept.append((outputs.copy(), labels.copy()))

    def _count(self, outputs: Floats, labels: NDArray[np.int64]) -> None:
        assert self._classes is not None
        answers = outputs.argmax(1)
        if outputs.shape[1] > self._classes:
            msg = (
                f"outputs have {outputs.shape[1]} columns but the task has {self._classes} classes:"
                " give the labels the model was trained on"
            )
            raise MeasureError(msg)
        right = answers == labels
        self._hits += np.bincount(labels[right], minlength=self._classes)
        self._answered += np.bincount(answers, minlength=self._classes)
        self._labelled += np.bincount(labels, minlength=self._classes)
        self._correct.append(right)
        self._wide = outputs.shape[1] >= _TOP
        self._in_top += int((_ranks(outputs, labels) < _TOP).sum())

    def result(self) -> QualityRecord:
        """The record of everything added.

        Raises:
            MeasureError: Nothing was added, or only some batches had a reference.
        """
        if self._n == 0:
            msg = "cannot judge no samples: add at least one batch"
            raise MeasureError(msg)
        if self._referenced not in (0, self._n):
            msg = (
                f"{self._referenced} of {self._n} samples have reference outputs:"
                " give them for all batches or none"
            )
            raise MeasureError(msg)
        classed = self._classes is not None
        macro = _macro(self._hits, self._answered, self._labelled) if classed else (None,) * 3
        correct = np.concatenate(self._correct) if classed else np.zeros(0, np.bool_)
        return QualityRecord(
            n=self._n,
            accuracy=float(correct.mean()) if classed else None,
            top5=self._in_top / self._n if classed and self._wide else None,
            precision_macro=macro[0],
            recall_macro=macro[1],
            f1_macro=macro[2],
            agreement=self._agreeing / self._n if self._referenced else None,
            logit_divergence=self._divergence_sum / self._n if self._referenced else None,
            metric=self._metric_value(),
            correct_bits=np.packbits(correct).tobytes().hex(),
        )

    def _metric_value(self) -> float | None:
        if self._metric is None:
            return None
        outputs = np.concatenate([part for part, _ in self._kept])
        return float(self._metric(outputs, np.concatenate([part for _, part in self._kept])))


def paired_drop(reference: QualityRecord, candidate: QualityRecord) -> tuple[float, float, float]:
    """Accuracy lost against the reference on the same samples, with a 95 % interval.

    With b samples only the reference gets right and c only the candidate, the drop is (b − c)/n.
    The interval is Wald's for paired proportions with half an observation added to each of the
    four cells: d ± 1.96 √(b' + c' − (b' − c')²/n') / n', where b' = b + ½, c' = c + ½, n' = n + 2.

    Returns:
        Drop (positive: the candidate is worse), its lower and its upper end, as shares of one.

    Raises:
        MeasureError: The two were not judged on the same number of samples, or not by classes.

    Reference:
        Agresti, Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24, 2005.
    """
    a, b = reference.correct, candidate.correct
    if len(a) != len(b) or not len(a):
        msg = (
            f"cannot pair {len(a)} judged samples with {len(b)}:"
            " judge both by classes on the same samples, or use paired_drop_by_metric"
        )
        raise MeasureError(msg)
    lost, gained, n = int((a & ~b).sum()), int((b & ~a).sum()), len(a)
    centre = (lost - gained) / (n + 2)
    spread = math.sqrt(lost + gained + 1 - (lost - gained) ** 2 / (n + 2)) / (n + 2)
    drop = (lost - gained) / n
    return drop, max(-1.0, centre - _Z95 * spread), min(1.0, centre + _Z95 * spread)


def paired_drop_by_metric(
    metric: Metric,
    labels: Labels,
    reference_outputs: Floats,
    outputs: Floats,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Loss of any metric against the reference, with a 95 % interval by paired bootstrap.

    Samples are drawn with replacement, the same for both, and the 2.5th and 97.5th percentile of
    the differences are the ends.

    Returns:
        metric(reference) − metric(candidate), its lower and its upper end.
    """
    rng = np.random.default_rng(seed)

    def drop(rows: NDArray[np.int64]) -> float:
        return metric(reference_outputs[rows], labels[rows]) - metric(outputs[rows], labels[rows])

    n = len(labels)
    drawn = [drop(rng.integers(0, n, n)) for _ in range(draws)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(drop(np.arange(n))), float(low), float(high)


def _check_batch(outputs: Floats, labels: Labels, reference: Floats | None) -> None:
    if outputs.ndim != 2 or len(labels) != len(outputs):
        msg = (
            f"outputs {outputs.shape} and labels {labels.shape} do not fit:"
            " give (n, k) outputs and n labels"
        )
        raise MeasureError(msg)
    if reference is not None and reference.shape != outputs.shape:
        msg = (
            f"outputs {outputs.shape} and reference outputs {reference.shape} differ in shape:"
            " give the outputs of both models for the same samples"
        )
        raise MeasureError(msg)
    for title, values in (("outputs", outputs), ("reference outputs", reference)):
        if values is None or np.isfinite(values).all():
            continue
        rows = np.flatnonzero(~np.isfinite(values).all(1))
        msg = (
            f"{title} of {len(rows)} of {len(values)} samples are not finite (first: {rows[0]}):"
            " look at the model's weights and at the preprocessing"
        )
        raise MeasureError(msg)


def _class_numbers(labels: Labels, classes: int) -> NDArray[np.int64]:
    numbers = np.asarray(labels)
    whole = numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer)
    if not whole or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < classes):
        low, high = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
        msg = (
            f"labels are {numbers.dtype} {numbers.shape} from {low} to {high}:"
            f" class numbers 0 to {classes - 1} are needed"
        )
        raise MeasureError(msg)
    return numbers.astype(np.int64)


def _ranks(outputs: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of the label among the outputs, 0 = highest; ties go to the lower class number."""
    own = outputs[np.arange(len(labels)), labels.clip(max=outputs.shape[1] - 1)][:, None]
    earlier = np.arange(outputs.shape[1]) < labels[:, None]
    ranks: NDArray[np.int64] = ((outputs > own) | ((outputs == own) & earlier)).sum(1)
    return np.where(labels < outputs.shape[1], ranks, outputs.shape[1])


def _macro(
    hits: NDArray[np.int64], answered: NDArray[np.int64], labelled: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Precision, recall and F1, each the mean over classes among labels or answers."""
    seen = (answered + labelled) > 0
    hits, answered, labelled = hits[seen], answered[seen], labelled[seen]
    precision = hits / np.maximum(answered, 1)
    recall = hits / np.maximum(labelled, 1)
    f1 = 2 * hits / (answered + labelled)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())
