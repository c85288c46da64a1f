from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.graph.quantize_weights import quantize_weights, weight_levels
from narrows.graph.quantized import weight_bearing

_NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4, 12, 12] x) => (float[N, 6] y) {
  [conv] c = Conv<pads=[1,1,1,1]>(x, wc, bc)
  r = Relu(c)
  [up] u = ConvTranspose<strides=[2,2], kernel_shape=[2,2]>(r, wt)
  p = GlobalAveragePool(u)
  f = Flatten(p)
  [one] g1 = Gemm<transB=1>(f, w1)
  [two] g2 = Gemm(g1, w2)
  [three] y = MatMul(g2, w3)
}"""
# Weight → its shape and the axis of its output channels.
_WEIGHTS = {
    "wc": ((16, 4, 3, 3), 0),
    "wt": ((16, 12, 2, 2), 1),
    "w1": ((50, 12), 0),
    "w2": ((50, 80), 1),
    "w3": ((80, 6), 1),
}


def network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_NET)
    for name, (shape, axis) in _WEIGHTS.items():
        sizes = [1] * len(shape)
        sizes[axis] = shape[axis]
        values = rng.normal(size=shape) * 2.0 ** -rng.integers(0, 8, size=sizes)
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(16, np.float32), "bc"))
    return proto


def naive(values: np.ndarray, axis: int) -> np.ndarray:
    """Each channel by itself: the largest magnitude is level 127, ties to even."""
    out = np.empty_like(values)
    for channel in range(values.shape[axis]):
        one = np.moveaxis(values, axis, 0)[channel]
        step = np.float32(np.abs(one).max() / np.float32(127))
        levels = np.clip(np.round(one.astype(np.float64) / step), -127, 127)
        np.moveaxis(out, axis, 0)[channel] = levels.astype(np.float32) * step
    return out


def test_the_runtime_computes_with_exactly_the_rules_weights(tmp_path: Path) -> None:
    """The small model answers bit for bit as the float one with naively rounded weights."""
    proto, x = network(), np.random.default_rng(1).normal(size=(3, 4, 12, 12)).astype(np.float32)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(proto)
    for tensor in rounded.graph.initializer:
        if tensor.name in ("wc", "wt", "w1", "w2"):
            values = naive(numpy_helper.to_array(tensor), _WEIGHTS[tensor.name][1])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    small = quantize_weights(proto)
    (found,) = run(session(small, optimise=False), {"x": x})
    (expected,) = run(session(rounded, optimise=False), {"x": x})
    assert found.tobytes() == expected.tobytes()
    assert found.tobytes() != run(session(proto, optimise=False), {"x": x})[0].tobytes()


def test_small_weights_and_biases_stay() -> None:
    """w3 has 480 values: its steps would take what its levels save."""
    held = weight_bearing(quantize_weights(network()))
    assert held.weights_only == ("conv", "up", "one", "two")
    assert held.floating == ("three",)
    assert held.int8 == ()


def test_the_file_is_a_quarter() -> None:
    rng = np.random.default_rng(0)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 512] x) => (float[N, 512] y) {y = MatMul(x, w)}"""
    large = onnx.parser.parse_model(text)
    weights = rng.normal(size=(512, 512)).astype(np.float32)
    large.graph.initializer.extend([numpy_helper.from_array(weights, "w")])
    assert quantize_weights(large).ByteSize() < 0.256 * large.ByteSize()


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    ),
    st.integers(0, 3),
)
def test_no_weight_is_off_by_more_than_half_a_step(values: np.ndarray, place: int) -> None:
    axis = place % values.ndim
    levels, steps = weight_levels(values, axis)
    assert levels.dtype == np.int8
    assert levels.min() >= -127
    shape = [1] * values.ndim
    shape[axis] = -1
    step = steps.astype(np.float64).reshape(shape)
    assert (np.abs(levels * step - values) <= step * 0.50001).all()
    largest = np.abs(values).max(axis=tuple(i for i in range(values.ndim) if i != axis))
    reached = np.abs(levels).max(axis=tuple(i for i in range(values.ndim) if i != axis))
    assert (reached[largest / 127 >= np.finfo(np.float32).tiny] == 127).all()


def test_recurrent_weights_have_a_step_for_each_gate_row() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[6, N, 32] x) => (float[1, N, 24] h) {_, h = GRU<hidden_size=24>(x, w, r)}"""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (1, 72, 32)), ("r", (1, 72, 24))):
        values = rng.normal(0, 0.2, size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    small = quantize_weights(proto)
    x = rng.normal(size=(6, 2, 32)).astype(np.float32)
    (found,), (exact,) = (run(session(m), {"x": x}) for m in (small, proto))
    assert 0 < np.abs(found - exact).max() < 0.02
    steps = {t.name: t.dims for t in small.graph.initializer if t.name.endswith("_step")}
    assert {name: list(dims) for name, dims in steps.items()} == {"w_step": [72], "r_step": [72]}


def test_a_weight_that_an_excluded_node_shares_stays() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 32] x) => (float[N, 32] y) {
      [a] h = MatMul(x, w) [b] k = MatMul(h, w) [c] y = MatMul(k, v)}"""
    proto = onnx.parser.parse_model(text)
    for name in "wv":
        values = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    assert weight_bearing(quantize_weights(proto, exclude=["a"])).weights_only == ("c",)
    assert weight_bearing(quantize_weights(proto)).weights_only == ("a", "b", "c")


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ModelError, match="quantized already"):
        quantize_weights(quantize_weights(network()))
    with pytest.raises(ModelError, match="no weights to quantize"):
        quantize_weights(network(), exclude=["Conv", "ConvTranspose", "Gemm"])
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[N, 4] y) {y = Relu(x)}"""
    with pytest.raises(ModelError, match="no weights to quantize"):
        quantize_weights(onnx.parser.parse_model(text))


def test_it_can_be_loaded_and_has_the_original_macs() -> None:
    from narrows.graph.cost import total_macs

    assert total_macs(load(quantize_weights(network()))) == total_macs(load(network()))
