"""The second founding paper's rule: consecutive calls until a t interval of their mean is narrow.

Kept so that the difference can be shown. Consecutive calls resemble each other, so their scatter
says little of how far their mean is from that of the next minute: the interval is wrong far more
often than the 5 % it promises (benchmarks/coverage.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from narrows.measure.contender import CallTimes, Contender

TARGET = 0.05
_LEAST_CALLS = 10
_NORMAL: float = NormalDist().inv_cdf(0.975)


def call_until_mean_is_narrow(contender: Contender, *, limit_s: float) -> tuple[CallTimes, bool]:
    """Call at least ten times and until the half-width is within 5 % of the mean.

    Args:
        contender: What is called.
        limit_s: The most wall time of all calls together.

    Returns:
        Wall and CPU times of the calls, and whether the half-width was reached.
    """
    wall_s, cpu_s = (list(times) for times in contender.call(min_calls=_LEAST_CALLS, seconds=0.0))
    while True:
        low, high = t_interval(wall_s)
        reached = (high - low) / 2 <= TARGET * float(np.mean(wall_s))
        if reached or sum(wall_s) >= limit_s:
            return (tuple(wall_s), tuple(cpu_s)), reached
        more_wall_s, more_cpu_s = contender.call(min_calls=1, seconds=0.0)
        wall_s += more_wall_s
        cpu_s += more_cpu_s


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean, as if the values were independent and normal.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
        >>> round(low, 2), round(high, 2)
        (3.33, 7.67)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean
    half = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def student_t(freedom: int) -> float:
    """97.5 % quantile of Student's t, to a thousandth from four degrees of freedom on.

    Reference:
        Abramowitz, Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5.
    """
    x = _NORMAL
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term * float(freedom) ** -power for power, term in enumerate(terms, start=1))
