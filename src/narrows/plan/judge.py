"""Answers, example by example: what a score, a paired drop and a resumed plan are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import TaskError
from narrows.measure.divergence import Scale, divergences, scale_of
from narrows.measure.quality import QualityRecord, paired_drop, paired_drop_by_metric
from narrows.metrics import Metric
from narrows.plan.candidate import Drop, Score
from narrows.task import Task

_TOP = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """How one candidate answered some examples of a set.

    Args:
        rows: Their places in the set (n,).
        correct: Whether the answer is the label (n,); empty for regression.
        in_top5: Whether the label is among the first five (n,); empty for regression.
        agrees: Whether the answer is the uncompressed model's (n,); empty for regression.
        divergence: KL(uncompressed || candidate) in nats (n,); empty for regression.
        outputs: (n, k) where the metric needs them, else (n, 0).
    """

    rows: NDArray[np.int64]
    correct: NDArray[np.bool_]
    in_top5: NDArray[np.bool_]
    agrees: NDArray[np.bool_]
    divergence: NDArray[np.float32]
    outputs: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, to be stored."""
        return {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Turns outputs into answers, and answers into scores.

    Args:
        metric: The task's.
        classed: Whether labels are class numbers.
        scale: What the outputs are.
    """

    metric: Metric
    classed: bool
    scale: Scale

    def answers(
        self,
        rows: NDArray[np.int64],
        outputs: NDArray[np.float32],
        labels: NDArray[Any],
        reference: NDArray[np.float32],
    ) -> Answers:
        """Judge a batch: outputs and reference (n, k), labels (n,) or (n, ...)."""
        none = np.zeros(0, np.bool_)
        kept = outputs if self._needs_outputs else outputs[:, :0]
        if not self.classed:
            return Answers(
                rows=rows,
                correct=none,
                in_top5=none,
                agrees=none,
                divergence=np.zeros(0, np.float32),
                outputs=kept,
            )
        own = outputs[np.arange(len(rows)), labels][:, None]
        answered = outputs.argmax(1)
        return Answers(
            rows=rows,
            correct=answered == labels,
            in_top5=(outputs > own).sum(1) < _TOP,
            agrees=answered == reference.argmax(1),
            divergence=divergences(reference, outputs, self.scale).astype(np.float32),
            outputs=kept,
        )

    def score(self, answers: Answers, labels: NDArray[Any], width: int) -> Score:
        """Score of answers; `labels` of the whole set, `width` the number of outputs."""
        n = len(answers.rows)
        return Score(
            n=n,
            accuracy=self._metric_value(answers, labels),
            top5=float(answers.in_top5.mean()) if self.classed and width > _TOP else None,
            agreement=float(answers.agrees.mean()) if self.classed else None,
            logit_divergence=float(answers.divergence.mean()) if self.classed else None,
        )

    def drop(self, reference: Answers, candidate: Answers, labels: NDArray[Any]) -> Drop:
        """Metric lost against the reference on the candidate's examples."""
        place = {int(row): i for i, row in enumerate(reference.rows)}
        picked = np.array([place[int(row)] for row in candidate.rows], np.int64)
        if self._needs_outputs:
            value, low, high = paired_drop_by_metric(
                self.metric,
                labels[candidate.rows],
                reference.outputs[picked],
                candidate.outputs,
                draws=200,
            )
            return Drop(value=value, low=low, high=high)
        hits, other = self._hits(reference)[picked], self._hits(candidate)
        value, low, high = paired_drop(_record(hits), _record(other))
        return Drop(value=value, low=low, high=high)

    @property
    def _needs_outputs(self) -> bool:
        return not self.classed or self.metric.name not in ("top1", "top5")

    def _hits(self, answers: Answers) -> NDArray[np.bool_]:
        return answers.in_top5 if self.metric.name == "top5" else answers.correct

    def _metric_value(self, answers: Answers, labels: NDArray[Any]) -> float:
        if self._needs_outputs:
            value = self.metric(answers.outputs, labels[answers.rows])
            if not np.isfinite(value):
                n = len(answers.rows)
                msg = f"metric {self.metric.name!r} gave {value} for {n} examples: correct it"
                raise TaskError(msg)
            return value
        return float(self._hits(answers).mean())


def judge_of(task: Task, outputs: NDArray[np.float32]) -> Judge:
    """The judge of a task: by classes where labels are class numbers.

    Args:
        task: The task.
        outputs: Of the uncompressed model for some inputs (n, k), which tell logits from
            probabilities once for all that is judged.
    """
    labels = task.choose.labels
    numbered = labels.dtype.kind in "iu" and labels.ndim == 1
    classed = numbered and task.metric.name != "rmse"
    return Judge(metric=task.metric, classed=classed, scale=scale_of(outputs))


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers to several parts of a set as one."""
    names = Answers.__slots__
    return Answers(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def _record(hits: NDArray[np.bool_]) -> QualityRecord:
    return QualityRecord(
        n=len(hits),
        accuracy=float(hits.mean()),
        top5=None,
        precision_macro=None,
        recall_macro=None,
        f1_macro=None,
        agreement=None,
        logit_divergence=None,
        correct_bits=np.packbits(hits).tobytes().hex(),
    )
