"""Adaptive ANS: counts that follow what has been decoded, for each class of magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Coder, Fitter, Shape, Symbols, Table
from narrows.coding.coders.class_counts import (
    ESCAPE,
    REACH,
    Counts,
    codes_of,
    low_bits,
    state_of,
)
from narrows.coding.coders.magnitudes import (
    HIGHEST,
    LOWEST,
    STEPS,
    Levels,
    candidates,
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

_CHUNK: Final = 1 << 16
_DIFFERENCE: Final = 4  # level of the differences between levels
_HEADER: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(Coder):
    """Range ANS (constriction) whose tables are learned while decoding, so that none are stored.

    Symbols (rows, columns...) are of classes by how large their row and their column are on
    average, which is coded first, where that pays. Each class has counts that begin as those of a
    geometric distribution of its magnitude and grow with what has been decoded; they are brought up
    to date when as many symbols again have come. In a class of a mean of eight and more the lowest
    bits are coded as they are, and a symbol whose other bits are outside ±60 escapes.

    Made for weights: one array is coded on its own, with no table beside it. For features `Ans` and
    `Huffman` know their statistics before the first symbol and are faster.

    A payload is two bytes (what has levels and how coarse; the level of all) and the words of a
    stack. No floating point decides a bit.

    Example:
        >>> symbols = np.array([[0, 1, 0, -1], [0, 0, 0, 40]], np.int32)
        >>> coder = Adaptive()
        >>> fitter = coder.fitter((2, 4))
        >>> table = fitter.table()
        >>> payload = coder.encode(symbols, table)
        >>> len(payload), coder.decode(payload, (2, 4), table).tolist()
        (10, [[0, 1, 0, -1], [0, 0, 0, 40]])

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
        levels = cheapest_levels(rows)
        pieces, escaped = _pieces(rows, levels)
        stack = new_stack()
        encode_bits(stack, escaped, 32)
        for piece in reversed(pieces):
            encode_bits(stack, piece.low, piece.shift)
            for part, counts in reversed(piece.parts):
                stack.encode_reverse(part, categorical(counts))
        return _header(levels) + stack_bytes(stack)

    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols."""
        self.validate(shape, table)
        return _decoded_all(data, shape)[0]

    def split_bits(self, data: bytes, shape: Shape, table: Table) -> dict[str, float]:
        """What the bits of a payload are spent on.

        Returns:
            "levels" of rows and columns, "positions" (which symbols are zero), "values" (of those
            that are not); header and end of the stack are left out.

        Raises:
            CorruptData: As `decode`.

        Example:
            >>> symbols = np.eye(40, dtype=np.int32)
            >>> coder = Adaptive()
            >>> table = coder.fitter((40, 40)).table()
            >>> found = coder.split_bits(coder.encode(symbols, table), (40, 40), table)
            >>> {name: round(bits) for name, bits in found.items()}
            {'levels': 0, 'positions': 272, 'values': 11}
        """
        self.validate(shape, table)
        symbols, levels = _decoded_all(data, shape)
        pieces, escaped = _pieces(symbols.reshape(shape[0], -1), levels)
        found = {"levels": 0.0, "positions": 0.0, "values": 32.0 * escaped.size}
        for piece in pieces:
            found["values"] += piece.low.size * piece.shift
            for part, counts in piece.parts:
                bits = float((24 - np.log2(counts[part])).sum())
                if piece.is_side:
                    found["levels"] += bits
                    continue
                zeros, zero = int((part == REACH).sum()), counts[REACH] / TOTAL
                others = part.size - zeros
                where = -zeros * np.log2(zero) - others * np.log1p(-zero) / np.log(2)
                found["positions"] += float(where)
                found["values"] += bits - float(where)
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """Symbols that are coded together: those of a class in a chunk, or a side's levels.

    Args:
        parts: Codes with the counts they are coded with, in order.
        low: Values whose low bits follow.
        shift: How many bits.
        is_side: Whether it is a side's levels.
    """

    parts: list[tuple[NDArray[np.int32], NDArray[np.int64]]]
    low: NDArray[np.int32]
    shift: int
    is_side: bool = False


def _pieces(rows: Symbols, levels: Levels) -> tuple[list[_Piece], NDArray[np.int32]]:
    """What is coded, in the order in which it is decoded, and what escapes."""
    none = np.zeros(0, np.int32)
    pieces = [
        _Piece(parts=_parts(codes_of(side), Counts(_DIFFERENCE)), low=none, shift=0, is_side=True)
        for side in (levels.rows, levels.columns)
        if side is not None
    ]
    found: dict[int, Counts] = {}
    escaped = []
    for classes, flat in _chunks(rows.reshape(-1), levels, rows.shape[1]):
        high = np.empty(flat.shape, np.int32)
        for level in np.unique(classes).tolist():
            members = np.flatnonzero(classes == level)
            shift, state = state_of(level, found)
            low = flat[members]
            high[members] = low >> shift
            codes = codes_of(high[members])
            pieces.append(
                _Piece(parts=_parts(codes, state), low=low if shift else none, shift=shift)
            )
        escaped.append(high[np.abs(high.astype(np.int64)) > REACH])
    return pieces, np.concatenate(escaped)


def _parts(
    codes: NDArray[np.int32], state: Counts
) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    made = []
    for first, last, counts in state.blocks(codes.size):
        made.append((codes[first:last], counts))
        state.learn(codes[first:last])
    return made


def _decoded_all(data: bytes, shape: Shape) -> tuple[Symbols, Levels]:
    """The symbols of a payload, and its levels."""
    size, width = prod(shape), prod(shape[1:])
    mode, step, base = _read_header(data)
    stack = opened_stack(data[_HEADER:], 3 * size)
    sides = [
        _decoded(stack, Counts(_DIFFERENCE), length) - REACH if mode & bit else None
        for bit, length in ((1, shape[0]), (2, width))
    ]
    levels = Levels(base=base, step=step, rows=sides[0], columns=sides[1])
    symbols = np.empty(size, np.int32)
    found: dict[int, Counts] = {}
    lows: list[NDArray[np.int32]] = []
    for classes, part in _chunks(symbols, levels, width):
        for level in np.unique(classes).tolist():
            members = np.flatnonzero(classes == level)
            shift, state = state_of(level, found)
            part[members] = _decoded(stack, state, members.size) - REACH
            if shift:
                lows.append(decode_bits(stack, members.size, shift).astype(np.int32))
    good = _decode_escapes(stack, symbols)
    if lows:
        _put_low(symbols, levels, width, lows)
    if not good or not is_at_end(stack):
        msg = "the payload does not end where its symbols do; send it again"
        raise CorruptData(msg)
    return symbols.reshape(shape), levels


def _put_low(
    symbols: NDArray[np.int32], levels: Levels, width: int, lows: list[NDArray[np.int32]]
) -> None:
    """Put low bits below the others of their symbols, in place and in the order they came."""
    left = iter(lows)
    for classes, part in _chunks(symbols, levels, width):
        for level in np.unique(classes).tolist():
            if shift := low_bits(level):
                members = np.flatnonzero(classes == level)
                part[members] = part[members] << shift | next(left)


def _chunks(
    symbols: NDArray[np.int32], levels: Levels, width: int
) -> Iterator[tuple[NDArray[np.int16], NDArray[np.int32]]]:
    """Classes and symbols of each chunk."""
    for first in range(0, symbols.size, _CHUNK):
        part = symbols[first : first + _CHUNK]
        yield levels.classes(first, first + part.size, width), part


def _decoded(stack: Any, state: Counts, length: int) -> NDArray[np.int64]:
    codes = np.empty(length, np.int64)
    for first, last, counts in state.blocks(length):
        codes[first:last] = stack.decode(categorical(counts), last - first)
        state.learn(codes[first:last])
    return codes


def _decode_escapes(stack: Any, symbols: NDArray[np.int32]) -> bool:
    """Put the symbols that escaped in their places; whether they had to."""
    good = True
    places = np.flatnonzero(symbols == ESCAPE - REACH).astype(np.int32)
    for first in range(0, places.size, _CHUNK):
        part = places[first : first + _CHUNK]
        symbols[part] = decode_bits(stack, part.size, 32).astype(np.uint32).view(np.int32)
        good &= bool(((symbols[part] > REACH) | (symbols[part] < -REACH)).all())
    return good


def cheapest_levels(rows: Symbols) -> Levels:
    """The levels with which symbols (rows, columns) take the fewest bits, their own counted."""
    return min(candidates(rows), key=lambda tried: _cost_bits(rows, tried))


def _cost_bits(rows: Symbols, levels: Levels) -> float:
    pieces, escaped = _pieces(rows, levels)
    coded = sum(
        float((24 - np.log2(counts[part])).sum()) for one in pieces for part, counts in one.parts
    )
    return coded + sum(one.low.size * one.shift for one in pieces) + 32.0 * escaped.size


def _header(levels: Levels) -> bytes:
    mode = (levels.rows is not None) + 2 * (levels.columns is not None)
    return bytes([mode | STEPS.index(levels.step) << 2, levels.base - LOWEST])


def _read_header(data: bytes) -> tuple[int, int, int]:
    """What has levels (1 rows, 2 columns), their step, the level of all."""
    first, base = data[:_HEADER] if len(data) >= _HEADER else (255, 0)
    if first >> 2 >= len(STEPS) or base > HIGHEST - LOWEST:
        msg = f"no payload of adaptive ANS begins with {data[:_HEADER].hex()!r}; send it again"
        raise CorruptData(msg)
    return first & 3, STEPS[first >> 2], base + LOWEST


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
