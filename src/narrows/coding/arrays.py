"""Arrays as they are, with or without zlib: the baselines where the input is no picture."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Shape
from narrows.errors import CodecError, CorruptData

DTYPES = (
    *("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayCodec:
    """An array to its little-endian bytes and back, exactly.

    Args:
        compression: "none", or "zlib" (level 9).

    Example:
        >>> codec = ArrayCodec(compression="zlib")
        >>> window = np.zeros((6, 128), np.float32)
        >>> data = codec.encode(window)
        >>> len(data) < 40, bool((codec.decode(data, (6, 128)) == window).all())
        (True, True)
    """

    compression: Literal["none", "zlib"] = "none"

    def __post_init__(self) -> None:
        if self.compression not in ("none", "zlib"):
            msg = f"compression {self.compression!r} asked for; it must be 'none' or 'zlib'"
            raise CodecError(msg)

    def encode(self, array: NDArray[Any]) -> bytes:
        """An array of numbers to bytes.

        Raises:
            CodecError: Its element type is not one of `DTYPES`.
        """
        data = array.astype(_dtype(array.dtype.name)).tobytes()
        return zlib.compress(data, 9) if self.compression == "zlib" else data

    def decode(self, data: bytes, shape: Shape, dtype: str = "float32") -> NDArray[Any]:
        """Bytes back to the array of this shape.

        Raises:
            CodecError: The element type is not one of `DTYPES`.
            CorruptData: The bytes are not those of such an array.
        """
        element = _dtype(dtype)
        size_bytes = prod(shape) * element.itemsize
        if self.compression == "zlib":
            data = _inflated(data, size_bytes)
        if len(data) != size_bytes:
            msg = (
                f"{size_bytes} bytes expected for a {dtype} array {tuple(shape)}, {len(data)} "
                "found; send it again"
            )
            raise CorruptData(msg)
        return np.frombuffer(data, element).astype(dtype).reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    if name not in DTYPES:
        msg = f"arrays of {name} cannot be sent; cast to one of {DTYPES}"
        raise CodecError(msg)
    return np.dtype(name).newbyteorder("<")


def _inflated(data: bytes, size_bytes: int) -> bytes:
    """The data, never more than one byte beyond what is expected."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, size_bytes + 1)
    except zlib.error as error:
        msg = f"the array cannot be decompressed ({error}); send it again"
        raise CorruptData(msg) from error
    if not stream.eof or stream.unused_data:
        msg = f"compressed data of exactly {size_bytes} bytes expected; it is cut short or too long"
        raise CorruptData(msg)
    return inflated
