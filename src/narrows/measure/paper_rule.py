"""The second founding paper's rule: consecutive calls until a t interval of their mean is narrow.

Kept so that the difference can be shown. Consecutive calls resemble each other, so their scatter
says little of how far their mean is from that of the next minute: the interval is wrong far more
often than the 5 % it promises (benchmarks/interval_coverage.py).

The rule looks after every call, but calls are asked for many at a time: a contender in a process
of its own would otherwise wait for the question before each, and be measured cold. What it did
after the rule was satisfied is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from narrows.measure.contender import CallTimes, Contender
from narrows.measure.student import student_t

TARGET = 0.05
_LEAST_CALLS = 10
_CHUNK_S = 0.1


def call_until_mean_is_narrow(contender: Contender, *, limit_s: float) -> tuple[CallTimes, bool]:
    """Call at least ten times and until the half-width is within 5 % of the mean.

    Args:
        contender: What is called.
        limit_s: The most wall time of all calls together.

    Returns:
        Wall and CPU times of the calls, and whether the half-width was reached.
    """
    wall_s: list[float] = []
    cpu_s: list[float] = []
    total_s, mean_s, squares = 0.0, 0.0, 0.0  # squares: sum of (x - mean)², after Welford
    for wall, cpu in _calls(contender):
        wall_s.append(wall)
        cpu_s.append(cpu)
        count, before_s = len(wall_s), mean_s
        total_s += wall
        mean_s += (wall - before_s) / count
        squares += (wall - before_s) * (wall - mean_s)
        if count < _LEAST_CALLS:
            continue
        half_s = student_t(count - 1) * math.sqrt(squares / (count - 1) / count)
        reached = half_s <= TARGET * mean_s
        if reached or total_s >= limit_s:
            break
    return (tuple(wall_s), tuple(cpu_s)), reached


def _calls(contender: Contender) -> Iterator[tuple[float, float]]:
    """Wall and CPU time of one call after another, without end."""
    yield from zip(*contender.call(min_calls=_LEAST_CALLS, seconds=0.0), strict=True)
    while True:
        yield from zip(*contender.call(min_calls=1, seconds=_CHUNK_S), strict=True)
