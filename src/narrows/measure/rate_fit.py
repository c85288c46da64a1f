"""Non-negative rates by weighted least squares, deaf to outliers; NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS = 4
_OUTLIER = 0.3


def fit_rates(features: Floats, times_s: Floats, weights: Floats) -> Floats:
    """Rates ≥ 0 with features · rates ≈ times_s.

    Non-negative least squares; samples off by a factor beyond 1.3 (another process held the
    processor) count with ever less weight over four rounds.

    Args:
        features: (samples, features), none negative.
        times_s: (samples,), positive.
        weights: (samples,) of the residuals: 1 / time makes errors relative.

    Returns:
        (features,) rates.

    Example:
        >>> work = np.array([[1.0, 10], [1, 20], [1, 40]])
        >>> fit_rates(work, work @ [3.0, 0.5], np.ones(3)).round(3).tolist()
        [3.0, 0.5]
    """
    size = np.abs(features).max(axis=0)
    used = size > 0
    scaled = features[:, used] / size[used]
    rates = np.zeros(int(used.sum()))
    trust = np.ones(len(times_s))
    for _ in range(_ROUNDS):
        rows = scaled * (weights * trust)[:, None]
        rates = _non_negative(rows, times_s * weights * trust)
        ratio = np.maximum(scaled @ rates, 1e-3 * times_s) / times_s
        trust = _OUTLIER / np.maximum(_OUTLIER, np.maximum(ratio, 1 / ratio) - 1)
    found = np.zeros(features.shape[1])
    found[used] = rates / size[used]
    return found


def _non_negative(rows: Floats, targets: Floats) -> Floats:
    """Minimise |rows · x - targets|² over x ≥ 0 by an active set.

    Reference:
        Lawson, Hanson, "Solving Least Squares Problems", 1974, chapter 23, algorithm NNLS.
    """
    count = rows.shape[1]
    size = np.linalg.norm(rows, axis=0)
    rows = rows / size
    x, free = np.zeros(count), np.zeros(count, dtype=bool)
    for _ in range(10 * count):
        gradient = rows.T @ (targets - rows @ x)
        gradient[free] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= 1e-9 * np.linalg.norm(targets):
            break
        free[best] = True
        x = _stepped_back(rows, targets, x, free)
    found: Floats = x / size
    return found


def _stepped_back(rows: Floats, targets: Floats, x: Floats, free: NDArray[np.bool_]) -> Floats:
    """Least squares over the free coordinates; those it would drive below zero leave `free`."""
    while True:
        goal = np.zeros_like(x)
        goal[free] = np.linalg.lstsq(rows[:, free], targets, rcond=None)[0]
        below = free & (goal <= 0)
        if not below.any():
            return goal
        share = float((x[below] / np.maximum(x[below] - goal[below], 1e-300)).min())
        x = x + share * (goal - x)
        left = free & (goal <= 0) & (x <= 1e-14 * max(1e-300, float(x.max())))
        free &= ~left
        x[~free] = 0.0
