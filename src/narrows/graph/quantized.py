"""What of a model is in 8-bit integers, and what can be, read off its graph.

What the runtime makes of the graph is another question: `narrows.measure.execution` answers it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import onnx

from narrows.errors import ModelError
from narrows.graph.flow import trace
from narrows.graph.load import Model, load

LEAST_OPSET: Final = 13  # the first whose DequantizeLinear knows channels

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
    "DynamicQuantizeLSTM",
}
_OTHER_FLOATS: Final = (
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
_INTEGER: Final = {
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLSTM",
}


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
        if _is_integer(node) and flow.is_data(position):
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


def _is_integer(node: onnx.NodeProto) -> bool:
    """Whether a node multiplies integers, a loop in its body."""
    body = next(
        (a.g.node for a in node.attribute if node.op_type == "Scan" and a.name == "body"), ()
    )
    return node.op_type in _INTEGER or any(inner.op_type in _INTEGER for inner in body)


def with_opset(proto: onnx.ModelProto, least: int = LEAST_OPSET) -> onnx.ModelProto:
    """The model in an operator set that has what quantizing needs.

    Raises:
        ModelError: It is older and cannot be converted.
    """
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version >= least:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, least)
    except Exception as error:
        msg = (
            f"the model is of operator set {version}; quantizing needs {least} and it cannot be "
            f"converted ({' '.join(str(error).split())[:200]}): export it again"
        )
        raise ModelError(msg) from None


def opened(model: Model | onnx.ModelProto | str | Path) -> Model:
    """A checked float model.

    Raises:
        ModelError: It cannot be read, is quantized already, or has weights that are not float32.
    """
    found = model if isinstance(model, Model) else load(model)
    if is_quantized(found.proto):
        msg = "the model is quantized already: give the one in floating point"
        raise ModelError(msg)
    stored = {tensor.name: tensor for tensor in found.proto.graph.initializer}
    for node in data_nodes(found):
        for name in node.input if node.op_type in WEIGHT_INPUTS else ():
            if name in stored and stored[name].data_type in _OTHER_FLOATS:
                kind = onnx.TensorProto.DataType.Name(stored[name].data_type).lower()
                msg = f"weights {name!r} are {kind}: quantizing starts from float32, export in that"
                raise ModelError(msg)
    return found


def excluded(model: Model, exclude: Sequence[str]) -> frozenset[str]:
    """Names of the nodes that are to stay as they are.

    Args:
        model: The model.
        exclude: Names of nodes, types of operators, "first" and "last" (with weights).

    Raises:
        ModelError: Something is not in the model; the message names what is similar.
    """
    nodes = data_nodes(model)
    known = {name for node in nodes for name in (node.name, node.op_type)} | {"first", "last"}
    weighted = [node.name for node in nodes if has_weights(model, node)]
    found: set[str] = set()
    for text in exclude:
        if text not in known:
            close = difflib.get_close_matches(text, sorted(known), n=3, cutoff=0.3)
            msg = (
                f"cannot exclude {text!r}: the model has no such node or operator (after folding); "
                f"similar: {', '.join(close) or 'none'}; or give first, last"
            )
            raise ModelError(msg)
        if text in ("first", "last"):
            found.update(weighted[:1] if text == "first" else weighted[-1:])
        found.update(node.name for node in nodes if text in (node.name, node.op_type))
    return frozenset(found)


def data_nodes(model: Model) -> list[onnx.NodeProto]:
    """The nodes that work on data, in order."""
    return [node for i, node in enumerate(model.flow.nodes) if model.flow.is_data(i)]


def has_weights(model: Model, node: onnx.NodeProto) -> bool:
    """Whether an operator multiplies data by constants."""
    place = WEIGHT_INPUTS.get(node.op_type)
    return place is not None and any(n not in model.flow.data for n in node.input[: place + 1])
