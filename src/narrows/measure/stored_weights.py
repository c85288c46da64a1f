"""The weights that a model's operators multiply by: units, zeros, scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.graph.load import Model
from narrows.graph.quantized import WEIGHT_INPUTS

_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
_INTEGER_WEIGHT_INPUTS: Final[Mapping[str, int]] = {
    "QLinearConv": 3,
    "ConvInteger": 1,
    "QGemm": 3,
    "QLinearMatMul": 3,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "DynamicQuantizeLSTM": 1,
    "FusedConv": 1,
    "FusedGemm": 1,
    "FusedMatMul": 1,
    "MatMulNBits": 1,
}
_QLINEAR: Final = frozenset({"QLinearConv", "QLinearMatMul", "QGemm"})
_PLACES: Final = {**WEIGHT_INPUTS, **_INTEGER_WEIGHT_INPUTS}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorWeights:
    """What one operator multiplies data by.

    Args:
        name: The node.
        op_type: Its operator.
        units: What it makes: output channels, outputs, hidden units of all directions.
        zero_units: Those whose weights are all zero (0 for recurrent layers: they share gates).
        count: Weights, biases left out.
        zeros: Those that are zero; of integers those that equal their zero point.
        scales: Scales its weights are dequantized with; 0 where they are floating point.
        largest_int8: Largest magnitude of weights stored as int8; 0 where they are stored
            otherwise.
    """

    name: str
    op_type: str
    units: int
    zero_units: int
    count: int
    zeros: int
    scales: int
    largest_int8: int


def operator_weights(model: Model) -> tuple[OperatorWeights, ...]:
    """The weights of every operator that works on data and has some, in order.

    Example:
        >>> from narrows.graph.load import load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y)
        ... <float[4, 2] w = {1, 0, 3, 0, 5, 0, 7, 0}> {y = MatMul(x, w)}'''
        >>> (found,) = operator_weights(load(onnx.parser.parse_model(text)))
        >>> found.units, found.zero_units, found.count, found.zeros
        (2, 1, 8, 4)
    """
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    constants = _Constants(model, stored)
    found = []
    for position, node in enumerate(model.flow.nodes):
        place = _PLACES.get(node.op_type)
        if not model.flow.is_data(position):
            continue
        if node.op_type == "Scan":
            described = _loop(node, constants)
        elif place is None or len(node.input) <= place:
            continue
        else:
            described = _described(node, place, constants)
        if described is not None:
            found.append(described)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    """Which values are not zero, how many scales there are (0: none is known), the largest."""

    used: NDArray[np.bool_]
    scales: int
    largest_int8: int = 0


@dataclass(frozen=True, slots=True)
class _Constants:
    """A model's constants by name."""

    model: Model
    stored: Mapping[str, onnx.TensorProto]

    def array(self, node: onnx.NodeProto, place: int) -> NDArray[Any] | None:
        """The initializer that a node reads at a place."""
        name = node.input[place] if len(node.input) > place else ""
        return numpy_helper.to_array(self.stored[name]) if name in self.stored else None

    def weight(self, node: onnx.NodeProto, place: int) -> _Weight | None:
        """A constant operand, through what dequantizes or moves it; None where it is data."""
        values = self.array(node, place)
        if values is not None:
            quantized = node.op_type in _INTEGER_WEIGHT_INPUTS and values.dtype.kind in "iu"
            point = self.array(node, place + 2) if quantized else None
            scale = self.array(node, place + 1) if node.op_type in _QLINEAR else None
            scales = 0 if scale is None else int(scale.size)
            used = _used(values, point, axis=0)
            return _Weight(used=used, scales=scales, largest_int8=_largest_int8(values))
        name, flow = node.input[place], self.model.flow
        if name in flow.dependent or name not in flow.producer:
            return None
        maker = flow.nodes[flow.producer[name]]
        if maker.op_type == "DequantizeLinear":
            return self._dequantized(maker)
        inner = self.weight(maker, 0) if maker.input else None
        other = self.weight(maker, 1) if maker.op_type == "Mul" else None
        if inner is not None and other is not None:  # a mask, or the weight that it masks
            return _Weight(
                used=inner.used & other.used,
                scales=max(inner.scales, other.scales),
                largest_int8=max(inner.largest_int8, other.largest_int8),
            )
        if inner is None or maker.op_type != "Transpose":
            return inner
        order = next((tuple(a.ints) for a in maker.attribute if a.name == "perm"), None)
        return replace(inner, used=inner.used.transpose(order))

    def _dequantized(self, maker: onnx.NodeProto) -> _Weight | None:
        values, scale = self.array(maker, 0), self.array(maker, 1)
        if values is None:
            return None
        axis = next((int(a.i) for a in maker.attribute if a.name == "axis"), 1)
        used = _used(values, self.array(maker, 2), axis=axis)
        return _Weight(
            used=used,
            scales=1 if scale is None else int(scale.size),
            largest_int8=_largest_int8(values),
        )


def _largest_int8(values: NDArray[Any]) -> int:
    if values.dtype != np.int8 or not values.size:
        return 0
    return max(-int(values.min()), int(values.max()))


def _used(values: NDArray[Any], point: NDArray[Any] | None, *, axis: int) -> NDArray[np.bool_]:
    """Which values differ from zero, or from their zero point."""
    zero: Any = 0
    if point is not None and point.size == 1:
        zero = point.reshape(())
    elif point is not None and point.ndim == 1 and values.ndim:
        shape = [1] * values.ndim
        shape[axis % values.ndim] = -1
        zero = point.reshape(shape)
    found: NDArray[np.bool_] = values != zero
    return found


def _described(node: onnx.NodeProto, place: int, constants: _Constants) -> OperatorWeights | None:
    weight = constants.weight(node, place)
    if weight is None:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    parts = [weight.used]
    if node.op_type in _RECURRENT:
        state = constants.weight(node, place + 1)
        parts += [] if state is None else [state.used]
        units = int(attributes.get("hidden_size", 0)) * weight.used.shape[0]
        zero_units = 0
    else:
        axis = _unit_axis(node.op_type, attributes)
        by_unit = np.moveaxis(weight.used, axis, 0)
        units, idle = len(by_unit), ~by_unit.reshape(len(by_unit), -1).any(1)
        zero_units = int(idle.sum())
        if node.op_type == "ConvTranspose":
            units *= int(attributes.get("group", 1))
    count = sum(part.size for part in parts)
    return OperatorWeights(
        name=node.name,
        op_type=node.op_type,
        units=units,
        zero_units=zero_units,
        count=count,
        zeros=count - sum(int(part.sum()) for part in parts),
        scales=weight.scales,
        largest_int8=weight.largest_int8,
    )


def _loop(node: onnx.NodeProto, constants: _Constants) -> OperatorWeights | None:
    """The loop of an integer GRU, the only one that is loaded: products with the state."""
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    parts = [constants.weight(n, 1) for n in body.node if n.op_type == "MatMulInteger"]
    found = [part for part in parts if part is not None]
    scanned = next(
        attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs"
    )
    states = body.input[: len(body.input) - scanned]
    count = sum(part.used.size for part in found)
    return OperatorWeights(
        name=node.name,
        op_type=node.op_type,
        units=sum(state.type.tensor_type.shape.dim[-1].dim_value for state in states),
        zero_units=0,
        count=count,
        zeros=count - sum(int(part.used.sum()) for part in found),
        scales=0,
        largest_int8=max((part.largest_int8 for part in found), default=0),
    )


def _unit_axis(op_type: str, attributes: Mapping[str, Any]) -> int:
    """Axis of a weight along which units lie."""
    if "Conv" in op_type:
        return 1 if op_type == "ConvTranspose" else 0
    if "Gemm" in op_type:
        return 0 if attributes.get("transB") else 1
    return -1
