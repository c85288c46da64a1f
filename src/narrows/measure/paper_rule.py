"""The second founding paper's rule: consecutive calls until a t interval of their mean is narrow.

Kept so that the difference can be shown. Consecutive calls resemble each other, so their scatter
says little of how far their mean is from that of the next minute: the interval is wrong far more
often than the 5 % it promises (benchmarks/coverage.py).
"""

from __future__ import annotations

import numpy as np

from narrows.measure.contender import CallTimes, Contender
from narrows.measure.student import t_interval

TARGET = 0.05
_LEAST_CALLS = 10


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
