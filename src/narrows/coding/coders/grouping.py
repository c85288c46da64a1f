"""Which components share a code: neighbours in activity, cut where coding costs least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Symbols

MAX_GROUPS = 16
_LARGEST = 24
_MAX_UNITS = 96


def group_components(samples: list[Symbols], penalty_bits: float) -> NDArray[np.uint8]:
    """Split the components into at most 16 groups of similar statistics.

    Components are sorted by their mean magnitude, and the sorted list is cut into groups so that
    the entropies of the groups' mixed symbols sum to the least, each group charged a penalty
    (dynamic programming; above 96 components, first into 96 equal parts).

    Args:
        samples: Symbol arrays (components, positions...).
        penalty_bits: What one more group costs a sample.

    Returns:
        The group of each component (components,), 0 the most active.
    """
    components = samples[0].shape[0]
    histograms = np.zeros((components, 2 * _LARGEST + 1), np.int64)
    for symbols in samples:
        values = symbols.reshape(components, -1).clip(-_LARGEST, _LARGEST) + _LARGEST
        values = values + np.arange(components)[:, None] * histograms.shape[1]
        histograms += np.bincount(values.reshape(-1), minlength=histograms.size).reshape(
            histograms.shape
        )
    magnitude = np.abs(np.arange(-_LARGEST, _LARGEST + 1))
    order = np.argsort(-(histograms @ magnitude), kind="stable")
    units = np.arange(components) * min(components, _MAX_UNITS) // components
    merged = np.zeros((units[-1] + 1, histograms.shape[1]), np.int64)
    np.add.at(merged, units, histograms[order])
    edges = _best_edges(merged, penalty_bits * len(samples))
    groups = np.empty(components, np.uint8)
    groups[order] = np.searchsorted(edges, units, side="right")
    return groups


def _best_edges(histograms: NDArray[np.int64], penalty_bits: float) -> NDArray[np.int64]:
    """The inner edges of the best split of the rows into at most 16 runs of rows."""
    n = len(histograms)
    cost = np.full((n + 1, n + 1), np.inf)
    sums = np.concatenate((np.zeros_like(histograms[:1]), np.cumsum(histograms, 0)))
    for end in range(1, n + 1):
        mixed = sums[end] - sums[:end]
        cost[:end, end] = _ideal_bits(mixed) + penalty_bits
    best = cost[0].copy()
    choices: list[NDArray[np.int64]] = []
    totals = [best[n]]
    for _ in range(1, min(MAX_GROUPS, n)):
        through = best[:, None] + cost
        choices.append(through.argmin(0))
        best = through.min(0)
        totals.append(best[n])
    edges = []
    end = n
    for choice in reversed(choices[: int(np.argmin(totals))]):
        end = int(choice[end])
        edges.append(end)
    return np.array(edges[::-1], np.int64)


def _ideal_bits(histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Size of the symbols of each row, if coded at its own entropy."""
    counts = histograms.astype(np.float64)
    total = counts.sum(1)
    inner = (counts * np.log2(np.maximum(counts, 1))).sum(1)
    bits: NDArray[np.float64] = total * np.log2(np.maximum(total, 1)) - inner
    return bits
