"""Interval of the median by both levels at which a measurement varies: rounds and processes.

Where the pages of a process happen to lie in memory decides how its data share the caches, for as
long as it lives: two processes of one small network, on one core, differed by 4 % for good, some by
20 %, while the rounds of each agreed to 1 %. However many its rounds, a process is one sample of
that. The interval is therefore no narrower than that of the processes. From six on it is made of
order statistics, all that a process measured taken as one round: an outlier is one of many then.
Below six it is Student's t of their medians, in logarithms: processes differ by factors, and times
and their ratios have no negative values.

Reference:
    Kalibera, Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013 (repeat, and find the
    interval, at the highest level that varies).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from narrows.measure.order_statistics import interval_of_rounds, median_of_rounds
from narrows.measure.student import t_interval

_ENOUGH: Final = 6  # processes; order statistics of fewer do not reach 95 %


def interval_of_both(
    rounds: Sequence[Sequence[float]], processes: Sequence[int]
) -> tuple[float, float]:
    """The interval of the rounds, widened to that of the processes where there are several.

    Args:
        rounds: The values of each round.
        processes: Which process each round ran in; empty: all in one.

    Returns:
        Its ends; above zero where all values are.

    Example:
        >>> interval_of_both([(1.0,), (1.1,), (1.2,), (1.3,)], [0, 0, 0, 0])
        (1.0, 1.3)
        >>> low, high = interval_of_both([(1.0,), (1.1,), (1.2,), (1.3,)], [0, 0, 1, 1])
        >>> round(low, 2), round(high, 2)
        (0.38, 3.47)
    """
    low, high = interval_of_rounds(rounds)
    kept = _whole_processes(rounds, processes)
    if len(kept) < 2:
        return low, high
    if len(kept) >= _ENOUGH:
        lowest, highest = interval_of_rounds([sum(map(tuple, parts), ()) for parts in kept])
    else:
        lowest, highest = _students([median_of_rounds(parts) for parts in kept])
    return min(low, lowest), max(high, highest)


def process_medians(
    rounds: Sequence[Sequence[float]], processes: Sequence[int]
) -> tuple[float, ...]:
    """Median of each process that was not cut short: it has half the rounds of the longest."""
    return tuple(median_of_rounds(parts) for parts in _whole_processes(rounds, processes))


def _students(medians: Sequence[float]) -> tuple[float, float]:
    """Student's in logarithms; of the values themselves where one has no logarithm."""
    if min(medians) <= 0:  # a CPU time shorter than its clock can tell
        return t_interval(medians)
    low, high = t_interval([math.log(value) for value in medians])
    return math.exp(low), math.exp(high)


def _whole_processes(
    rounds: Sequence[Sequence[float]], processes: Sequence[int]
) -> list[list[Sequence[float]]]:
    """The rounds of each process that was not cut short."""
    kept: dict[int, list[Sequence[float]]] = {}
    for part, process in zip(rounds, processes, strict=bool(processes)):
        kept.setdefault(process, []).append(part)
    longest = max(map(len, kept.values()), default=0)
    return [parts for parts in kept.values() if 2 * len(parts) >= longest]
