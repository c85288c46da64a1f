"""Batches as rows of vectors over their components, and the nearest of some vectors to each."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Shape
from narrows.coding.quantizers.broadcast import namespace
from narrows.errors import CodecError

_AT_ONCE: Final = 2**22  # distances, 16 MB


def rows_of(x: Any) -> Any:
    """Batch (n, components, positions...) to (n · positions, components).

    Raises:
        CodecError: The batch has no components.
    """
    if x.ndim < 2 or x.shape[1] == 0:
        msg = f"vectors run over components, (n, components, ...), {tuple(x.shape)} given"
        raise CodecError(msg)
    xp = namespace(x)
    return xp.reshape(xp.moveaxis(x, 1, -1), (-1, x.shape[1]))


def batch_of(rows: Any, like: Shape) -> Any:
    """Rows (n · positions, components) back to (n, components, positions...).

    Args:
        rows: As `rows_of` made them, of any number of components.
        like: Shape of the batch; its own number of components does not matter.
    """
    xp = namespace(rows)
    return xp.moveaxis(xp.reshape(rows, (like[0], *like[2:], rows.shape[1])), -1, 1)


def nearest(vectors: Any, centres: NDArray[np.float32]) -> Any:
    """Which of a group's centres is nearest to each vector; the first of equals.

    Differences are squared and added one after another, so that every array library gives the
    same.

    Args:
        vectors: (n, groups, length).
        centres: (groups, levels, length).

    Returns:
        (n, groups), int32.
    """
    xp = namespace(vectors)
    groups, levels, length = centres.shape
    own = xp.asarray(centres, dtype=vectors.dtype, device=vectors.device)
    step = max(1, _AT_ONCE // max(1, groups * levels))
    parts = []
    for first in range(0, max(1, vectors.shape[0]), step):
        part = vectors[first : min(first + step, vectors.shape[0]), ...]
        total = xp.zeros((part.shape[0], groups, levels), dtype=part.dtype, device=part.device)
        for axis in range(length):
            away = part[:, :, axis][..., None] - own[:, :, axis][None, ...]
            total = total + away * away
        parts.append(xp.astype(xp.argmin(total, axis=-1), xp.int32))
    return xp.concat(parts, axis=0)
