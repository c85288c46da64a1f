"""ONNX → ONNX with weights of 8 bits and arithmetic in floating point: a quarter of the file.

    int8 weights, a step for each channel ──DequantizeLinear──► float32 ──► the operator as it was

ONNX Runtime dequantizes again at each run: memory stays small, time grows. With its session
option `session.disable_quant_qdq` it does so once while loading: time and memory are as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph.load import Model
from narrows.graph.quantized import WEIGHT_INPUTS, excluded, opened, with_opset

MAX_LEVEL: Final = 127
# Below this many values a step for each channel takes as much as it saves.
_LEAST_VALUES: Final = 512


def quantize_weights(
    model: Model | onnx.ModelProto | str | Path, *, exclude: Sequence[str] = ()
) -> onnx.ModelProto:
    """A model with the weights of its convolutions, products and recurrent layers in int8.

    Weights are symmetric, with one step for each output channel: the largest magnitude is level
    127, and no value is off by more than half a step. Small constants stay as they are.

    Args:
        model: In floating point.
        exclude: What to leave alone: names of nodes, types of operators, "first" and "last".

    Returns:
        The same graph with a DequantizeLinear before each such weight.

    Raises:
        ModelError: The model cannot be read, is quantized already, or holds no such weights.

    Example:
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 64] x) => (float[N, 64] y) {y = MatMul(x, w)}'''
        >>> proto = onnx.parser.parse_model(text)
        >>> weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
        >>> proto.graph.initializer.extend([numpy_helper.from_array(weights, "w")])
        >>> small = quantize_weights(proto)
        >>> round(small.ByteSize() / proto.ByteSize(), 2)
        0.28
    """
    ready = opened(model)
    places = _places(ready, exclude)
    proto = onnx.ModelProto()
    proto.CopyFrom(with_opset(ready.proto))
    graph = proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for name, axis in places.items():
        values = numpy_helper.to_array(stored[name])
        levels, steps = weight_levels(values, axis)
        graph.initializer.remove(stored[name])
        quantized, scale = f"{name}_int8", f"{name}_step"
        graph.initializer.append(numpy_helper.from_array(levels, quantized))
        graph.initializer.append(numpy_helper.from_array(steps, scale))
        # Without a zero point the type of the levels is not told, and the default is uint8.
        zero = numpy_helper.from_array(np.zeros(len(steps), np.int8), f"{name}_zero")
        graph.initializer.append(zero)
        node = onnx.helper.make_node(
            "DequantizeLinear",
            [quantized, scale, zero.name],
            [name],
            name=f"dequantize {name}",
            axis=axis,
        )
        graph.node.insert(0, node)
    proto.producer_name = "narrows"
    return proto


def weight_levels(
    values: NDArray[Any], axis: int, *, most: int = MAX_LEVEL
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as levels -127 … 127 and the step of each channel.

    Args:
        values: Finite, with at least one axis.
        axis: Of the channels.
        most: Level of a channel's largest magnitude.

    Returns:
        Levels in the shape of the values, and steps (channels,); a channel of zeros has step 1.

    Example:
        >>> levels, steps = weight_levels(np.array([[0.5, -1.0], [0.0, 0.0]]), axis=0)
        >>> levels.tolist(), (127 * steps).tolist()
        ([[64, -127], [0, 0]], [1.0, 127.0])
    """
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others).astype(np.float32)
    # A subnormal step would lose the digits that the levels stand on.
    tiny = np.finfo(np.float32).tiny
    steps = np.where(largest / most >= tiny, largest / most, 1.0).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = -1
    scaled = np.rint(values.astype(np.float64) / steps.reshape(shape))
    return np.clip(scaled, -most, most).astype(np.int8), steps


def _places(model: Model, exclude: Sequence[str]) -> dict[str, int]:
    """Weights to quantize, and the axis of their output channels."""
    graph = model.proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    left_out = excluded(model, exclude)
    found: dict[str, int] = {}
    refused: set[str] = set()
    for position, node in enumerate(model.flow.nodes):
        place = WEIGHT_INPUTS.get(node.op_type)
        if place is None or not model.flow.is_data(position):
            continue
        for index in _weights(node):
            tensor = stored.get(node.input[index]) if index < len(node.input) else None
            if tensor is None or not _worth(tensor):
                continue
            if node.name in left_out:
                refused.add(tensor.name)
            found.setdefault(tensor.name, _axis(node, len(tensor.dims)))
    for name in refused | {value.name for value in graph.output}:
        found.pop(name, None)
    if not found:
        types = ", ".join(sorted({node.op_type for node in model.flow.nodes})[:12])
        msg = (
            f"there are no weights to quantize: the model has {types}; excluded are "
            f"{', '.join(exclude) or 'none'}; less than {_LEAST_VALUES} values are not worth it"
        )
        raise ModelError(msg)
    return found


def _weights(node: onnx.NodeProto) -> tuple[int, ...]:
    """Places of a node's inputs that may be weights; the recurrent ones have two."""
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return (1, 2)
    return (0, 1) if node.op_type == "MatMul" else (1,)


def _worth(tensor: onnx.TensorProto) -> bool:
    size = int(np.prod(tensor.dims))
    return (
        tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) >= 2
        and size >= _LEAST_VALUES
    )


def _axis(node: onnx.NodeProto, dims: int) -> int:
    """The axis of a weight that its outputs run along."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if transposed else 1
    if node.op_type == "MatMul":
        return dims - 1
    return 1  # ConvTranspose; directions come first in the recurrent ones
