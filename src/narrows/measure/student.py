"""Student's interval of a mean, for values that are independent and nearly normal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from types import MappingProxyType

import numpy as np

_NORMAL: float = NormalDist().inv_cdf(0.975)
_FEW: Mapping[int, float] = MappingProxyType({1: 12.7062, 2: 4.3027})  # the series needs three


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
    """97.5 % quantile of Student's t, to two thousandths.

    Reference:
        Abramowitz, Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5.
    """
    if freedom in _FEW:
        return _FEW[freedom]
    x = _NORMAL
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term * float(freedom) ** -power for power, term in enumerate(terms, start=1))
