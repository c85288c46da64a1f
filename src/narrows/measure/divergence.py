"""How far the scores of one model are from those of another, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_ONE = 1e-3  # how far from one the sum of probabilities may be
_LEAST_SHARE = 1e-9


def divergences(reference: Floats, candidate: Floats) -> NDArray[np.float64]:
    """KL(reference ‖ candidate) of each row of scores, in nats; (n, k), (n, k) → (n,).

    Scores are logits and go through a softmax, unless the reference's rows are probabilities
    already (none negative, each row summing to one), as after a final softmax.

    Example:
        >>> logits = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
        >>> shares = [np.exp(x) / np.exp(x).sum() for x in logits]
        >>> float(divergences(*logits)[0]), float(divergences(*shares)[0])
        (0.328, 0.328)
    """
    shares = bool((reference >= 0).all() and (abs(reference.sum(1) - 1) < _ONE).all())
    p, q = (_log_shares(x) if shares else _log_softmax(x) for x in (reference, candidate))
    found: NDArray[np.float64] = (np.exp(p) * (p - q)).sum(1)
    return np.maximum(found, 0.0)


def _log_shares(outputs: Floats) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(np.maximum(outputs.astype(np.float64), _LEAST_SHARE))
    return found


def _log_softmax(outputs: Floats) -> NDArray[np.float64]:
    shifted = outputs.astype(np.float64) - outputs.max(1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found
