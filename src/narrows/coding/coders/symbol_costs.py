"""What symbols cost in adaptive ANS, for rounding by rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Symbols
from narrows.coding.coders.adaptive import cheapest_levels
from narrows.coding.coders.class_counts import REACH, codes_of, state_of


def symbol_costs(symbols: Symbols) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """What symbols take and what others in their places would take, for rounding by rate.

    Args:
        symbols: (rows, columns...).

    Returns:
        The class of each symbol, and the bits of the symbols -60 … 60 in each class, as its counts
        are in the end; what lies outside counts as the last one does.

    Example:
        >>> classes, bits = symbol_costs(np.eye(40, dtype=np.int32))
        >>> int(classes.max()), bool(bits[0, 60] < 1 < bits[0, 61] < bits[0, 62])
        (0, True)
    """
    rows = symbols.reshape(len(symbols), -1)
    levels = cheapest_levels(rows)
    found = levels.classes(0, rows.size, rows.shape[1])
    known, classes = np.unique(found, return_inverse=True)
    span = np.arange(-REACH, REACH + 1)
    bits = np.empty((known.size, span.size))
    for number, level in enumerate(known.tolist()):
        shift, state = state_of(level, {})
        state.learn(codes_of(rows.reshape(-1)[found == level] >> shift))
        bits[number] = state.bits()[codes_of(span >> shift)] + shift
    return classes.reshape(symbols.shape).astype(np.int16), bits
