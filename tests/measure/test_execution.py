from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from narrows.config import from_dict, to_dict
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.environment import Environment, environment
from narrows.measure.execution import Execution, execution
from narrows.measure.graph_builder import Builder
from narrows.measure.record import Measurement
from narrows.measure.stored_weights import operator_weights

X86 = environment().architecture.lower() in ("x86_64", "amd64")


def network(width: int = 32) -> onnx.ModelProto:
    """Dense, depthwise, pointwise, a residual addition, an average and a matrix product."""
    graph = Builder(shape=(16, 14, 14), rng=np.random.default_rng(0))

    def conv(value: str, into: int, out: int, kernel: int, group: int = 1) -> str:
        weight = graph.weight(out, into // group, kernel, kernel)
        sides = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
        return graph.op("Conv", value, weight, group=group, **sides)

    first = graph.op("Relu", conv("x", 16, width, 3))
    deep = graph.op("Relu", conv(first, width, width, 3, group=width))
    added = graph.op("Relu", graph.op("Add", conv(deep, width, width, 1), first))
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", added))
    return graph.model(graph.op("Gemm", flat, graph.weight(width, 10)))


def samples() -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((4, 16, 14, 14), dtype=np.float32) for _ in range(2)]


@pytest.fixture(autouse=True)
def with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests expect does not depend on the processor they run on."""
    machine_with(monkeypatch, "avx2", "avx512_vnni")


def machine_with(
    monkeypatch: pytest.MonkeyPatch, *cpu_flags: str, architecture: str | None = None
) -> None:
    here = environment()
    there = replace(here, cpu_flags=cpu_flags, architecture=architecture or here.architecture)
    monkeypatch.setattr("narrows.measure.execution.environment", lambda: there)


@pytest.fixture(scope="module")
def floating() -> onnx.ModelProto:
    return network()


def test_u8s8_runs_wholly_in_int8(floating: onnx.ModelProto) -> None:
    found = execution(load(quantize_static(floating, samples(), activation="uint8")))
    assert (found.weight_bearing, found.int8, found.asked_int8) == (4, 4, 4)
    assert found.kernels == {"QLinearConv": 3, "QGemm": 1}
    assert found.int8_macs == found.macs == execution(load(floating)).macs
    assert found.flags == ()
    assert found.text.startswith("4 of 4 weight-bearing operators run in int8 (100.0 %")
    assert from_dict(Execution, to_dict(found)) == found


def test_a_float_model_asks_for_nothing(floating: onnx.ModelProto) -> None:
    found = execution(load(floating))
    assert (found.weight_bearing, found.int8, found.asked_int8, found.flags) == (4, 0, 0, ())
    assert sum(found.kernels.values()) == 4


@pytest.mark.skipif(not X86, reason="int8 activations are right on Arm")
def test_s8s8_is_flagged_on_x86(floating: onnx.ModelProto) -> None:
    found = execution(load(quantize_static(floating, samples(), activation="int8")))
    assert found.asked_int8 == 4
    assert any("(S8S8)" in flag for flag in found.flags)


SATURATION = "no VNNI: in 4 of 4 int8 operators sums of uint8 × int8 (U8S8) may saturate"


@pytest.mark.parametrize(
    ("architecture", "cpu_flags", "flagged"),
    [
        ("x86_64", ("avx", "avx2", "fma"), True),
        ("x86_64", ("avx2", "avx512f"), True),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), False),
        ("AMD64", ("avx2", "avx_vnni"), False),
        ("x86_64", (), False),  # not known
        ("aarch64", ("asimd",), False),
    ],
)
def test_sums_that_saturate_without_vnni_are_flagged(
    floating: onnx.ModelProto,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    cpu_flags: tuple[str, ...],
    flagged: bool,
) -> None:
    machine_with(monkeypatch, *cpu_flags, architecture=architecture)
    made = load(quantize_static(floating, samples(), activation="uint8"))
    assert any(SATURATION in flag for flag in execution(made).flags) == flagged


def test_what_cannot_saturate_is_not_flagged(
    floating: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, "avx2", architecture="x86_64")
    narrow = quantize_static(floating, samples(), activation="uint8", reduce_range=True)
    signed = quantize_static(floating, samples(), activation="int8")
    for proto in (floating, quantize_weights(floating), narrow, signed):
        assert not any("VNNI" in flag for flag in execution(load(proto)).flags)


def test_one_scale_for_all_channels_is_flagged(floating: onnx.ModelProto) -> None:
    made = quantize_static(floating, samples(), activation="uint8", per_channel=False)
    found = execution(load(made))
    assert any(
        flag.startswith("weights of 4 of 4 operators have one scale") for flag in found.flags
    )


def test_a_pattern_that_cannot_fuse_is_found(floating: onnx.ModelProto) -> None:
    made = quantize_static(floating, samples(), activation="uint8")
    _leave_output_in_float(made, "Conv_v2")
    model = load(made)
    found = execution(model)
    # What follows now reads floating point too, but does not claim to be int8.
    assert (found.int8, found.asked_int8, found.weight_bearing) == (2, 3, 4)
    assert found.int8_macs == found.macs - 32 * 14 * 14 * (9 + 32)
    (flag,) = found.flags
    assert flag.startswith("int8 model runs 2 of 4 weight-bearing operators in int8: Conv_v2 in fl")


def _leave_output_in_float(proto: onnx.ModelProto, name: str) -> None:
    """Drop the pair after a convolution, without which its kernel has nothing to round to."""
    nodes = {node.name: node for node in proto.graph.node}
    value = nodes[name].output[0]
    quantize = next(n for n in proto.graph.node if n.input[:1] == [value])
    assert quantize.op_type == "QuantizeLinear", quantize.op_type
    pair = next(n for n in proto.graph.node if n.input[:1] == [quantize.output[0]])
    for node in proto.graph.node:
        node.input[:] = [value if i == pair.output[0] else i for i in node.input]
    proto.graph.node.remove(quantize)
    proto.graph.node.remove(pair)


def test_weights_alone_are_no_flag(floating: onnx.ModelProto) -> None:
    found = execution(load(quantize_weights(floating)))
    assert (found.int8, found.asked_int8, found.int8_macs, found.flags) == (0, 0, 0, ())
    assert found.weights_only == 2  # the two others are too small to gain
    assert "by design" in found.text


def test_a_product_whose_data_the_runtime_rounds_runs_in_int8() -> None:
    """ONNX Runtime fuses weights in 8 bits into MatMulNBits, whose accuracy level 4 is int8."""
    graph = Builder(shape=(256,), rng=np.random.default_rng(0))
    proto = graph.model(graph.op("MatMul", "x", graph.weight(256, 256)))
    found = execution(load(quantize_weights(proto)))
    assert (found.kernels, found.asked_int8, found.weights_only) == ({"MatMulNBits": 1}, 0, 1)
    assert (found.int8, found.int8_share) == (1, 1)
    assert "by design" not in found.text
    assert found.text.endswith("the runtime rounds the data, too")


def test_a_dynamically_quantized_lstm_runs_in_int8() -> None:
    rng = np.random.default_rng(0)
    graph = Builder(shape=(12, 8), rng=rng)
    turned = graph.op("Transpose", "x", perm=[1, 0, 2])
    states = graph.op(
        "LSTM", turned, graph.weight(1, 64, 8), graph.weight(1, 64, 16), hidden_size=16
    )
    last = graph.op("ReduceMean", states, graph.constant(np.array([0, 1])), keepdims=0)
    proto = load(graph.model(graph.op("MatMul", last, graph.weight(16, 3)))).proto
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, before)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8)
        found, plain = execution(after), execution(before)
    assert (plain.weight_bearing, plain.int8) == (2, 0)
    assert found.kernels.get("DynamicQuantizeLSTM") == 1
    assert (found.weight_bearing, found.int8, found.int8_share) == (2, 2, 1)
    assert found.flags == ()


def masked(proto: onnx.ModelProto, name: str, units: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[:units] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


def test_a_unit_that_rounding_left_without_weights_is_no_mask() -> None:
    wide = network(width=64)
    found = execution(load(masked(wide, "w0", 1)), original=load(wide))
    assert found.removed is not None
    assert (found.removed.zeroed_units, found.removed.units_before) == (1, 202)
    assert found.flags == ()


def test_a_mask_that_was_never_removed_is_found(floating: onnx.ModelProto) -> None:
    found = execution(load(masked(floating, "w0", 20)), original=load(floating))
    assert found.removed is not None
    assert (found.removed.units, found.removed.zeroed_units, found.removed.macs) == (0, 20, 0)
    (flag,) = found.flags
    assert flag.startswith("masked but not removed: 20 of 106 units")
    assert found.zero_share == pytest.approx(20 * 16 * 9 / (32 * 16 * 9 + 32 * 9 + 32 * 32 + 320))


def test_scattered_zeros_are_said() -> None:
    proto = network()
    tensor = next(t for t in proto.graph.initializer if t.name == "w0")
    values = numpy_helper.to_array(tensor).copy()
    values.flat[::2] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, "w0"))
    (flag,) = execution(load(proto)).flags
    assert "stored densely" in flag


def test_removed_units_are_counted_and_not_flagged(floating: onnx.ModelProto) -> None:
    found = execution(load(network(width=24)), original=load(floating))
    assert found.removed is not None
    assert (found.removed.operators, found.removed.units, found.removed.units_before) == (
        0,
        24,
        106,
    )
    assert found.removed.macs == execution(load(floating)).macs - found.macs > 0
    assert found.flags == ()
    assert "24 of 106 units removed" in found.text


def test_a_removed_operator_is_counted(floating: onnx.ModelProto) -> None:
    graph = Builder(shape=(16, 14, 14), rng=np.random.default_rng(0))
    graph.op("Conv", "x", graph.weight(32, 16, 3, 3), kernel_shape=[3, 3], pads=[1] * 4)
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", "v0"))
    short = graph.model(graph.op("Gemm", flat, graph.weight(32, 10)))
    short.graph.node[-1].name = "Gemm_v9"
    found = execution(load(short), original=load(floating))
    assert found.removed is not None
    assert (found.removed.operators, found.removed.units) == (2, 64)


def ratio(*values: float) -> Measurement:
    here: Environment = environment()
    return Measurement(name="int8 / fp32", unit="1", samples=values, environment=here)


def test_slower_and_other_precision_are_flagged(floating: onnx.ModelProto) -> None:
    model = load(floating)
    slow = ratio(1.4, 1.45, 1.5, 1.42, 1.44, 1.46, 1.43, 1.47)
    found = execution(model, ratio=slow, precision="bf16", asked="f32").flags
    assert found == (
        "slower than its original (ratio 1.44, 1.40 to 1.50)",
        "computed in bf16 although fp32 was asked",
    )
    assert execution(model, ratio=ratio(1.4, 1.45, 1.5), precision="f32").flags == ()  # too few
    even = ratio(0.9, 1.1, 1.0, 1.05, 0.95, 1.2, 1.01, 0.99)
    assert execution(model, ratio=even, precision="f32").flags == ()


def test_weights_of_integer_operators_and_moved_ones() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 3] y)
        <float s = {0.5}, uint8 zp = {7}> {
            k = DequantizeLinear(w, s, zp) t = Transpose<perm = [1, 0]>(k) y = MatMul(x, t) }"""
    proto = onnx.parser.parse_model(text)
    values = np.array([[7, 7], [7, 9], [1, 2]], np.uint8)
    proto.graph.initializer.append(numpy_helper.from_array(values, "w"))
    (found,) = operator_weights(load(proto))
    assert (found.units, found.zero_units, found.count, found.zeros, found.scales) == (
        3,
        1,
        6,
        3,
        1,
    )


def test_a_mask_beside_its_weight_makes_zeros() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 3] y) { w = Mul(raw, mask) y = MatMul(x, w) }"""
    proto = onnx.parser.parse_model(text)
    mask = np.array([[0, 1, 1], [0, 0, 1]], np.float32)
    for name, values in (("raw", np.ones((2, 3), np.float32)), ("mask", mask)):
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    (found,) = operator_weights(load(proto))
    assert (found.units, found.zero_units, found.count, found.zeros) == (3, 1, 6, 3)
