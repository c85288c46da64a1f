"""Raw bit packing: the same number of bits for every symbol of a component."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Coder, Fitter, Shape, Symbols, Table
from narrows.coding.bits import check_padding, pack_bits, unpack_bits
from narrows.coding.coders.symbols import check_shape, check_symbols, table_array
from narrows.errors import CorruptData

_CHUNK = 2**16
_OUTLIER = np.dtype([("index", "<u4"), ("value", "<i4")])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Raw(Coder):
    """Pack symbol - low with the width that the fitted range of its component needs.

    A symbol outside the range is packed as the nearest one inside, and follows the packed bits once
    more as (index u4, value i4): an escape that costs nothing while it is not needed.

    Example:
        >>> raw = Raw()
        >>> symbols = np.array([[3, 4, 6], [0, 0, 0]], np.int32)
        >>> fitter = raw.fitter((2, 3))
        >>> fitter.add(symbols[None])
        >>> table = fitter.table()
        >>> table["width"].tolist()
        [2, 0]
        >>> payload = raw.encode(symbols, table)
        >>> payload.hex(), raw.decode(payload, (2, 3), table).tolist()
        ('1c', [[3, 4, 6], [0, 0, 0]])
    """

    name: ClassVar[str] = "raw"

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for symbol arrays of this shape."""
        check_shape(shape)
        return _RangeFitter(shape[0])

    def validate(self, shape: Shape, table: Table) -> None:
        """Check a table for symbol arrays of this shape."""
        _ranges(shape, table)

    def encode(self, symbols: Symbols, table: Table) -> bytes:
        """One array of symbols (components, positions...) to a payload."""
        check_symbols(symbols)
        low, width = _ranges(symbols.shape, table)
        offsets = symbols.reshape(len(low), -1) - low[:, None]
        codes = np.clip(offsets, 0, (1 << width[:, None]) - 1)
        outside = np.flatnonzero(codes != offsets)
        outliers = np.empty(outside.size, _OUTLIER)
        outliers["index"] = outside
        outliers["value"] = symbols.reshape(-1)[outside]
        widths = np.repeat(width, codes.shape[1])
        return pack_bits(codes.reshape(-1), widths) + outliers.tobytes()

    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols."""
        low, width = _ranges(shape, table)
        size = prod(shape)
        positions = size // len(low)
        total = int(width.sum()) * positions
        packed, rest = memoryview(data)[: (total + 7) // 8], memoryview(data)[(total + 7) // 8 :]
        check_padding(packed, total)
        symbols = np.empty(size, np.int32)
        start_bit = 0
        for first in range(0, size, _CHUNK):
            components = np.arange(first, min(first + _CHUNK, size)) // positions
            widths = width[components]
            codes = unpack_bits(packed, start_bit, widths)
            symbols[first : first + _CHUNK] = codes + low[components]
            start_bit += int(widths.sum())
        _put_outliers(symbols, rest, low, width)
        return symbols.reshape(shape)


def _ranges(shape: Shape, table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least symbol and width of each component, checked."""
    check_shape(shape)
    low = table_array(table, "low", np.int32, (shape[0],)).astype(np.int64)
    width = table_array(table, "width", np.uint8, (shape[0],)).astype(np.int64)
    if (width > 32).any() or (low + (1 << width.clip(max=33)) > 2**31).any():
        msg = "ranges of the raw coder's table leave 32 bits; fit it again"
        raise CorruptData(msg)
    return low, width


def _put_outliers(
    symbols: Symbols, rest: memoryview, low: NDArray[np.int64], width: NDArray[np.int64]
) -> None:
    """Write the escaped symbols over the packed ones, if they are as `encode` writes them."""
    if len(rest) % _OUTLIER.itemsize or len(rest) > symbols.nbytes * 2:
        msg = f"{len(rest)} bytes follow the packed symbols, no whole escapes; send it again"
        raise CorruptData(msg)
    last = -1
    escapes = np.frombuffer(rest, _OUTLIER)
    for first in range(0, escapes.size, _CHUNK):
        outliers = escapes[first : first + _CHUNK]
        index, value = outliers["index"].astype(np.int64), outliers["value"].astype(np.int64)
        good = index[-1] < symbols.size and (np.diff(index, prepend=last) > 0).all()
        if good:
            component = index // (symbols.size // len(low))
            offset = value - low[component]
            nearest = np.clip(offset, 0, (1 << width[component]) - 1)
            good = ((nearest != offset) & (nearest + low[component] == symbols[index])).all()
        if not good:
            msg = "escaped symbols are out of order or not out of range; send it again"
            raise CorruptData(msg)
        symbols[index] = value
        last = int(index[-1])


class _RangeFitter:
    """Keeps the least and the greatest symbol of each component."""

    __slots__ = ("_high", "_low")

    def __init__(self, components: int) -> None:
        self._low = np.full(components, 2**31 - 1, np.int64)
        self._high = np.full(components, -(2**31), np.int64)

    def add(self, batch: NDArray[Any]) -> None:
        """Take in symbols (n, components, positions...)."""
        for symbols in batch:
            check_symbols(symbols)
            rows = symbols.reshape(len(self._low), -1)
            self._low = np.minimum(self._low, rows.min(1))
            self._high = np.maximum(self._high, rows.max(1))

    def table(self) -> Table:
        """The least symbol (int32) and the width in bits (uint8) of each component."""
        span = np.maximum(self._high - self._low, 0)
        width = np.frexp(span.astype(np.float64))[1].astype(np.int64)
        low = np.where(self._high < self._low, 0, self._low)
        # A power of two of codes may reach past int32; then the range begins lower.
        low = np.minimum(low, 2**31 - (1 << width))
        return {"low": low.astype(np.int32), "width": width.astype(np.uint8)}
