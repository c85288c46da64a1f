"""How large symbols are by row and by column, in quarters of an octave; integers only.

A level L stands for a mean magnitude of 2^(L/4). The class of a symbol is the level of its row plus
that of its column, which is relative to the level of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

LOWEST: Final = -40
HIGHEST: Final = 124
FARTHEST: Final = 60
"""Steps that a row or a column can be from the level of all."""
STEPS: Final = (1, 2, 4)
"""How coarse levels of rows and columns can be, in quarters of an octave."""
_ONE: Final = 1 << 16
_ROOTS: Final = (65536, 77936, 92682, 110218)  # 2^(k/4) · 2^16
_EDGES: Final = (71468, 84990, 101070, 120194)  # 2^(k/4 + 1/8) · 2^16


def _shifted(value: int, octaves: int) -> int:
    return value << octaves if octaves >= 0 else value >> -octaves


_THRESHOLDS: Final = np.array(
    [_shifted(_EDGES[level % 4], level // 4) for level in range(LOWEST, HIGHEST)], np.int64
)


def level_of(magnitudes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Levels of sums of magnitudes.

    Args:
        magnitudes: Sums, each of `count` symbols.
        count: From 1.

    Example:
        >>> level_of(np.array([0, 100, 200, 283, 10**9]), 100).tolist()
        [-40, 0, 4, 6, 93]
    """
    whole, rest = magnitudes // count, magnitudes % count
    mean = (whole << 16) + (rest << 16) // count
    return np.searchsorted(_THRESHOLDS, mean).astype(np.int64) + LOWEST


def prior_counts(level: int, reach: int, weight: int) -> NDArray[np.int64]:
    """Counts of a distribution that is geometric to both sides.

    Args:
        level: Of its mean magnitude.
        reach: The largest symbol with a count.
        weight: About what the counts sum to.

    Returns:
        Counts of the symbols -reach … reach, and of all others.

    Example:
        >>> prior_counts(0, 2, 1000).tolist()
        [98, 196, 391, 196, 98, 25]
    """
    mean = _shifted(_ROOTS[level % 4], level // 4)
    ratio = (mean << 16) // (mean + _ONE)
    value = 1 << 20
    side = []
    for _ in range(reach):
        value = value * ratio >> 16
        side.append(value)
    counts = np.array([*side[::-1], 1 << 20, *side, side[-1] >> 2], np.int64)
    return np.asarray(counts * weight // counts.sum() + 1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Levels of all symbols together, and of rows and columns beside it, in steps.

    Args:
        base: Of all.
        step: Of the differences, one of `STEPS`.
        rows: Difference of each row in steps, or None.
        columns: Of each column, or None.
    """

    base: int
    step: int = 1
    rows: NDArray[np.int64] | None = None
    columns: NDArray[np.int64] | None = None

    def classes(self, first: int, last: int, width: int) -> NDArray[np.int16]:
        """The class of each symbol from a flat index up to another, in rows of a width."""
        index = np.arange(first, last)
        found = np.full(index.shape, self.base, np.int64)
        if self.rows is not None:
            found += self.step * self.rows[index // width]
        if self.columns is not None:
            found += self.step * self.columns[index % width]
        return found.clip(LOWEST, HIGHEST).astype(np.int16)


def candidates(symbols: NDArray[np.int32]) -> list[Levels]:
    """Levels worth trying for symbols (rows, columns): of all, of rows, of columns, of both."""
    size = np.abs(symbols.astype(np.int64))
    rows, columns = (level_of(size.sum(1 - axis), size.shape[1 - axis]) for axis in (0, 1))
    base = int(level_of(size.sum(keepdims=True).reshape(1), size.size)[0])
    found = [Levels(base=base)]
    for step in STEPS:
        parts = [
            ((values - base + step // 2) // step).clip(-FARTHEST, FARTHEST)
            if len(values) > 1
            else None
            for values in (rows, columns)
        ]
        for chosen in ((parts[0], None), (None, parts[1]), (parts[0], parts[1])):
            if any(part is not None for part in chosen):
                found.append(Levels(base=base, step=step, rows=chosen[0], columns=chosen[1]))
    return found
