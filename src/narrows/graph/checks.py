"""ONNX bytes from anywhere → a ModelProto that holds what it declares, or a ModelError.

Nothing here is sized by a number in the file before that number has been compared with the bytes
that are really there: declared dimensions, external data, attributes that kernels divide by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from narrows.errors import ModelError
from narrows.units import bytes_text

MAX_MODEL_BYTES = 2**31 - 1
"""One protobuf message holds no more; larger models are refused."""

MAX_TENSOR_BYTES = 2**31
"""No value of one sample may declare more."""

_POSITIVE = frozenset({"strides", "dilations", "kernel_shape", "group", "hidden_size", "blocksize"})
_COUNTED = frozenset({"pads", "output_padding"})
_LOOPS = frozenset({"Loop", "Scan"})
_PACKED_BITS: Mapping[str, int] = {"FLOAT4E2M1": 4, "INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}


def read(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with its external data where it has any, and check it.

    Raises:
        ModelError: The file is missing, is not ONNX, is too large, or does not hold what it says.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is not a file: give the path of an .onnx file")
        if size > MAX_MODEL_BYTES:
            raise ModelError(
                f"{path} holds {bytes_text(size)}; models above 2 GB are not supported"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    return parse(data, where=str(path), folder=path.parent)


def parse(data: bytes, *, where: str = "the model", folder: Path | None = None) -> onnx.ModelProto:
    """Check ONNX bytes.

    Args:
        data: A serialised ModelProto.
        where: What to call it in messages.
        folder: Where external data may lie; None refuses external data.

    Raises:
        ModelError: The bytes are not ONNX, or do not hold what they say.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX model ({len(data)} bytes): {error}") from None
    check(proto, where=where, folder=folder)
    return proto


def check(proto: onnx.ModelProto, *, where: str = "the model", folder: Path | None = None) -> None:
    """Check a parsed model, and put its external data, if any, into `proto` itself.

    Raises:
        ModelError: It does not hold what it says.
    """
    if not proto.graph.node:
        raise ModelError(f"{where} has no nodes: it is not an ONNX model, or an empty one")
    for tensor in _tensors(proto):
        _check_tensor(tensor, where, folder)
    for graph in _graphs(proto):
        if graph.sparse_initializer:
            raise ModelError(f"{where} has sparse initializers: store them densely")
        for node in graph.node:
            _check_node(node, where)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        _check_declared(value, where)
    if proto.ByteSize() > MAX_MODEL_BYTES:
        raise ModelError(f"{where} is above 2 GB with its weights; that is not supported")
    try:
        onnx.checker.check_model(without_weights(proto))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"{where} is not a valid ONNX model: {_first_line(error)}") from None


def without_weights(proto: onnx.ModelProto, *, keep: int = 1024) -> onnx.ModelProto:
    """A copy whose initializers of more than `keep` elements are inputs of the same type.

    Checking and inferring shapes then cost the same for a large model as for a small one.
    """
    bare = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name not in ("graph", "opset_import", "functions", "metadata_props"):
            if hasattr(value, "CopyFrom") or field.is_repeated:
                continue
            setattr(bare, field.name, value)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph, source = bare.graph, proto.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    known = {value.name for value in source.input}
    for tensor in source.initializer:
        if math.prod(tensor.dims) <= keep:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return bare


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    for graph in _graphs(proto):
        for node in graph.node:
            yield from node.attribute
    for function in proto.functions:
        for node in function.node:
            yield from node.attribute


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(proto):
        yield from graph.initializer
    for attribute in _attributes(proto):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise ModelError(f"attribute {attribute.name!r} is sparse: store it densely")


def _check_tensor(tensor: onnx.TensorProto, where: str, folder: Path | None) -> None:
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
        tensor.data_location = onnx.TensorProto.DEFAULT
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


def element_bits(data_type: int) -> int:
    """Bits of one element of an ONNX type as stored.

    Raises:
        ModelError: There is no such type.
    """
    try:
        name = onnx.TensorProto.DataType.Name(data_type)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{data_type} is not an element type this version knows") from None
    return _PACKED_BITS.get(name, int(np.dtype(dtype).itemsize) * 8)


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


def _check_node(node: onnx.NodeProto, where: str) -> None:
    title = f"{where}: {node.op_type} {node.name!r}"
    if node.op_type in _LOOPS:
        raise ModelError(f"{title}: loops inside a graph are not supported; unroll it on export")
    for attribute in node.attribute:
        values = [*attribute.ints, attribute.i] if attribute.type == 2 else list(attribute.ints)
        low = 1 if attribute.name in _POSITIVE else 0
        if attribute.name in _POSITIVE | _COUNTED and any(
            not low <= value < 2**31 for value in values
        ):
            raise ModelError(
                f"{title} has {attribute.name} = {values}: below {low} or far too large"
            )


def _check_declared(value: onnx.ValueInfoProto, where: str) -> None:
    if not value.type.HasField("tensor_type"):
        return
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
    if any(dim < 0 for dim in dims) or math.prod(dims) > MAX_TENSOR_BYTES:
        raise ModelError(f"{where}: value {value.name!r} declares the shape {dims}: too large")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
