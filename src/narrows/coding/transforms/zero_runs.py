"""Zero runs: a lossless map from symbols to (zeros before it, value) pairs of the non-zero ones.

    0 0 5 0 -1 0 0 0   ──►   (2, 5) (1, -1)   and the zeros at the end are implied

It works on integers, after the quantizer, so it is not a `Transform` (floats before the quantizer)
but the first stage of the Huffman coder: a code of whole bits cannot spend less than one bit on a
symbol, and a run of zeros must cost much less.

`split_magnitude` then names large numbers by a class and a few extra bits, as JPEG does with its
sizes: exact up to 15, two classes per power of two above.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Symbols
from narrows.errors import CorruptData

Ints = NDArray[np.int64]

EXACT = 16
CLASSES = EXACT + 2 * 28
"""Classes of the numbers 0 to 2**32 - 1."""


class Runs(NamedTuple):
    """The non-zero symbols of a sequence.

    Attributes:
        zeros: How many zeros stand before each (k,).
        values: The symbols themselves (k,).
        counts: How many of them each segment has.
    """

    zeros: Ints
    values: Ints
    counts: Ints


def to_runs(symbols: Symbols, edges: Ints | None = None) -> Runs:
    """The runs of a sequence (n,); they begin anew in every segment.

    Args:
        symbols: The sequence.
        edges: Where the segments begin, and the end of the last one: 0 ... n; one segment if left
            out.

    Example:
        >>> to_runs(np.array([0, 0, 5, 0, -1, 0], np.int32)).zeros.tolist()
        [2, 1]
    """
    edges = np.array([0, symbols.size]) if edges is None else edges
    places = np.flatnonzero(symbols)
    counts = np.diff(np.searchsorted(places, edges))
    before = np.maximum(places, 0)
    before[1:] = places[:-1]
    before[:1] = -1
    zeros = places - np.maximum(before, np.repeat(edges[:-1] - 1, counts)) - 1
    return Runs(zeros, symbols[places].astype(np.int64), counts)


def places_of(zeros: Ints, starts: Ints, before: Ints, ends: Ints) -> Ints:
    """Where the values stand that follow these runs.

    Args:
        zeros: The runs (k,).
        starts: For each run, the index of the first one of its segment.
        before: For each run, the place before the first one of its segment.
        ends: For each run, the end of its segment.

    Raises:
        CorruptData: A run reaches the end of its segment or beyond.
    """
    reach = np.cumsum(zeros + 1)
    origin = np.concatenate(([0], reach))[starts]
    places: Ints = before + reach - origin
    if (places >= ends).any():
        msg = "zero runs are longer than the symbols: the payload is corrupt; send it again"
        raise CorruptData(msg)
    return places


def split_magnitude(numbers: Ints) -> tuple[Ints, Ints, Ints]:
    """Numbers in [0, 2**32) to (class, extra bits, how many extra bits), each of the same shape."""
    exponent = np.maximum(np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1, 1)
    classes = EXACT + 2 * (exponent - 4) + ((numbers >> (exponent - 1)) & 1)
    small = numbers < EXACT
    widths = np.where(small, 0, exponent - 1)
    return np.where(small, numbers, classes), numbers & ((1 << widths) - 1), widths


def extra_width(classes: NDArray[Any]) -> Ints:
    """How many extra bits follow a class, from 0 to 30."""
    return np.where(classes < EXACT, 0, (classes.astype(np.int64) - EXACT) // 2 + 3)


def join_magnitude(classes: Ints, extra: Ints) -> Ints:
    """Classes and their extra bits to the numbers (the inverse of `split_magnitude`)."""
    widths = extra_width(classes)
    base = np.where(classes < EXACT, classes, (2 + (classes & 1)) << widths)
    return base + extra
