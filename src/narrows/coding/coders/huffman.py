"""Canonical Huffman coding over zero runs: what JPEG does, with codes fitted to the feature."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from bitarray import bitarray
from bitarray.util import canonical_decode
from numpy.typing import NDArray

from narrows.coding.base import Coder, Fitter, Shape, Symbols, Table
from narrows.coding.bits import check_padding, pack_bits, unpack_bits
from narrows.coding.coders.code_book import (
    ALPHABET,
    END,
    ESCAPE,
    MAX_LENGTH,
    SIGNED_CLASSES,
    CodeBook,
    code_table,
    read_code_book,
)
from narrows.coding.coders.grouping import group_components
from narrows.coding.coders.symbols import check_shape, check_symbols
from narrows.coding.transforms.zero_runs import (
    CLASSES,
    extra_width,
    join_magnitude,
    places_of,
    split_magnitude,
    to_runs,
)
from narrows.errors import CorruptData

_CHUNK = 2**16
_ESCAPE_BITS = 15
_GROUP_BITS = 24.0
_HELD_SYMBOLS = 2**23

Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Huffman(Coder):
    """Code (zero run, value) tokens with a Huffman code per group of similar components.

        components sorted by group ──► zero runs ──► tokens ──► codes          ┐
                                                    escapes: 15 bits each  ├► payload
                                                    extra bits of large numbers ┘

    A run goes on from one component of a group to the next; each group closes with an end token,
    so trailing zeros cost nothing. Grouping and codes are fitted; the table holds group numbers,
    counts of code lengths and tokens, all integers. A payload that decodes is the one that
    `encode` writes for those symbols, bit for bit.

    Example:
        >>> symbols = np.array([[0, 0, 7, 0], [0, 0, 0, 1]], np.int32)
        >>> fitter = Huffman().fitter((2, 4))
        >>> fitter.add(symbols[None])
        >>> table = fitter.table()
        >>> payload = Huffman().encode(symbols, table)
        >>> len(payload), Huffman().decode(payload, (2, 4), table).tolist()
        (1, [[0, 0, 7, 0], [0, 0, 0, 1]])

    Reference:
        Huffman, "A Method for the Construction of Minimum-Redundancy Codes", Proceedings of the
        IRE 40(9), 1952. ITU-T T.81 (JPEG), annex F, for runs and sizes. Departs from JPEG: a
        group of components is scanned, not a block; small values have codes with their sign.
    """

    name: ClassVar[str] = "huffman"

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for symbol arrays of this shape."""
        check_shape(shape)
        return _HuffmanFitter(shape)

    def validate(self, shape: Shape, table: Table) -> None:
        """Check a table for symbol arrays of this shape."""
        check_shape(shape)
        read_code_book(shape[0], table)

    def encode(self, symbols: Symbols, table: Table) -> bytes:
        """One array of symbols (components, positions...) to a payload."""
        check_symbols(symbols)
        book = read_code_book(symbols.shape[0], table)
        tokens = _tokenize(symbols, book.order, book.edges)
        escaped = book.lengths[tokens.flat] == 0
        plain = tokens.flat[escaped] % ALPHABET
        flat = np.where(escaped, tokens.flat - tokens.flat % ALPHABET + ESCAPE, tokens.flat)
        run_class, value_class = plain // SIGNED_CLASSES, plain % SIGNED_CLASSES
        widths = np.full(plain.size, _ESCAPE_BITS)
        used = tokens.extra_widths > 0
        return pack_bits(
            np.concatenate((book.codes[flat], run_class << 8 | value_class, tokens.extra[used])),
            np.concatenate((book.lengths[flat], widths, tokens.extra_widths[used])),
        )

    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols."""
        check_shape(shape)
        book = read_code_book(shape[0], table)
        positions = prod(shape[1:])
        groups, bit = _read_tokens(data, book, book.edges * positions)
        symbols = np.zeros(prod(shape), np.int32)
        reader = _Reader(data, book, positions, bit, groups)
        reader.read_into(symbols)
        return symbols.reshape(shape)


class _Tokens(NamedTuple):
    """A symbol array as tokens.

    Flat indices of the code book (group ends included), and the extra bits of each run and value,
    interleaved.
    """

    flat: Ints
    extra: Ints
    extra_widths: Ints


def _tokenize(symbols: Symbols, order: Ints, edges: Ints) -> _Tokens:
    """The tokens of all groups, one after the other."""
    rows = symbols.reshape(len(order), -1)
    runs = to_runs(rows[order].reshape(-1), edges * rows.shape[1])
    run_class, run_extra, run_width = split_magnitude(runs.zeros)
    value_class, value_extra, value_width = split_magnitude(np.abs(runs.values) - 1)
    token = run_class * SIGNED_CLASSES + 2 * value_class + (runs.values < 0)
    groups = np.arange(len(runs.counts)) * ALPHABET
    flat = token + np.repeat(groups, runs.counts)
    return _Tokens(
        np.insert(flat, np.cumsum(runs.counts), groups + END),
        np.stack((run_extra, value_extra), 1).reshape(-1),
        np.stack((run_width, value_width), 1).reshape(-1),
    )


def _read_tokens(data: bytes, book: CodeBook, edges: Ints) -> tuple[list[NDArray[np.uint16]], int]:
    """The tokens of each group without its end, and the bit after the last code."""
    bits = bitarray(buffer=data, endian="big")
    lengths = book.lengths.reshape(-1, ALPHABET)
    groups = []
    bit = 0
    for group, most in enumerate(np.diff(edges).tolist()):
        # A slice copies: no more of the payload than the longest codes of this group could fill.
        part = bits[bit : bit + (most + 1) * MAX_LENGTH]
        codes = canonical_decode(part, book.counts[group], book.tokens[group])
        try:
            until_end = islice(iter(codes.__next__, END), most + 1)
            tokens = np.fromiter(until_end, np.uint16)
        except ValueError:
            msg = "payload ends inside a Huffman code: it is cut short or corrupt; send it again"
            raise CorruptData(msg) from None
        bit += int(lengths[group][tokens].sum(dtype=np.int64)) + int(lengths[group, END])
        # An iterator that ran dry without an end token is found here: its end lies behind the data.
        if tokens.size > most or bit > 8 * len(data):
            msg = f"a group of {most} symbols has no end in the payload; send it again"
            raise CorruptData(msg)
        groups.append(tokens)
    return groups, bit


class _Reader:
    """Second half of decoding: escapes and extra bits, in chunks of bounded memory."""

    __slots__ = ("_book", "_data", "_escape_bit", "_extra_bit", "_groups", "_positions")

    def __init__(
        self,
        data: bytes,
        book: CodeBook,
        positions: int,
        bit: int,
        groups: list[NDArray[np.uint16]],
    ) -> None:
        self._data, self._book, self._positions = data, book, positions
        self._groups = groups
        self._escape_bit = bit
        escapes = sum(int((tokens == ESCAPE).sum()) for tokens in groups)
        self._extra_bit = bit + _ESCAPE_BITS * escapes

    def read_into(self, symbols: Symbols) -> None:
        """Put the values of all tokens where they belong in the flat symbols (n,)."""
        tokens = np.concatenate(self._groups)
        counts = np.array([group.size for group in self._groups])
        starts = np.cumsum(counts) - counts
        edges = self._book.edges * self._positions
        last = edges[:-1] - 1
        for first in range(0, tokens.size, _CHUNK):
            part = tokens[first : first + _CHUNK].astype(np.int64)
            group = np.searchsorted(starts, np.arange(first, first + part.size), "right") - 1
            zeros, values = self._runs(part, group)
            begin = np.maximum(starts[group] - first, 0)
            places = places_of(zeros, begin, last[group], edges[group + 1])
            last[group[-1]] = places[-1]
            component = self._book.order[places // self._positions]
            symbols[component * self._positions + places % self._positions] = values
        check_padding(self._data, self._extra_bit)

    def _runs(self, tokens: Ints, group: Ints) -> tuple[Ints, Ints]:
        """Zero runs and values of a chunk of tokens."""
        escaped = np.flatnonzero(tokens == ESCAPE)
        if escaped.size:
            widths = np.full(escaped.size, _ESCAPE_BITS)
            plain = unpack_bits(self._data, self._escape_bit, widths)
            self._escape_bit += _ESCAPE_BITS * escaped.size
            run_class, value_class = plain >> 8, plain & 0xFF
            tokens[escaped] = run_class * SIGNED_CLASSES + value_class
            if (run_class >= CLASSES).any() or (value_class >= SIGNED_CLASSES).any():
                msg = "an escape names a class that does not exist; send the payload again"
                raise CorruptData(msg)
            if self._book.lengths[group[escaped] * ALPHABET + tokens[escaped]].any():
                msg = "an escape stands for a token that has a code; send the payload again"
                raise CorruptData(msg)
        run_class, value_class = tokens // SIGNED_CLASSES, tokens % SIGNED_CLASSES
        widths = np.stack((extra_width(run_class), extra_width(value_class >> 1)), 1).reshape(-1)
        used = np.flatnonzero(widths)
        extra = np.zeros(widths.size, np.int64)
        extra[used] = unpack_bits(self._data, self._extra_bit, widths[used])
        self._extra_bit += int(widths.sum())
        zeros = join_magnitude(run_class, extra[::2])
        magnitude = join_magnitude(value_class >> 1, extra[1::2]) + 1
        negative = value_class & 1
        if (magnitude - negative >= 2**31).any():
            msg = "a value leaves 32 bits: the payload is corrupt; send it again"
            raise CorruptData(msg)
        return zeros, np.where(negative, -magnitude, magnitude)


class _HuffmanFitter:
    """Groups the components by the first samples, then counts the tokens of all of them."""

    __slots__ = ("_edges", "_groups", "_held", "_histograms", "_order", "_shape")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._held: list[Symbols] = []
        self._groups: NDArray[np.uint8] | None = None

    def add(self, batch: NDArray[Any]) -> None:
        """Take in symbols (n, components, positions...)."""
        for symbols in batch:
            check_symbols(symbols)
            if self._groups is not None:
                self._count(symbols)
                continue
            self._held.append(symbols.copy())
            if len(self._held) * symbols.size >= _HELD_SYMBOLS:
                self._settle()

    def table(self) -> Table:
        """Groups (components,), counts of code lengths (groups, 32), tokens (all codes)."""
        if self._groups is None:
            self._settle()
        assert self._groups is not None
        return code_table(self._groups, self._histograms)

    def _settle(self) -> None:
        held = self._held or [np.zeros(self._shape, np.int32)]
        self._groups = group_components(held, _GROUP_BITS)
        n_groups = int(self._groups.max()) + 1
        self._order = np.argsort(self._groups, kind="stable")
        self._edges = np.searchsorted(np.sort(self._groups), np.arange(n_groups + 1))
        self._histograms = np.zeros((n_groups, ALPHABET), np.int64)
        for symbols in self._held:
            self._count(symbols)
        self._held = []

    def _count(self, symbols: Symbols) -> None:
        flat = _tokenize(symbols, self._order, self._edges).flat
        np.add.at(self._histograms.reshape(-1), flat, 1)
