"""One number for a model's answers, higher being better: by name, or a user's own function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import ConfigError, TaskError
from narrows.references import is_reference, load_reference

Outputs = NDArray[np.floating[Any]]
Labels = NDArray[Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A named function of outputs and labels.

    Args:
        name: As the task gives it.
        score: Outputs (n, k) and labels (n,) to a number, higher being better.
        chance_hits: How many of k equal guesses count as right (1 for top-1, 5 for top-5); None
            where chance has no meaning.
    """

    name: str
    score: Callable[[Outputs, Labels], float]
    chance_hits: int | None = None

    def __call__(self, outputs: Outputs, labels: Labels) -> float:
        """The score of outputs (n, k) for labels (n,).

        Raises:
            TaskError: The function failed or did not give one number.

        Example:
            >>> METRICS["top1"](np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
            0.5
        """
        try:
            return float(self.score(outputs, labels))
        except Exception as error:
            shapes = f"outputs {outputs.shape} and labels {labels.shape}"
            msg = f"metric {self.name!r} failed on {shapes}: {type(error).__name__}: {error}"
            raise TaskError(msg) from error

    def chance(self, classes: int) -> float | None:
        """What guessing gives, or None where that has no meaning."""
        return None if self.chance_hits is None else min(1.0, self.chance_hits / classes)


def top1(outputs: Outputs, labels: Labels) -> float:
    """Share of samples whose largest output is the label."""
    return float((outputs.argmax(axis=1) == labels).mean())


def top5(outputs: Outputs, labels: Labels) -> float:
    """Share of samples whose label is among the five largest outputs."""
    five = min(5, outputs.shape[1])
    best = np.argpartition(-outputs, five - 1, axis=1)[:, :five]
    return float((best == labels[:, None]).any(axis=1).mean())


def f1_macro(outputs: Outputs, labels: Labels) -> float:
    """F1 of each class that is there or is answered, averaged: 2·right / (there + answered).

    Example:
        >>> f1_macro(np.eye(3)[[0, 1, 1]], np.array([0, 1, 2])).__round__(3)
        0.556
    """
    answered = outputs.argmax(axis=1)
    scores = []
    for label in np.union1d(labels, answered):
        right = np.count_nonzero((answered == label) & (labels == label))
        total = np.count_nonzero(answered == label) + np.count_nonzero(labels == label)
        scores.append(2 * right / total)
    return float(np.mean(scores))


def negative_rmse(outputs: Outputs, labels: Labels) -> float:
    """Minus the root of the mean squared error, so that higher is better."""
    answers, targets = (a.reshape(len(labels), -1) for a in (outputs, labels))
    if answers.shape != targets.shape:
        msg = f"{answers.shape[1]} outputs for {targets.shape[1]} targets"
        raise ValueError(msg)
    error = answers - targets
    return -float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


def negative_word_errors(outputs: Outputs, labels: Labels, *, space: int | None = None) -> float:
    """Minus the word error rate of strings: words put in, left out or wrong, by words there are.

    A string is read off greedily: the largest output of each step, repetitions once, no blanks.

    Args:
        outputs: (n, steps, k), 0 being the blank of connectionist temporal classification.
        labels: (n, longest), numbers from 1; zeros after the end of the string.
        space: The number that stands between words; by default each number is a word.

    Example:
        >>> outputs = np.eye(3)[[[1, 1, 0, 1, 2, 2]]]  # reads 1, 1, 2
        >>> negative_word_errors(outputs, np.array([[1, 2, 0]]))
        -0.5
    """
    found = outputs.argmax(axis=-1)
    fresh = np.diff(found, axis=1, prepend=0) != 0
    edits = words = 0
    for row, starts, label in zip(found, fresh, labels, strict=True):
        read, wanted = _words(row[starts & (row > 0)], space), _words(label[label > 0], space)
        edits, words = edits + _edits(read, wanted), words + len(wanted)
    return -edits / words


def _words(numbers: NDArray[Any], space: int | None) -> list[tuple[int, ...]]:
    if space is None:
        return [(number,) for number in numbers.tolist()]
    parts = np.split(numbers, np.flatnonzero(numbers == space))
    words = (tuple(part[part != space].tolist()) for part in parts)
    return [word for word in words if word]


def _edits(read: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> int:
    """Fewest words to put in, leave out or change so that one list becomes the other."""
    row = list(range(len(wanted) + 1))
    for count, word in enumerate(read, start=1):
        before, row[0] = row[0], count
        for place, other in enumerate(wanted, start=1):
            best = min(row[place] + 1, row[place - 1] + 1, before + (word != other))
            before, row[place] = row[place], best
    return row[-1]


METRICS: Final = MappingProxyType(
    {
        "top1": Metric(name="top1", score=top1, chance_hits=1),
        "top5": Metric(name="top5", score=top5, chance_hits=5),
        "f1-macro": Metric(name="f1-macro", score=f1_macro, chance_hits=1),
        "rmse": Metric(name="rmse", score=negative_rmse),
        "wer": Metric(name="wer", score=negative_word_errors),
        "wer-letters": Metric(name="wer-letters", score=partial(negative_word_errors, space=1)),
    }
)


def load_metric(name: str, *, folder: Path | None = None) -> Metric:
    """A built-in metric, or a user's own by `module:function`.

    Raises:
        TaskError: There is no such metric.
    """
    if name in METRICS:
        return METRICS[name]
    if not is_reference(name):
        msg = f"no metric {name!r}: choose one of {', '.join(METRICS)}, or give module:function"
        raise TaskError(msg)
    try:
        function = load_reference(name, folder=folder)
    except ConfigError as error:
        msg = f"cannot load the metric: {error}"
        raise TaskError(msg) from error
    if not callable(function):
        msg = f"metric {name!r} is a {type(function).__name__}: expected a function"
        raise TaskError(msg)
    return Metric(name=name, score=function)
