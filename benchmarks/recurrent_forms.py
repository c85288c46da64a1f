"""Other integer forms of recurrent layers, made of the one that narrows writes, to compare it with.

loop       products of 8 bits, Cast and Mul inside a Scan: what `quantize_static` writes for a GRU
unrolled   the same nodes for each step, without the Scan
fused      com.microsoft.MatMulIntegerToFloat for the product, Cast and Mul
dequantize DequantizeLinear of the integer sums in place of Cast and Mul
pairs      QuantizeLinear and DequantizeLinear around MatMul, which the runtime fuses elsewhere
dynamic    com.microsoft.DynamicQuantizeMatMul, which takes the state's step from the state
blocks     com.microsoft.MatMulNBits of 8 bits and accuracy level 4, weights in blocks of inputs
float loop the loop with products in floating point: what the loop alone costs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
_MICROSOFT: Final = "com.microsoft"
_BLOCKS: Final = (128, 64, 32, 16)


def gru_forms(loop: onnx.ModelProto, steps: int) -> dict[str, onnx.ModelProto]:
    """Every form of a network of one GRU in integers.

    Args:
        loop: As `quantize_static` made it.
        steps: In time.
    """
    return {
        "loop": loop,
        "unrolled": _unrolled(loop, steps),
        "fused": _with_products(loop, _fused),
        "dequantize": _with_products(loop, _dequantize),
        "pairs": _with_products(loop, _pairs),
        "dynamic": _with_products(loop, _dynamic),
        "blocks": _with_products(loop, _blocks),
        "float loop": _with_products(loop, _floating),
    }


def _with_products(
    loop: onnx.ModelProto, product: Callable[[Product], list[onnx.NodeProto]]
) -> onnx.ModelProto:
    """The product of a step (QuantizeLinear, MatMulInteger, Cast, Mul) done in another way."""
    proto = _copy(loop)
    (scan,) = (node for node in proto.graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    four = list(body.node[:4])
    assert [node.op_type for node in four] == ["QuantizeLinear", "MatMulInteger", "Cast", "Mul"]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    made = Product(four=four, stored=stored)
    nodes = [*product(made), *body.node[4:]]
    del body.node[:]
    body.node.extend(nodes)
    proto.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in made.added.items()
    )
    proto.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return proto


class Product:
    """The four nodes of a product, what they read, and what takes their place reads."""

    def __init__(self, *, four: list[onnx.NodeProto], stored: Mapping[str, Array]) -> None:
        self.state, self.out = four[0].input[0], four[3].output[0]
        self.quantize, self.multiply = four[0], four[1]
        self.weight, self.steps = self.multiply.input[1], four[3].input[1]
        self.levels, self.column_steps = stored[self.weight], stored[self.steps]
        self.state_step = stored[four[0].input[1]]
        self.added: dict[str, Array] = {}

    def give(self, name: str, values: Array) -> str:
        """A new constant."""
        self.added[name] = values
        return name


def _fused(one: Product) -> list[onnx.NodeProto]:
    unit = one.give("unit", np.float32(1))
    inputs = [one.quantize.output[0], one.weight, unit, one.steps, one.quantize.input[2]]
    return [one.quantize, _microsoft("MatMulIntegerToFloat", inputs, one.out)]


def _dequantize(one: Product) -> list[onnx.NodeProto]:
    whole = one.multiply.output[0]
    node = helper.make_node("DequantizeLinear", [whole, one.steps], [one.out], axis=1)
    return [one.quantize, one.multiply, node]


def _pairs(one: Product) -> list[onnx.NodeProto]:
    steps = one.give("weight steps", one.column_steps / one.state_step)
    zeros = one.give("weight zeros", np.zeros(len(one.column_steps), np.int8))
    state = [one.quantize.output[0], *one.quantize.input[1:]]
    return [
        one.quantize,
        helper.make_node("DequantizeLinear", state, ["state back"]),
        helper.make_node("DequantizeLinear", [one.weight, steps, zeros], ["weight"], axis=1),
        helper.make_node("MatMul", ["state back", "weight"], [one.out]),
    ]


def _dynamic(one: Product) -> list[onnx.NodeProto]:
    steps = one.give("weight steps", one.column_steps / one.state_step)
    return [_microsoft("DynamicQuantizeMatMul", [one.state, one.weight, steps], one.out)]


def _blocks(one: Product) -> list[onnx.NodeProto]:
    rows, columns = one.levels.shape
    size = next((size for size in _BLOCKS if rows % size == 0), _BLOCKS[-1])
    count = -(-rows // size)
    values = np.zeros((columns, count * size), np.float32)
    values[:, :rows] = (one.levels * (one.column_steps / one.state_step)).T
    values = values.reshape(columns, count, size)
    steps = np.abs(values).max(axis=2) / 127
    levels = (np.rint(values / np.maximum(steps, 1e-30)[..., None]) + 128).astype(np.uint8)
    inputs = [one.state, one.give("blocks", levels), one.give("block steps", steps)]
    settings = {"K": rows, "N": columns, "bits": 8, "block_size": size, "accuracy_level": 4}
    return [_microsoft("MatMulNBits", inputs, one.out, **settings)]


def _floating(one: Product) -> list[onnx.NodeProto]:
    values = one.levels * (one.column_steps / one.state_step)
    weight = one.give("weights", values.astype(np.float32))
    return [helper.make_node("MatMul", [one.state, weight], [one.out])]


def _microsoft(operator: str, inputs: list[str], out: str, **settings: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [out], domain=_MICROSOFT, **settings)


def _unrolled(loop: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """One direction, all states wanted."""
    proto = _copy(loop)
    graph = proto.graph
    nodes = []
    for node in graph.node:
        nodes += _steps(graph, node, steps) if node.op_type == "Scan" else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    return proto


def _steps(graph: onnx.GraphProto, scan: onnx.NodeProto, steps: int) -> list[onnx.NodeProto]:
    body = next(a.g for a in scan.attribute if a.name == "body")
    inner = {value.name for value in body.input} | {n for node in body.node for n in node.output}
    graph.initializer.append(numpy_helper.from_array(np.ones(steps, np.int64), "ones"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "first axis"))
    nodes, given = [], {body.input[0].name: scan.input[0]}
    for scanned in scan.input[1:]:
        parts = [f"{scanned} at {t}" for t in range(steps)]
        nodes.append(helper.make_node("Split", [scanned, "ones"], parts, axis=0))
    for t in range(steps):
        for value, scanned in zip(body.input[1:], scan.input[1:], strict=True):
            given[value.name] = f"{scanned} of {t}"
            inputs = [f"{scanned} at {t}", "first axis"]
            nodes.append(helper.make_node("Squeeze", inputs, [given[value.name]]))
        names = {name: given.get(name, f"{name} {t}") for name in inner}
        for node in body.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name} {t}"
            copy.input[:] = [names.get(name, name) for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            nodes.append(copy)
        given = {body.input[0].name: names[body.output[0].name]}
        inputs = [names[body.output[1].name], "first axis"]
        nodes.append(helper.make_node("Unsqueeze", inputs, [f"state {t}"]))
    states = [f"state {t}" for t in range(steps)]
    return [*nodes, helper.make_node("Concat", states, [scan.output[1]], axis=0)]


_LSTM_LOOP: Final = """<ir_version: 8, opset_import: ["" : 17]>
loop (float[STEPS, N, INPUTS] x) => (float[STEPS, 1, N, UNITS] y) {
  levels = QuantizeLinear(x, x_step, zero)
  whole = MatMulInteger(levels, W, zero)
  float = Cast<to = 1>(whole)
  scaled = Mul(float, W_steps)
  gates = Add(scaled, B)
  h, c, states = Scan<num_scan_inputs = 1, body = step
    (float[N, UNITS] h0, float[N, UNITS] c0, float[N, GATES] xt)
    => (float[N, UNITS] h1, float[N, UNITS] c1, float[N, UNITS] yt) {
      hl = QuantizeLinear(h0, h_step, zero)
      hw = MatMulInteger(hl, R, zero)
      hf = Cast<to = 1>(hw)
      hs = Mul(hf, R_steps)
      s = Add(hs, xt)
      open, new = Split<axis = -1>(s, parts)
      sigma = Sigmoid(open)
      i, o, f = Split<axis = -1>(sigma, thirds)
      g = Tanh(new)
      ig = Mul(i, g)
      fc = Mul(f, c0)
      c1 = Add(ig, fc)
      t = Tanh(c1)
      h1 = Mul(o, t)
      yt = Identity(h1)
    }>(zeros, zeros, gates)
  y = Unsqueeze(states, axis)
}"""


def lstm_loop(W: Array, R: Array, B: Array, *, steps: int, largest: float) -> onnx.ModelProto:
    """An LSTM in integers as a loop, as the GRU is one; for a batch of one.

    Args:
        W: (4 h, inputs), gates in ONNX's order.
        R: (4 h, h).
        B: (4 h,), both biases together.
        steps: In time.
        largest: Magnitude of the input.
    """
    rows, units = R.shape
    text = _LSTM_LOOP.replace("STEPS", str(steps)).replace("INPUTS", str(W.shape[1]))
    proto = onnx.parser.parse_model(text.replace("UNITS", str(units)).replace("GATES", str(rows)))
    x_step, h_step = np.float32(largest / 127), np.float32(1 / 127)
    constants: dict[str, Array] = {
        "x_step": x_step,
        "h_step": h_step,
        "zero": np.array(128, np.uint8),
        "B": B,
        "zeros": np.zeros((1, units), np.float32),
        "parts": np.array([3 * units, units]),
        "thirds": np.array([units] * 3),
        "axis": np.array([1]),
    }
    for name, values, step in (("W", W, x_step), ("R", R, h_step)):
        column = np.abs(values).max(axis=1) / 127
        constants[name] = np.rint(values / column[:, None]).astype(np.int8).T.copy()
        constants[f"{name}_steps"] = (step * column).astype(np.float32)
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()
    )
    return proto


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


assert TensorProto.FLOAT == 1  # what the text above casts to
