"""Tensor contents of the protocol ↔ arrays and byte strings.

An input comes raw (`raw_input_contents`, one entry an input) or typed (`contents` of the input).
The declared shape is compared with the bytes that are there before an array is made of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import CorruptData
from narrows.runtime.serving.messages import InferResponse, Message

BYTES: Final = "BYTES"
MAX_STRINGS: Final = 256

_DTYPES: Final = {
    "BOOL": ("bool", "bool_contents"),
    "UINT8": ("uint8", "uint_contents"),
    "UINT16": ("uint16", "uint_contents"),
    "UINT32": ("uint32", "uint_contents"),
    "UINT64": ("uint64", "uint64_contents"),
    "INT8": ("int8", "int_contents"),
    "INT16": ("int16", "int_contents"),
    "INT32": ("int32", "int_contents"),
    "INT64": ("int64", "int64_contents"),
    "FP16": ("float16", ""),
    "FP32": ("float32", "fp32_contents"),
    "FP64": ("float64", "fp64_contents"),
}
_NAMES: Final = {dtype: name for name, (dtype, _) in _DTYPES.items()}
_LENGTH: Final = struct.Struct("<I")


def datatype(dtype: str) -> str:
    """The protocol's name of a NumPy type.

    Example:
        >>> datatype("float32")
        'FP32'
    """
    return _NAMES[dtype]


def _count(tensor: Message, expected: int | None = None) -> int:
    shape = list(tensor.shape)
    count: int = math.prod(shape)
    if any(size < 0 for size in shape) or len(shape) > 8:
        msg = f"input {tensor.name!r} has the impossible shape {shape[:8]}"
        raise CorruptData(msg)
    if expected is not None and count != expected:
        msg = f"input {tensor.name!r} of shape {shape} has {expected} values"
        raise CorruptData(msg)
    return count


def array_of(tensor: Message, raw: bytes | None) -> NDArray[Any]:
    """The array in an input.

    Args:
        tensor: An InferInputTensor.
        raw: Its entry of `raw_input_contents`; None where contents are typed.

    Raises:
        CorruptData: Type, shape and bytes do not fit together.
    """
    dtype, field = _DTYPES.get(tensor.datatype, ("", ""))
    if not dtype:
        msg = f"input {tensor.name!r} has type {tensor.datatype[:20]!r}, not {', '.join(_DTYPES)}"
        raise CorruptData(msg)
    shape = list(tensor.shape)
    if raw is not None:
        size = _count(tensor) * np.dtype(dtype).itemsize
        if size != len(raw):
            msg = f"input {tensor.name!r} of {tensor.datatype} {shape} has {len(raw)} bytes"
            raise CorruptData(msg)
        little = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
        return little.reshape(shape).astype(dtype, copy=False)
    values = getattr(tensor.contents, field) if field else []
    _count(tensor, len(values))
    try:
        return np.array(values, dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        msg = f"input {tensor.name!r} is not {tensor.datatype}: {error}"
        raise CorruptData(msg) from None


def strings_of(tensor: Message, raw: bytes | None) -> tuple[bytes, ...]:
    """The byte strings in a BYTES input; raw ones have their length in four bytes before them.

    Raises:
        CorruptData: It is not of type BYTES, holds none or too many, or ends in the middle of one.
    """
    if tensor.datatype != BYTES:
        msg = f"input {tensor.name!r} is {tensor.datatype[:20]!r}; frames come as {BYTES}"
        raise CorruptData(msg)
    found = list(tensor.contents.bytes_contents) if raw is None else _split(raw, tensor.name)
    _count(tensor, len(found))
    if not 0 < len(found) <= MAX_STRINGS:
        msg = f"input {tensor.name!r} has {len(found)} frames; send 1 to {MAX_STRINGS}"
        raise CorruptData(msg)
    return tuple(found)


def _split(raw: bytes, name: str) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    while start < len(raw) and len(found) <= MAX_STRINGS:
        end = start + _LENGTH.size
        if end <= len(raw):
            end += _LENGTH.unpack_from(raw, start)[0]
        if end > len(raw) or start + _LENGTH.size > len(raw):
            msg = f"input {name!r} ends in the middle of a byte string, at {start} of {len(raw)}"
            raise CorruptData(msg)
        found.append(raw[start + _LENGTH.size : end])
        start = end
    return found


def joined(strings: Sequence[bytes]) -> bytes:
    r"""Byte strings as the raw contents of a BYTES tensor.

    Example:
        >>> joined([b"ab"])
        b'\x02\x00\x00\x00ab'
    """
    return b"".join(_LENGTH.pack(len(string)) + string for string in strings)


def one_string(raw: bytes) -> bytes:
    """The only string of a raw BYTES tensor.

    Raises:
        CorruptData: There is not exactly one.
    """
    found = _split(raw, "answer")
    if len(found) != 1:
        msg = f"expected one reply, found {len(found)}"
        raise CorruptData(msg)
    return found[0]


def add_array(response: InferResponse, name: str, array: NDArray[Any]) -> None:
    """Add an output to a response, as raw contents."""
    kind = datatype(array.dtype.name)
    response.outputs.add(name=name, datatype=kind, shape=array.shape)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    response.raw_output_contents.append(little.tobytes())


def add_strings(response: InferResponse, name: str, strings: Sequence[bytes]) -> None:
    """Add an output of byte strings to a response."""
    response.outputs.add(name=name, datatype=BYTES, shape=[len(strings)])
    response.raw_output_contents.append(joined(strings))
