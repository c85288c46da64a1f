"""How far the scores of one model are from those of another, row by row."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Scale = Literal["logits", "probabilities"]
SCALES: Final[tuple[Scale, ...]] = ("logits", "probabilities")

_ONE = 1e-3  # how far from one the sum of probabilities may be
_LEAST_SHARE = 1e-9


def scale_of(outputs: Floats) -> Scale:
    """What scores (n, k) are: probabilities, where none is negative and each row sums to one.

    A few rows of logits could look so by chance; decide once, over all the rows there are.

    Example:
        >>> scale_of(np.array([[0.5, 0.5], [0.9, 0.1]])), scale_of(np.array([[2.0, -1.0]]))
        ('probabilities', 'logits')
    """
    shares = bool((outputs >= 0).all() and (abs(outputs.sum(1) - 1) < _ONE).all())
    return "probabilities" if shares else "logits"


def log_shares(outputs: Floats, scale: Scale) -> NDArray[np.float64]:
    """Logarithms of the probabilities that scores (n, k) stand for; logits go through a softmax."""
    if scale == "probabilities":
        taken: NDArray[np.float64] = np.log(np.maximum(outputs.astype(np.float64), _LEAST_SHARE))
        return taken
    shifted = outputs.astype(np.float64) - outputs.max(1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


def divergences(reference: Floats, candidate: Floats, scale: Scale) -> NDArray[np.float64]:
    """KL(reference ‖ candidate) of each row of scores, in nats; (n, k), (n, k) → (n,).

    Example:
        >>> logits = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
        >>> shares = [np.exp(x) / np.exp(x).sum() for x in logits]
        >>> float(divergences(*logits, "logits")[0])
        0.328
        >>> float(divergences(*shares, "probabilities")[0])
        0.328
    """
    p, q = (log_shares(x, scale) for x in (reference, candidate))
    found: NDArray[np.float64] = (np.exp(p) * (p - q)).sum(1)
    return np.maximum(found, 0.0)
