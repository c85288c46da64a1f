"""What every coder asks of its symbols, shapes and tables before it touches them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Shape, Table
from narrows.errors import CodecError, CorruptData

MAX_SYMBOLS = 2**28
"""Most symbols of one array; far above any feature, and below every limit of 32 bits."""


def check_symbols(symbols: NDArray[Any]) -> None:
    """Check the symbols that are to be encoded.

    Raises:
        CodecError: They are not int32, or there are none or too many.
    """
    if symbols.dtype != np.int32:
        msg = f"symbols must be int32, {symbols.dtype} given; quantize first"
        raise CodecError(msg)
    check_shape(symbols.shape)


def check_shape(shape: Shape) -> None:
    """Check the shape of a symbol array.

    Raises:
        CorruptData: It has no axis, an empty one, or too many symbols.
    """
    if not shape or min(shape) < 1 or prod(shape) > MAX_SYMBOLS:
        msg = (
            f"symbols of shape {tuple(shape)} cannot be coded; "
            f"1 to {MAX_SYMBOLS} symbols, components on the first axis"
        )
        raise CorruptData(msg)


def table_array(
    table: Table, key: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """One array of a table.

    Args:
        table: The table, perhaps from a file.
        key: Name of the array.
        dtype: Its element type.
        shape: Its shape; None is any size.

    Raises:
        CorruptData: It is missing, or of another type or shape.
    """
    array = table.get(key)
    if not isinstance(array, np.ndarray):
        msg = (
            f"the coder's table has no array {key!r}, only {sorted(map(str, table))}; fit it again"
        )
        raise CorruptData(msg)
    fits = len(shape) == array.ndim and all(
        size in (None, found) for size, found in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        msg = (
            f"{key!r} of the coder's table should be {np.dtype(dtype)} {shape}, {array.dtype} "
            f"{array.shape} found; fit it again"
        )
        raise CorruptData(msg)
    return array
