"""Networks of one recurrent layer, and naive references of how they are computed in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from narrows.graph.quantize_weights import weight_levels

STEPS, INPUTS, UNITS = 6, 10, 24
GATES = {"GRU": 3, "LSTM": 4}
Array = np.ndarray[Any, Any]


def network(
    kind: str,
    *,
    direction: str = "forward",
    bias: bool = True,
    initial: float = 0.0,
    outputs: tuple[str, ...] = ("y",),
    units: int = UNITS,
    inputs: int = INPUTS,
    steps: int = STEPS,
    seed: int = 0,
    **attributes: Any,
) -> onnx.ModelProto:
    """A layer called "cell".

    Args:
        kind: "GRU" or "LSTM".
        direction: In time.
        bias: Whether it has biases.
        initial: Largest magnitude of its first states; 0: none are given.
        outputs: Of "y" (all states), "h" (the last ones), "c" (the last cells).
        units: Of each direction.
        inputs: At a step.
        steps: In time.
        seed: Of the weights.
        attributes: More, of the node.
    """
    rng = np.random.default_rng(seed)
    ways, rows = 1 + (direction == "bidirectional"), GATES[kind] * units
    shapes = {"W": (ways, rows, inputs), "R": (ways, rows, units)}
    constants: dict[str, Array] = {
        name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()
    }
    if bias:
        constants["B"] = rng.normal(0, 0.3, (ways, 2 * rows))
    read = ["x", "W", "R", "B" if bias else "", "", *["h0"] * bool(initial)]
    nodes = []
    if initial:
        read += ["h0"] if kind == "LSTM" else []
        constants["first"] = initial * rng.uniform(-1, 1, (ways, 1, units))
        nodes = _for_each_sample("first", "h0")
    names = [name if name in outputs else "" for name in ("y", "h", "c")[: 2 + (kind == "LSTM")]]
    made = helper.make_node(
        kind, read, names, name="cell", hidden_size=units, direction=direction, **attributes
    )
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [steps, "N", inputs])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    stored.append(numpy_helper.from_array(np.array([1]), "one"))
    graph = helper.make_graph([*nodes, made], "g", [given], ends, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _for_each_sample(name: str, output: str) -> list[onnx.NodeProto]:
    """A constant (ways, 1, units) for each sample of x."""
    return [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["batch"]),
        helper.make_node("Concat", ["one", "batch", "one"], ["sizes"], axis=0),
        helper.make_node("Expand", [name, "sizes"], [output]),
    ]


def samples(count: int = 3, *, seed: int = 1, inputs: int = INPUTS, steps: int = STEPS) -> Array:
    x = np.random.default_rng(seed).normal(size=(steps, count, inputs))
    return x.astype(np.float32)


def constant(proto: onnx.ModelProto, name: str) -> Array:
    return next(numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == name)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def to_levels(x: Array, step: float, zero: int) -> Array:
    """Levels of uint8, without their zero point."""
    return np.clip(np.rint(x / np.float32(step)) + zero, 0, 255) - zero


def state_product(values: Array, weight: Array, largest: float) -> Array:
    """States in -largest … largest times a weight (outputs, units)."""
    whole, steps = weight_levels(weight, 0)
    step = largest / 127
    return step * steps * (to_levels(values, step, 128) @ whole.T.astype(float))


def integer_gru(proto: onnx.ModelProto, x: Array, found: tuple[float, float]) -> Array:
    """All states (steps, ways, n, units) by the rule, a step and a direction at a time.

    Args:
        proto: In floating point.
        x: Input.
        found: Range of the input in calibration.
    """
    node = next(node for node in proto.graph.node if node.op_type == "GRU")
    set_to = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    x_step = np.float32((high - low) / 255)
    X = to_levels(x, x_step, round(-low / x_step))
    W, R = constant(proto, "W"), constant(proto, "R")
    units = R.shape[2]
    B = constant(proto, "B") if node.input[3] else np.zeros((len(W), 6 * units))
    first = constant(proto, "first") if len(node.input) > 5 else np.zeros((len(W), 1, units))
    largest = max(1.0, np.abs(first).max())
    made = np.zeros((len(x), len(W), x.shape[1], units))
    for way in range(len(W)):
        w, w_steps = weight_levels(W[way], 0)
        z_of, n_of = slice(0, 2 * units), slice(2 * units, None)
        bias_w, bias_r = B[way].reshape(2, -1)
        h = np.repeat(first[way], x.shape[1], axis=0)
        backward = way == 1 or set_to["direction"] == b"reverse"
        for t in reversed(range(len(x))) if backward else range(len(x)):
            given = x_step * w_steps * (X[t] @ w.T.astype(float)) + bias_w
            gates = sigmoid(given[:, z_of] + state_product(h, R[way][z_of], largest) + bias_r[z_of])
            z, r = np.split(gates, 2, axis=1)
            if set_to.get("linear_before_reset"):
                left = r * (state_product(h, R[way][n_of], largest) + bias_r[n_of])
            else:
                left = state_product(r * h, R[way][n_of], largest) + bias_r[n_of]
            h = (1 - z) * np.tanh(given[:, n_of] + left) + z * h
            made[t, way] = h
    return made


def integer_lstm(proto: onnx.ModelProto, x: Array) -> Array:
    """All states of a forward LSTM by the runtime's rule: steps of data from the data."""
    W, R, B = (constant(proto, name)[0] for name in "WRB")
    units = R.shape[1]
    bias = B.reshape(2, -1).sum(axis=0)

    def product(values: Array, weight: Array) -> Array:
        low, high = min(values.min(), 0.0), max(values.max(), 0.0)
        step = np.float32((high - low) / 255) or np.float32(1)
        levels = to_levels(values, step, round(-low / step))
        whole, steps = weight_levels(weight, 0)
        return step * steps * (levels @ whole.T.astype(float))

    given = product(x.reshape(-1, x.shape[2]), W).reshape(*x.shape[:2], -1)
    h = c = np.zeros((x.shape[1], units), np.float32)
    made = []
    for t in range(len(x)):
        i, o, f, g = np.split(given[t] + product(h, R) + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = (sigmoid(o) * np.tanh(c)).astype(np.float32)
        made.append(h)
    return np.stack(made)[:, None]
