"""Bytes and numbers of a model as it lies on the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import onnx

from narrows.errors import MeasureError
from narrows.graph.cost import size_bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """How large a model is.

    Args:
        file_bytes: The file with its external data, or the model as it would be written.
        weight_bytes: Its weights, as stored.
        parameters: Numbers among the weights.
        bytes_by_type: Weight bytes for each element type, e.g. {"FLOAT": 18_600_000}.
    """

    file_bytes: int
    weight_bytes: int
    parameters: int
    bytes_by_type: Mapping[str, int]


def model_size(source: str | Path | onnx.ModelProto) -> ModelSize:
    """Look at a file or at a model in memory.

    Raises:
        MeasureError: There is no such file, or it is no ONNX model.

    Example:
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 2] x) => (float[N, 1] y)
        ... <float[2, 1] w = {1, 2}> {y = MatMul(x, w)}'''
        >>> found = model_size(onnx.parser.parse_model(text))
        >>> found.parameters, found.weight_bytes
        (2, 8)
    """
    if isinstance(source, onnx.ModelProto):
        return _weights(source, source.ByteSize())
    path = Path(source)
    try:
        proto = onnx.load(path, load_external_data=False)
        outside = {path.parent / name for name in _external_files(proto)}
        file_bytes = path.stat().st_size + sum(part.stat().st_size for part in outside)
        return _weights(proto, file_bytes)
    except Exception as error:
        msg = f"cannot measure {path}: {error or type(error).__name__}: give an ONNX file"
        raise MeasureError(msg) from None


def _external_files(proto: onnx.ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in _stored(proto)
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _stored(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Initializers, and the constants that some exporters make of weights."""
    constants = (node for node in proto.graph.node if node.op_type == "Constant")
    inside = [a.t for node in constants for a in node.attribute if a.HasField("t")]
    return [*proto.graph.initializer, *inside]


def _weights(proto: onnx.ModelProto, file_bytes: int) -> ModelSize:
    tensors = _stored(proto)
    by_type: dict[str, int] = {}
    for tensor in tensors:
        title = onnx.TensorProto.DataType.Name(tensor.data_type)
        by_type[title] = by_type.get(title, 0) + _stored_bytes(tensor)
    return ModelSize(
        file_bytes=file_bytes,
        weight_bytes=sum(by_type.values()),
        parameters=sum(math.prod(tensor.dims) for tensor in tensors),
        bytes_by_type=by_type,
    )


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    if tensor.external_data:
        lengths = [int(e.value) for e in tensor.external_data if e.key == "length"]
        if lengths:
            return lengths[0]
    return size_bytes(tensor)
