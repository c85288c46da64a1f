"""What of a model is in 8-bit integers, read off its graph.

What the runtime makes of the graph is another question: `narrows.measure.execution` answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import onnx

from narrows.graph.flow import trace

# Operators with weights, and which of their inputs these are.
WEIGHT_INPUTS: Final[Mapping[str, int]] = {
    "Conv": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
}
_QUANTIZED: Final = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
}
_INTEGER: Final = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBearing:
    """Operators that multiply data by constants, by how their weights and data are held.

    Args:
        int8: Weights and data in 8-bit integers.
        weights_only: Weights in 8-bit integers, data and arithmetic in floating point.
        floating: Neither.
    """

    int8: tuple[str, ...]
    weights_only: tuple[str, ...]
    floating: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.int8) + len(self.weights_only) + len(self.floating)


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether any of a model is in integers by quantization."""
    return any(node.op_type in _QUANTIZED for node in proto.graph.node)


def weight_bearing(proto: onnx.ModelProto) -> WeightBearing:
    """The operators with weights, by name in the order of the graph.

    Example:
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y)
        ... <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {[product] y = MatMul(x, w)}'''
        >>> weight_bearing(onnx.parser.parse_model(text)).floating
        ('product',)
    """
    flow = trace(proto.graph)
    found: dict[str, list[str]] = {"int8": [], "weights_only": [], "floating": []}
    for position, node in enumerate(flow.nodes):
        if node.op_type in _INTEGER and flow.is_data(position):
            found["int8"].append(node.name)
        place = WEIGHT_INPUTS.get(node.op_type)
        if place is None or not flow.is_data(position):
            continue
        inputs = node.input[: place + 1]
        constant = [name for name in inputs if name not in flow.dependent]
        if not constant:
            continue

        def dequantized(name: str) -> bool:
            maker = flow.producer.get(name)
            return maker is not None and flow.nodes[maker].op_type == "DequantizeLinear"

        if not all(dequantized(name) for name in constant):
            found["floating"].append(node.name)
        elif all(dequantized(name) for name in inputs):
            found["int8"].append(node.name)
        else:
            found["weights_only"].append(node.name)
    return WeightBearing(**{name: tuple(names) for name, names in found.items()})
