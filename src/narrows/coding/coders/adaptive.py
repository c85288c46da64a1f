"""Adaptive ANS: counts that follow what has been decoded, for each class of magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Coder, Fitter, Shape, Symbols, Table
from narrows.coding.coders.magnitudes import (
    HIGHEST,
    LOWEST,
    STEPS,
    Levels,
    candidates,
    prior_counts,
)
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

_REACH: Final = 60  # symbols -60 … 60 have counts; what lies outside escapes
_ESCAPE: Final = 2 * _REACH + 1
_CHUNK: Final = 1 << 16
_FIRST: Final = 32
_UNIT: Final = 256  # what one symbol adds to a count
_WEIGHT: Final = 64  # symbols that a prior weighs as many as
_DIFFERENCE: Final = 4  # level of the differences between levels
_MEAN_BITS: Final = 5  # of the largest mean magnitude that is not shifted down
_HEADER: Final = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(Coder):
    """Range ANS (constriction) whose tables are learned while decoding, so that none are stored.

    Symbols (rows, columns...) are of classes by how large their row and their column are on
    average, which is coded first, where that pays. Each class has counts that begin as those of a
    geometric distribution of its magnitude and grow with what has been decoded; they are brought up
    to date when as many symbols again have come. Symbols far larger than sixteen on average have
    their lowest bits coded as they are, and a symbol outside ±60 escapes.

    Made for weights: one array is coded on its own, with no table beside it. For features `Ans` and
    `Huffman` know their statistics before the first symbol and are faster.

    A payload is three bytes (what has levels and how coarse; the level of all; bits shifted) and
    the words of a stack. No floating point decides a bit.

    Example:
        >>> symbols = np.array([[0, 1, 0, -1], [0, 0, 0, 40]], np.int32)
        >>> coder = Adaptive()
        >>> fitter = coder.fitter((2, 4))
        >>> table = fitter.table()
        >>> payload = coder.encode(symbols, table)
        >>> len(payload), coder.decode(payload, (2, 4), table).tolist()
        (11, [[0, 1, 0, -1], [0, 0, 0, 40]])

    Reference:
        Duda, "Asymmetric numeral systems", 2013, arXiv 1311.2540.
    """

    name: ClassVar[str] = "adaptive"

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for symbol arrays of this shape; it learns nothing."""
        check_shape(shape)
        return _NoFitter(shape[0])

    def validate(self, shape: Shape, table: Table) -> None:
        """Check a table for symbol arrays of this shape."""
        check_shape(shape)
        if int(table_array(table, "components", np.int32, (1,))[0]) != shape[0]:
            msg = (
                f"the table is of {table['components'][0]} components, not {shape[0]}: fit it again"
            )
            raise CorruptData(msg)

    def encode(self, symbols: Symbols, table: Table) -> bytes:
        """One array of symbols (components, positions...) to a payload."""
        check_symbols(symbols)
        self.validate(symbols.shape, table)
        rows = symbols.reshape(len(symbols), -1)
        shift = _shift(rows)
        levels = _cheapest(rows >> shift)
        high, width = (rows >> shift).reshape(-1), rows.shape[1]
        codes = _codes(high)
        stack = new_stack()
        for first in reversed(range(0, symbols.size if shift else 0, _CHUNK)):
            encode_bits(stack, rows.reshape(-1)[first : first + _CHUNK], shift)
        encode_bits(stack, high[codes == _ESCAPE], 32)
        for part, counts in reversed(list(_steps(codes, levels, width))):
            stack.encode_reverse(part, categorical(counts))
        return _header(levels, shift) + stack_bytes(stack)

    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols."""
        self.validate(shape, table)
        size, width = prod(shape), prod(shape[1:])
        mode, step, base, shift = _read_header(data)
        stack = opened_stack(data[_HEADER:], 3 * size)
        sides = [
            _decoded(stack, _Counts(_DIFFERENCE), length) - _REACH if mode & bit else None
            for bit, length in ((1, shape[0]), (2, width))
        ]
        levels = Levels(base=base, step=step, rows=sides[0], columns=sides[1])
        symbols = _decode_codes(stack, levels, size, width)
        symbols -= _REACH
        good = _decode_escapes(stack, symbols)
        for first in range(0, size if shift else 0, _CHUNK):
            part = symbols[first : first + _CHUNK]
            part[:] = (part << shift) | decode_bits(stack, part.size, shift).astype(np.int32)
        if not good or not is_at_end(stack):
            msg = "the payload does not end where its symbols do; send it again"
            raise CorruptData(msg)
        return symbols.reshape(shape)


class _Counts:
    """What a class has seen so far."""

    __slots__ = ("_counts", "_seen")

    def __init__(self, level: int) -> None:
        self._counts = prior_counts(level, _REACH, _WEIGHT * _UNIT)
        self._seen = 0

    def blocks(self, length: int) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """First, last and counts of the parts of a sequence; `learn` must follow each."""
        first = 0
        while first < length:
            last = min(length, first + max(_FIRST, self._seen))
            yield first, last, self._scaled()
            first = last

    def learn(self, codes: NDArray[Any]) -> None:
        """Take in what was coded."""
        self._counts += _UNIT * np.bincount(codes, minlength=self._counts.size)
        self._seen += codes.size

    def _scaled(self) -> NDArray[np.int64]:
        counts = self._counts * (TOTAL - self._counts.size) // self._counts.sum() + 1
        counts[counts.argmax()] += TOTAL - counts.sum()
        return np.asarray(counts)


def _steps(
    codes: NDArray[np.int32], levels: Levels, width: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Codes in the order in which they are decoded, part by part with its counts."""
    for side in (levels.rows, levels.columns):
        if side is not None:
            yield from _parts((side + _REACH).astype(np.int32), _Counts(_DIFFERENCE))
    found: dict[int, _Counts] = {}
    for first in range(0, codes.size, _CHUNK):
        part = codes[first : first + _CHUNK]
        classes = levels.classes(first, first + part.size, width)
        for level in np.unique(classes).tolist():
            state = found.setdefault(level, _Counts(level))
            yield from _parts(part[classes == level], state)


