"""Quality of a model's outputs from one pass: macro means, top-5, agreement, divergence.

    outputs, labels, reference outputs ──add, batch by batch──► result ► QualityRecord
                                                             └► report ► ClassReport

Two records over the same samples are compared as pairs: `paired_drop` looks at the samples on
which just one of the two is right, which is far sharper than comparing two accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.class_averages import cells_of, mean_scores
from narrows.measure.class_report import ClassReport, class_report
from narrows.measure.divergence import SCALES, Floats, Scale, divergences, log_shares, scale_of
from narrows.measure.intervals import Z95
from narrows.measure.scores import Labels, check_batch, class_numbers, ranks

Metric = Callable[[Floats, Labels], float]

_TOP = 5


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
    """Takes in batches; keeps a label, an answer and a rank a sample, outputs only for a metric.

    Args:
        classes: Number of classes, or None where labels are not classes (regression).
        metric: `metric(outputs (n, k), labels (n,)) -> float` over everything, higher is better.
        details: Keep the confidence of every answer too, so that `report` can be asked for.

    Example:
        >>> quality = Quality(classes=3)
        >>> quality.add(np.eye(3), np.array([0, 1, 1]))
        >>> round(quality.result().accuracy, 3)
        0.667
    """

    def __init__(
        self, *, classes: int | None, metric: Metric | None = None, details: bool = False
    ) -> None:
        self._classes, self._metric, self._details = classes, metric, details
        self._labels: list[NDArray[np.int64]] = []
        self._answers: list[NDArray[np.int64]] = []
        self._ranks: list[NDArray[np.int64]] = []
        self._width = 0
        self._n = 0
        self._agreeing = 0
        self._referenced = 0
        self._kept: list[tuple[Floats, Labels]] = []
        # What scores are is settled by all of them together, so both readings are kept until then.
        self._scales: set[Scale] = set()
        self._confidence: dict[Scale, list[NDArray[np.float64]]] = {s: [] for s in SCALES}
        self._divergence_sum: dict[Scale, float] = dict.fromkeys(SCALES, 0.0)

    def add(self, outputs: Floats, labels: Labels, reference_outputs: Floats | None = None) -> None:
        """Take in a batch.

        Args:
            outputs: (n, k).
            labels: (n,) class numbers, or (n, ...) targets where labels are not classes.
            reference_outputs: (n, k) of the model the candidate is compared with.

        Raises:
            MeasureError: Shapes do not fit, outputs are not finite, or a label is no class.
        """
        check_batch(outputs, labels, reference_outputs)
        if self._classes is not None:
            self._count(outputs, class_numbers(labels, self._classes), self._classes)
        self._n += len(outputs)
        self._scales.add(scale_of(outputs if reference_outputs is None else reference_outputs))
        if reference_outputs is not None:
            self._referenced += len(outputs)
            same = outputs.argmax(1) == reference_outputs.argmax(1)
            self._agreeing += int(same.sum())
            for scale in SCALES:
                apart = divergences(reference_outputs, outputs, scale)
                self._divergence_sum[scale] += float(apart.sum())
        if self._metric is not None:
            self._kept.append((outputs.copy(), labels.copy()))

    def _count(self, outputs: Floats, labels: NDArray[np.int64], classes: int) -> None:
        if outputs.shape[1] > classes:
            msg = (
                f"outputs have {outputs.shape[1]} columns but the task has {classes} classes:"
                " give the labels the model was trained on"
            )
            raise MeasureError(msg)
        self._labels.append(labels)
        self._answers.append(outputs.argmax(1))
        self._ranks.append(ranks(outputs, labels))
        self._width = outputs.shape[1]
        if self._details:
            for scale in SCALES:
                self._confidence[scale].append(np.exp(log_shares(outputs, scale).max(1)))

    def result(self) -> QualityRecord:
        """The record of everything added.

        Raises:
            MeasureError: Nothing was added, or only some batches had a reference.
        """
        self._check_whole()
        referenced = self._referenced > 0
        found = QualityRecord(
            n=self._n,
            accuracy=None,
            top5=None,
            precision_macro=None,
            recall_macro=None,
            f1_macro=None,
            agreement=self._agreeing / self._n if referenced else None,
            logit_divergence=self._divergence_sum[self._scale] / self._n if referenced else None,
            metric=self._metric_value(),
        )
        if self._classes is None:
            return found
        labels, answers = np.concatenate(self._labels), np.concatenate(self._answers)
        macro = mean_scores(cells_of(labels, answers, self._classes), by_support=False)
        in_top = np.concatenate(self._ranks) < _TOP
        return replace(
            found,
            accuracy=float((labels == answers).mean()),
            top5=float(in_top.mean()) if self._width >= _TOP else None,
            precision_macro=macro[0][0],
            recall_macro=macro[1][0],
            f1_macro=macro[2][0],
            correct_bits=np.packbits(labels == answers).tobytes().hex(),
        )

    def report(self, *, top: Sequence[int] = (1, _TOP)) -> ClassReport:
        """Everything that can be said of classes, with intervals.

        Args:
            top: The k of the top-k shares; those above the number of outputs are left out.

        Raises:
            MeasureError: Nothing was added, labels are not classes, or `details` was not asked for.
        """
        self._check_whole()
        if self._classes is None or not self._details:
            msg = "no report by classes: make Quality(classes=..., details=True) and add again"
            raise MeasureError(msg)
        return class_report(
            labels=np.concatenate(self._labels),
            answers=np.concatenate(self._answers),
            ranks=np.concatenate(self._ranks),
            confidence=np.concatenate(self._confidence[self._scale]),
            scale=self._scale,
            classes=self._classes,
            top=[k for k in top if k <= self._width],
            agreeing=self._agreeing if self._referenced else None,
        )

    @property
    def _scale(self) -> Scale:
        return "logits" if "logits" in self._scales else "probabilities"

    def _check_whole(self) -> None:
        if self._n == 0:
            msg = "cannot judge no samples: add at least one batch"
            raise MeasureError(msg)
        if self._referenced not in (0, self._n):
            msg = (
                f"{self._referenced} of {self._n} samples have reference outputs:"
                " give them for all batches or none"
            )
            raise MeasureError(msg)

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
    return drop, max(-1.0, centre - Z95 * spread), min(1.0, centre + Z95 * spread)


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
