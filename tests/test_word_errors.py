"""The word error rate is the edit distance of what is read off, by all words there are."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest

from narrows.errors import TaskError
from narrows.metrics import METRICS


def distance(read: tuple[object, ...], wanted: tuple[object, ...]) -> int:
    @lru_cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        change = of(i - 1, j - 1) + (read[i - 1] != wanted[j - 1])
        return min(change, of(i - 1, j) + 1, of(i, j - 1) + 1)

    return of(len(read), len(wanted))


@pytest.mark.parametrize("name", ["wer", "wer-letters"])
def test_it_is_the_edit_distance_of_the_greedy_path(name: str) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(40, 12, 4))
    labels = np.array([[*rng.integers(1, 4, n), *[0] * (5 - n)] for n in rng.integers(1, 6, 40)])
    labels[:, 0] = 2  # so that each has a word, also where 1 is the space
    edits = words = 0
    for row, label in zip(outputs.argmax(-1), labels, strict=True):
        pair = []
        for numbers in ([k for k, _ in itertools.groupby(row) if k], [k for k in label if k]):
            text = "".join(map(str, numbers))
            pair.append(tuple(text) if name == "wer" else tuple(text.replace("1", " ").split()))
        edits, words = edits + distance(*pair), words + len(pair[1])
    assert METRICS[name](outputs, labels) == pytest.approx(-edits / words)


def test_repetitions_count_once_unless_a_blank_is_between() -> None:
    outputs = np.eye(3)[[[1, 1, 0, 1, 2, 2]]]
    assert METRICS["wer"](outputs, np.array([[1, 1, 2]])) == 0
    assert METRICS["wer"](outputs, np.array([[1, 2, 0]])) == -0.5


def test_labels_without_words_are_refused() -> None:
    with pytest.raises(TaskError, match="metric 'wer' failed"):
        METRICS["wer"](np.eye(3)[[[1, 1]]], np.zeros((1, 4), int))