def _parts(
    codes: NDArray[np.int32], state: _Counts
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    for first, last, counts in state.blocks(codes.size):
        yield codes[first:last], counts
        state.learn(codes[first:last])


def _decode_codes(stack: Any, levels: Levels, size: int, width: int) -> NDArray[np.int32]:
    """What `_steps` gives, but for the levels."""
    codes = np.empty(size, np.int32)
    found: dict[int, _Counts] = {}
    for first in range(0, size, _CHUNK):
        part = codes[first : first + _CHUNK]
        classes = levels.classes(first, first + part.size, width)
        for level in np.unique(classes).tolist():
            members = np.flatnonzero(classes == level)
            state = found.setdefault(level, _Counts(level))
            part[members] = _decoded(stack, state, members.size)
    return codes


def _decoded(stack: Any, state: _Counts, length: int) -> NDArray[np.int64]:
    codes = np.empty(length, np.int64)
    for first, last, counts in state.blocks(length):
        codes[first:last] = stack.decode(categorical(counts), last - first)
        state.learn(codes[first:last])
    return codes


def _decode_escapes(stack: Any, symbols: NDArray[np.int32]) -> bool:
    """Put the symbols that escaped in their places; whether they had to."""
    good = True
    places = np.flatnonzero(symbols == _ESCAPE - _REACH).astype(np.int32)
    for first in range(0, places.size, _CHUNK):
        part = places[first : first + _CHUNK]
        symbols[part] = decode_bits(stack, part.size, 32).astype(np.uint32).view(np.int32)
        good &= bool(((symbols[part] > _REACH) | (symbols[part] < -_REACH)).all())
    return good


def _codes(high: NDArray[np.int32]) -> NDArray[np.int32]:
    outside = (high > _REACH) | (high < -_REACH)
    return np.where(outside, np.int32(_ESCAPE), high + np.int32(_REACH))


def _shift(symbols: NDArray[np.int32]) -> int:
    """Bits below which symbols are noise: a mean of 16 and more is left."""
    mean = int(np.abs(symbols.astype(np.int64)).sum()) // symbols.size
    return max(0, mean.bit_length() - _MEAN_BITS)


def _cheapest(symbols: NDArray[np.int32]) -> Levels:
    """The levels with which the symbols (rows, columns) take fewest bits."""
    codes, width = _codes(symbols.reshape(-1)), symbols.shape[1]
    return min(candidates(symbols), key=lambda levels: _cost_bits(codes, levels, width))


def _cost_bits(codes: NDArray[np.int32], levels: Levels, width: int) -> float:
    parts = _steps(codes, levels, width)
    return sum(float((24 - np.log2(counts[part])).sum()) for part, counts in parts)


def _header(levels: Levels, shift: int) -> bytes:
    mode = (levels.rows is not None) + 2 * (levels.columns is not None)
    return bytes([mode | STEPS.index(levels.step) << 2, levels.base - LOWEST, shift])


def _read_header(data: bytes) -> tuple[int, int, int, int]:
    """What has levels (1 rows, 2 columns), their step, the level of all, bits shifted."""
    first, base, shift = data[:_HEADER] if len(data) >= _HEADER else (255, 0, 0)
    if first >> 2 >= len(STEPS) or base > HIGHEST - LOWEST or shift > 32 - _MEAN_BITS:
        msg = f"no payload of adaptive ANS begins with {data[:_HEADER].hex()!r}; send it again"
        raise CorruptData(msg)
    return first & 3, STEPS[first >> 2], base + LOWEST, shift


class _NoFitter:
    """Knows the shape."""

    __slots__ = ("_components",)

    def __init__(self, components: int) -> None:
        self._components = components

    def add(self, batch: NDArray[Any]) -> None:
        """Check symbols (n, components, positions...)."""
        for symbols in batch:
            check_symbols(symbols)

    def table(self) -> Table:
        """The number of components."""
        return {"components": np.asarray([self._components], np.int32)}
