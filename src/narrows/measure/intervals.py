"""Intervals of 95 % for shares, and for means over classes of a confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError

Z95 = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""

_NOTHING = 1e-12  # below it a variance is rounding


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with a 95 % interval.

    Args:
        value: The estimate.
        low: Lower end.
        high: Upper end.

    Example:
        >>> Estimate(value=0.886, low=0.865, high=0.905).text()
        '88.6 % (86.5 to 90.5)'
    """

    value: float
    low: float
    high: float

    def text(self) -> str:
        """A share in per cent."""
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def wilson(share: float, n: float) -> Estimate:
    """Wilson's score interval of a share of n independent samples.

    It keeps to [0, 1] and has width even at 0 and 1, where Wald's has none.

    Args:
        share: Successes over samples.
        n: Samples, or the effective number of them.

    Raises:
        MeasureError: There are no samples, or the share is none.

    Example:
        >>> found = wilson(0.9, 10)
        >>> round(found.low, 4), round(found.high, 4)
        (0.5958, 0.9821)

    Reference:
        Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
        the American Statistical Association 22, 1927.
    """
    if n <= 0 or not 0 <= share <= 1:
        msg = f"no interval of a share of {share:g} of {n:g} samples: give at least one sample"
        raise MeasureError(msg)
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return Estimate(value=share, low=min(low, share), high=max(high, share))


def delta_interval(
    value: float, gradient: NDArray[np.float64], shares: NDArray[np.float64], n: int
) -> Estimate:
    """Interval of a function of a confusion matrix's cells, within [0, 1].

    The cells are multinomial, so to first order the function's variance is
    (Σ p g² − (Σ p g)²) / n. Wilson's interval is then taken with the effective number of samples,
    value (1 − value) / variance, which keeps it in [0, 1]; where the variance is 0 (all right, or
    all wrong) that number is n.

    Args:
        value: The function at the cells found.
        gradient: Its derivative by the share of each cell (c,).
        shares: Share of each cell (c,), summing to one.
        n: Samples.

    Reference:
        Takahashi, Yamamoto, Kuchiba, Koyama, "Confidence interval for micro-averaged F1 and
        macro-averaged F1 scores", Applied Intelligence 52, 2022, section 3 (the variance); Korn,
        Graubard, "Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data", Survey Methodology 24, 1998 (effective samples).
        Departs from the first: Wilson's form instead of Wald's.
    """
    mean = float((shares * gradient).sum())
    variance = float((shares * (gradient - mean) ** 2).sum()) / n
    share = min(1.0, max(0.0, value))
    spread = share * (1 - share)
    effective = spread / variance if variance > _NOTHING and spread > _NOTHING else n
    return wilson(share, effective)
