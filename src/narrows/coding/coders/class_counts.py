"""What each class of adaptive ANS has seen so far, and what its codes are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.coders.magnitudes import prior_counts
from narrows.coding.coders.stack import TOTAL

REACH: Final = 60
"""Symbols -60 … 60 have counts; what lies outside escapes."""
ESCAPE: Final = 2 * REACH + 1
_FIRST: Final = 32
_UNIT: Final = 256  # what one symbol adds to a count
_WEIGHT: Final = 64  # symbols that a prior weighs as many as
_MEAN_BITS: Final = 2  # of the mean magnitude of a class that is left after shifting


class Counts:
    """What a class has seen so far."""

    __slots__ = ("_counts", "_seen")

    def __init__(self, level: int) -> None:
        self._counts = prior_counts(level, REACH, _WEIGHT * _UNIT)
        self._seen = 0

    def blocks(self, length: int) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """First, last and counts of the parts of a sequence; `learn` must follow each."""
        first = 0
        while first < length:
            last = min(length, first + max(_FIRST, self._seen))
            yield first, last, self._scaled()
            first = last

    def learn(self, codes: NDArray[Any]) -> None:
        """Take in what was coded."""
        self._counts += _UNIT * np.bincount(codes, minlength=self._counts.size)
        self._seen += codes.size

    def bits(self) -> NDArray[np.float64]:
        """What each code takes, by the counts so far."""
        return np.asarray(np.log2(TOTAL) - np.log2(self._scaled()))

    def _scaled(self) -> NDArray[np.int64]:
        counts = self._counts * (TOTAL - self._counts.size) // self._counts.sum() + 1
        counts[counts.argmax()] += TOTAL - counts.sum()
        return np.asarray(counts)


def low_bits(level: int) -> int:
    """How many low bits of a class are coded as they are."""
    return max(0, level // 4 - _MEAN_BITS)


def state_of(level: int, found: dict[int, Counts]) -> tuple[int, Counts]:
    """The low bits of a class (`low_bits`), and its counts so far.

    Args:
        level: The class.
        found: Counts of the classes seen; those of a new one are added.
    """
    shift = low_bits(level)
    if level not in found:
        found[level] = Counts(level - 4 * shift)
    return shift, found[level]


def codes_of(high: NDArray[Any]) -> NDArray[np.int32]:
    """Symbols as places among the counts, `ESCAPE` for those outside."""
    outside = (high > REACH) | (high < -REACH)
    return np.where(outside, np.int32(ESCAPE), high + np.int32(REACH)).astype(np.int32)
