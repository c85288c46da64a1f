"""The Pareto frontier: the candidates that no other one beats in every respect."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from narrows.plan.candidate import Candidate


def pareto(points: ArrayLike) -> NDArray[np.bool_]:
    """Which rows no other row dominates, all columns to be made small.

    A row dominates another if it is nowhere larger and somewhere smaller; equal rows do not
    dominate each other. With up to three columns this takes O(n log n) comparisons (a sweep in
    the first column over a staircase of the others); with more, O(n · frontier).

    Args:
        points: (n, k) numbers.

    Returns:
        (n,) mask.

    Example:
        >>> pareto([[1, 5], [2, 2], [3, 3], [2, 2]]).tolist()
        [True, True, False, True]
    """
    values = np.asarray(points, dtype=np.float64)
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    values = values.reshape(len(values), -1)
    unique, inverse = np.unique(values, axis=0, return_inverse=True)
    columns = unique.shape[1]
    if columns <= 3:
        padded = np.concatenate([unique, np.zeros((len(unique), 3 - columns))], axis=1)
        kept = _sweep(padded)
    else:
        kept = _filter(unique)
    return kept[np.asarray(inverse).reshape(-1)]


def _sweep(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows (n, 3), distinct and sorted: keep those under the staircase of (second, third).

    `ys` rises and `zs` falls: a row is dominated by an earlier one exactly if the last step with
    y at most its own has z at most its own.
    """
    kept = np.ones(len(rows), dtype=np.bool_)
    ys: list[float] = []
    zs: list[float] = []
    for i, (_, y, z) in enumerate(rows.tolist()):
        place = bisect_right(ys, y)
        if place and zs[place - 1] <= z:
            kept[i] = False
            continue
        first = bisect_left(ys, y)
        last = first
        while last < len(ys) and zs[last] >= z:
            last += 1
        ys[first:last], zs[first:last] = [y], [z]
    return kept


def _filter(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows (n, k), distinct and sorted: nothing later can dominate something earlier."""
    kept = np.zeros(len(rows), dtype=np.bool_)
    frontier = np.empty_like(rows)
    size = 0
    for i, row in enumerate(rows):
        if not np.any(np.all(frontier[:size] <= row, axis=1)):
            frontier[size], kept[i] = row, True
            size += 1
    return kept


def frontier_ids(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Ids of the candidates on the frontier of metric, payload, device MACs and latency."""
    if not candidates:
        return ()
    mask = pareto(
        [
            (-c.choose.accuracy, c.payload_bytes, c.cost.device_macs, c.cost.latency_s)
            for c in candidates
        ]
    )
    return tuple(c.id for c, on in zip(candidates, mask, strict=True) if on)
