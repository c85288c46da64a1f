"""Stored tensors: their element types and bytes, and whether they hold what they declare.

Declared dimensions are compared with the bytes that are there before anything is sized by them.
External data is read only from inside the model's folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from narrows.errors import ModelError

MAX_TENSOR_BYTES = 2**31
"""No value of one sample may declare more."""

_PACKED_BITS: Mapping[str, int] = {"FLOAT4E2M1": 4, "INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}


def check_tensor(tensor: onnx.TensorProto, where: str, folder: Path | None) -> None:
    """Compare what a tensor declares with what it holds; put external data into the tensor.

    Args:
        tensor: An initializer or a constant; changed if its data is external.
        where: What to call the model in messages.
        folder: Where external data may lie; None refuses it.

    Raises:
        ModelError: It does not hold what it declares.
    """
    title = f"{where}: tensor {tensor.name!r}"
    if any(dim < 0 for dim in tensor.dims) or len(tensor.dims) > 32:
        raise ModelError(f"{title} has the impossible shape {tuple(tensor.dims)[:32]}")
    if tensor.HasField("segment"):
        raise ModelError(f"{title} is stored in segments: store it whole")
    count = math.prod(tensor.dims)
    if tensor.data_type == onnx.TensorProto.STRING:
        _expect(title, count, len(tensor.string_data), "strings")
        return
    size = _size_bytes(tensor.data_type, count, title)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor.raw_data = _external(tensor, size, title, folder)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    elif tensor.HasField("raw_data"):
        _expect(title, size, len(tensor.raw_data), "bytes")
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        stored = len(getattr(tensor, field))
        bits = element_bits(tensor.data_type)
        if bits < 8:
            count = -(-count * bits // 8)
        elif tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
            count *= 2
        _expect(title, count, stored, "values")


def _expect(title: str, declared: int, stored: int, what: str) -> None:
    if declared != stored:
        raise ModelError(
            f"{title} declares {declared} {what} and holds {stored}: the file is damaged"
        )


def numpy_name(data_type: int) -> str:
    """NumPy's name of an ONNX element type.

    Raises:
        ModelError: There is no such type.
    """
    try:
        return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).name)
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{data_type} is not an element type this version knows") from None


def element_bits(data_type: int) -> int:
    """Bits of one element of an ONNX type as stored.

    Raises:
        ModelError: There is no such type.
    """
    item_bits = int(np.dtype(numpy_name(data_type)).itemsize) * 8
    return _PACKED_BITS.get(onnx.TensorProto.DataType.Name(data_type), item_bits)


def _size_bytes(data_type: int, count: int, title: str) -> int:
    try:
        size = -(-count * element_bits(data_type) // 8)
    except ModelError as error:
        raise ModelError(f"{title}: {error}") from None
    if size > MAX_TENSOR_BYTES:
        raise ModelError(f"{title} declares {size} bytes; more than 2 GiB is not supported")
    return size


def _external(tensor: onnx.TensorProto, size: int, title: str, folder: Path | None) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(f"{title} lies in another file, {location!r}: store the model in one file")
    base = folder.resolve()
    try:
        path = (base / location).resolve()
        if not location or Path(location).is_absolute() or not path.is_relative_to(base):
            raise ModelError(f"{title} points outside the model's folder, to {location!r}")
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size)))
        if not path.is_file():
            raise ModelError(f"{title}: its data file {location!r} is missing from {base}")
        if length != size or offset < 0 or offset + size > path.stat().st_size:
            raise ModelError(
                f"{title} declares {size} bytes; {location!r} does not hold {length} at {offset}"
            )
        with path.open("rb") as file:
            file.seek(offset)
            return bytes(file.read(size))
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{title}: cannot read its data file {location!r}: {error}") from None
