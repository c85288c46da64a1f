"""Asymmetric numeral systems over static tables, one table for each class of components."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Coder, Fitter, Shape, Symbols, Table
from narrows.coding.coders.stack import (
    TOTAL,
    categorical,
    decode_bits,
    encode_bits,
    is_at_end,
    new_stack,
    opened_stack,
    stack_bytes,
)
from narrows.coding.coders.symbols import check_shape, check_symbols, table_array
from narrows.errors import CorruptData

_REACH = 30  # symbols -30 … 30 have counts; what lies outside escapes
_ESCAPE = 2 * _REACH + 1
_MOST_CLASSES = 32
_SMOOTHING = 0.05
_CHUNK = 1 << 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ans(Coder):
    """Range ANS (constriction): a symbol of count c costs 24 - log2 c bits.

    Components whose symbols are as large on average share one of at most 32 tables, so a table is
    learned from many components; a table for each component was no better on pictures unseen
    (docs/results.md). A symbol without a count escapes: 32 bits more, coded after all others.

    A payload is the stack's words, 8 bytes at most over the sum of the symbols' costs.
    Counts are integers that sum to 2**24, and no floating point decides a bit: constriction gets
    counts - 1 as weights, which its quantization to 24 bits then reproduces exactly.

    Example:
        >>> symbols = np.array([[0, 1, 0, -1], [0, 0, 0, 40]], np.int32)
        >>> ans = Ans()
        >>> fitter = ans.fitter((2, 4))
        >>> fitter.add(symbols[None])
        >>> table = fitter.table()
        >>> payload = ans.encode(symbols, table)
        >>> len(payload), ans.decode(payload, (2, 4), table).tolist()
        (8, [[0, 1, 0, -1], [0, 0, 0, 40]])

    Reference:
        Duda, "Asymmetric numeral systems", 2013, arXiv 1311.2540; Bamler, "Understanding Entropy
        Coding With Asymmetric Numeral Systems (ANS)", 2022, arXiv 2201.01741.
    """

    name: ClassVar[str] = "ans"

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for symbol arrays of this shape."""
        check_shape(shape)
        return _CountFitter(shape[0])

    def validate(self, shape: Shape, table: Table) -> None:
        """Check a table for symbol arrays of this shape."""
        _checked(shape, table)

    def cost_bits(self, symbols: Symbols, table: Table) -> float:
        """Cross-entropy of the symbols under the table: on average, no coder of it sends less."""
        classes, counts = _checked(symbols.shape, table)
        codes, escaped = _codes(symbols.reshape(len(classes), -1))
        bits = 24 - np.log2(counts)
        return float(bits[classes[:, None], codes].sum() + 32 * len(escaped))

    def encode(self, symbols: Symbols, table: Table) -> bytes:
        """One array of symbols (components, positions...) to a payload."""
        check_symbols(symbols)
        classes, counts = _checked(symbols.shape, table)
        codes, escaped = _codes(symbols.reshape(len(classes), -1))
        stack = new_stack()
        if escaped.size:
            encode_bits(stack, escaped, 32)
        for index in reversed(range(len(counts))):
            members = codes[classes == index]
            if members.size:
                stack.encode_reverse(members.reshape(-1), categorical(counts[index]))
        return stack_bytes(stack)

    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols."""
        classes, counts = _checked(shape, table)
        size = prod(shape)
        stack = opened_stack(data, size)
        positions = size // len(classes)
        symbols = np.empty((len(classes), positions), np.int32)
        for index in range(len(counts)):
            members = np.flatnonzero(classes == index)
            if members.size:
                codes = stack.decode(categorical(counts[index]), members.size * positions)
                symbols[members] = codes.reshape(members.size, positions)
        flat = symbols.reshape(-1)
        escapes = np.flatnonzero(flat == _ESCAPE).astype(np.int32)
        flat -= _REACH
        good = True
        for first in range(0, escapes.size, _CHUNK):
            part = escapes[first : first + _CHUNK]
            flat[part] = decode_bits(stack, part.size, 32).astype(np.uint32).view(np.int32)
            good &= bool(((flat[part] > _REACH) | (flat[part] < -_REACH)).all())
        if not is_at_end(stack) or not good:
            msg = "the ANS payload does not end where its symbols do; send it again"
            raise CorruptData(msg)
        return symbols.reshape(shape)


def _codes(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Indices into the counts, and the symbols that escape, in their order."""
    outside = (rows > _REACH) | (rows < -_REACH)
    codes = np.where(outside, np.int32(_ESCAPE), rows + np.int32(_REACH))
    return codes, rows[outside]


def _checked(shape: Shape, table: Table) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Class of each component and counts of each class, checked."""
    check_shape(shape)
    classes = table_array(table, "classes", np.uint8, (shape[0],))
    counts = table_array(table, "counts", np.int32, (None, _ESCAPE + 1))
    good = 1 <= len(counts) <= _MOST_CLASSES and classes.max(initial=0) < len(counts)
    if not good or counts.min() < 1 or (counts.sum(1, dtype=np.int64) != TOTAL).any():
        msg = (
            f"the ANS table needs 1 to {_MOST_CLASSES} rows of positive counts that sum to "
            f"{TOTAL}, and classes that name them; fit it again"
        )
        raise CorruptData(msg)
    return classes, counts


class _CountFitter:
    """Counts the symbols of each component; classes are made at the end."""

    __slots__ = ("_histogram",)

    def __init__(self, components: int) -> None:
        self._histogram = np.zeros((components, _ESCAPE + 1), np.int64)

    def add(self, batch: NDArray[Any]) -> None:
        """Take in symbols (n, components, positions...)."""
        components, width = self._histogram.shape
        offsets = np.arange(components)[:, None] * width
        for symbols in batch:
            check_symbols(symbols)
            codes, _ = _codes(symbols.reshape(components, -1))
            counted = np.bincount((codes + offsets).reshape(-1), minlength=components * width)
            self._histogram += counted.reshape(components, width)

    def table(self) -> Table:
        """The class of each component (uint8) and the counts of each class (int32)."""
        classes = _classes(self._histogram)
        totals = np.zeros((int(classes.max()) + 1, _ESCAPE + 1))
        np.add.at(totals, classes, self._histogram)
        return {"classes": classes, "counts": np.stack([_scaled(row) for row in totals])}


def _classes(histogram: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Components of similar mean magnitude share a class; every class has a member."""
    size = np.abs(np.arange(_ESCAPE + 1) - _REACH)
    mean = (histogram @ size + 1e-3) / (histogram.sum(1) + 1)
    level = np.log2(mean)
    low, high = float(level.min()), float(level.max())
    width = max((high - low) / (_MOST_CLASSES - 1), 0.25)
    _, classes = np.unique(((high - level) / width).astype(np.int64), return_inverse=True)
    return classes.astype(np.uint8)


def _scaled(row: NDArray[np.float64]) -> NDArray[np.int32]:
    """Positive integers that sum to 2**24, in proportion; what was not seen decays outwards."""
    distance = np.abs(np.arange(_ESCAPE + 1) - _REACH).astype(np.float64)
    smooth = row + _SMOOTHING * 2.0 ** -np.minimum(distance, 20)
    share = smooth / smooth.sum() * (TOTAL - row.size)
    counts = np.floor(share).astype(np.int64) + 1
    counts[int(counts.argmax())] += TOTAL - int(counts.sum())
    result: NDArray[np.int32] = counts.astype(np.int32)
    return result
