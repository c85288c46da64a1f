from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.measure.loop_times import with_loop_times
from narrows.measure.operators import OperatorTime, operator_times
from narrows.measure.stored_weights import operator_weights

_NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[12, N, 8] x) => (float[12, 2, N, 16] y) {
  [cell] y = GRU<hidden_size=16, direction="bidirectional", linear_before_reset=1>(x, w, r)
}"""


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    """A GRU of both directions in integers."""
    rng = np.random.default_rng(0)
    made = onnx.parser.parse_model(_NET)
    for name, shape in {"w": (2, 48, 8), "r": (2, 48, 16)}.items():
        values = rng.normal(0, 0.3, size=shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(values, name))
    x = rng.normal(size=(12, 4, 8)).astype(np.float32)
    return quantize_static(made, [x], recurrent="all")


def test_the_loop_of_a_gru_is_one_kernel_in_int8(proto: onnx.ModelProto) -> None:
    times = {node: one for one in operator_times(load(proto), runs=4) for node in one.nodes}
    assert (times["cell"].kernel, times["cell"].is_int8) == ("Scan", True)
    assert (times["cell input"].kernel, times["cell input"].is_int8) == ("MatMulInteger", True)
    assert times["cell"].in_bytes > 2 * 48 * 16  # the weights that its body reads


def test_the_weights_of_a_loop_are_counted(proto: onnx.ModelProto) -> None:
    products, loop = operator_weights(load(proto))
    assert (products.name, products.units, products.count) == ("cell input", 96, 96 * 8)
    assert (loop.name, loop.op_type, loop.units, loop.count) == ("cell", "Scan", 32, 96 * 16)
    assert products.largest_int8 == loop.largest_int8 == 127


def kernel(time_s: float, *, loop: bool = False) -> OperatorTime:
    return OperatorTime(
        kernel="Scan" if loop else "Mul",
        nodes=(),
        time_s=time_s,
        in_bytes=0,
        out_bytes=0,
        loops_int8=loop,
    )


def test_loops_take_what_the_others_leave_of_a_call() -> None:
    times = (kernel(0.0), kernel(30.0, loop=True), kernel(10.0, loop=True))
    first, second, third = with_loop_times(times, lambda: None, runs=3, threads=1)
    assert first is times[0]
    assert 0 < second.time_s < 0.1
    assert second.time_s == pytest.approx(3 * third.time_s)


def test_a_loop_never_takes_longer_than_was_seen_nor_less_than_nothing() -> None:
    slow = with_loop_times((kernel(1e-9, loop=True),), lambda: sum(range(1000)), runs=2, threads=2)
    assert slow[0].time_s == 1e-9
    none = with_loop_times((kernel(9.0), kernel(1.0, loop=True)), lambda: None, runs=2, threads=1)
    assert none[1].time_s == 0.0
