"""Median and interval of calls that come in rounds, without assuming any distribution.

The timer drifts and consecutive calls resemble each other, so calls are no independent samples;
rounds at random times are. Let p_r(x) be the share of round r's calls that take at most x. At a
random time its expectation is F(x), the share over the whole session, so x is believable as the
median where the p_r(x) scatter about one half:

    T(x) = sum(p_r - 1/2) / sqrt(sum((p_r - 1/2)^2)),      |T(x)| <= z(n)

The smallest and the largest believable x are order statistics of the calls: the interval. With
one call to a round, or with calls that are all alike within it, T counts rounds, and this is the
sign test's interval of the n rounds; with independent calls it narrows to that of all calls. The
median of the round medians has another aim: where the machine stays 80 % of the time on one level
and 20 % on a slower one it forgets the second, and with independent calls its interval misses the
median of the timer in one session of six (benchmarks/interval_coverage.py).

Reference:
    Woodruff, "Confidence Intervals for Medians and Other Position Measures", JASA 47, 1952
    (interval by inverting the distribution function of a sample in clusters). Efron, "Student's
    t-Test under Symmetry Conditions", JASA 64, 1969 (T has lighter tails than the normal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.95
# 96 % of the normal: one point of reserve for looking at the interval more than once.
_Z = 2.054
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Every value in order, with what the rounds think of it.

    Args:
        values: Sorted, (n_values + 1,): a state before the first value comes first.
        shares: Sum over rounds of the share of calls up to here.
        squares: Sum over rounds of the squared share.
        rounds: How many there are.
    """

    values: NDArray[np.float64]
    shares: NDArray[np.float64]
    squares: NDArray[np.float64]
    rounds: int


def median_of_rounds(rounds: Sequence[Sequence[float]]) -> float:
    """Median of all calls, every round of the same weight however many calls it has.

    Example:
        >>> median_of_rounds([(1.0, 2.0, 3.0), (4.0,)])
        3.5
    """
    ranked = _ranked(rounds)
    half = ranked.rounds / 2
    at = int(np.argmax(ranked.shares >= half - _EQUAL))
    if abs(ranked.shares[at] - half) <= _EQUAL and at + 1 < len(ranked.values):
        return float((ranked.values[at] + ranked.values[at + 1]) / 2)
    return float(ranked.values[at])


def interval_of_rounds(rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Interval of the median of all calls by the scatter between the rounds.

    Args:
        rounds: The values of each round; at least one round, at least one value in each.

    Returns:
        Its ends, two of the values. Below six rounds the smallest and the largest.

    Example:
        >>> interval_of_rounds([(float(i),) for i in range(1, 11)])
        (2.0, 9.0)
    """
    ranked = _ranked(rounds)
    off = ranked.shares - ranked.rounds / 2
    scatter = np.maximum(ranked.squares - ranked.shares + ranked.rounds / 4, 0.0)
    believable = np.flatnonzero(np.abs(off) <= critical(ranked.rounds) * np.sqrt(scatter) + _EQUAL)
    if not len(believable):  # every call on one side of the other half: no scatter anywhere
        middle = median_of_rounds(rounds)
        return middle, middle
    low = max(1, int(believable[0]))
    high = min(len(ranked.values) - 1, int(believable[-1]) + 1)
    return float(ranked.values[low]), float(ranked.values[high])


def critical(rounds: int) -> float:
    """How far T may lie from zero: 96 % of the normal, more where few rounds need it for 95 %."""
    return max(_Z, (rounds - 2 * _exact_rank(rounds)) / math.sqrt(rounds))


def coverage_of_rounds(rounds: int) -> float:
    """Nominal coverage, were the calls of a round all alike: the least favourable case.

    Example:
        >>> round(coverage_of_rounds(10), 3), round(coverage_of_rounds(3), 3)
        (0.979, 0.75)
    """
    allowed = (rounds - critical(rounds) * math.sqrt(rounds)) / 2
    return _binomial_coverage(rounds, max(1, math.ceil(allowed - _EQUAL)))


def _ranked(rounds: Sequence[Sequence[float]]) -> _Ranked:
    """Sort all values; sum shares and squared shares of the rounds as each value is passed."""
    sorted_rounds = [np.sort(np.asarray(part, dtype=np.float64)) for part in rounds]
    values = np.concatenate(sorted_rounds)
    steps = np.concatenate([np.full(len(part), 1 / len(part)) for part in sorted_rounds])
    before = np.concatenate([np.arange(len(part)) / len(part) for part in sorted_rounds])
    order = np.argsort(values, kind="stable")
    step = steps[order]
    return _Ranked(
        values=np.concatenate([values[order[:1]], values[order]]),
        shares=np.concatenate([[0.0], np.cumsum(step)]),
        squares=np.concatenate([[0.0], np.cumsum(step * (2 * before[order] + step))]),
        rounds=len(sorted_rounds),
    )


def _exact_rank(count: int) -> int:
    """Largest k whose k-th smallest to k-th largest still covers 95 %; 0 where none does."""
    k = 0
    while 2 * (k + 1) <= count and _binomial_coverage(count, k + 1) >= _LEVEL:
        k += 1
    return k


def _binomial_coverage(count: int, k: int) -> float:
    """P(k-th smallest < median < k-th largest) for independent values: 1 - 2 P(Bin(n, ½) < k)."""
    below: int = sum(math.comb(count, i) for i in range(k))
    return max(0.0, 1.0 - 2.0 * below / float(2**count))
