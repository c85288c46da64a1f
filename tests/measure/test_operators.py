from __future__ import annotations

import numpy as np
import onnx
import pytest

from narrows.errors import MeasureError
from narrows.graph.load import load
from narrows.measure.graph_builder import Builder
from narrows.measure.operators import OperatorTime, operator_times


def convolution(graph: Builder, value: str, into: int, out: int, kernel: int = 3) -> str:
    weight = graph.weight(out, into, kernel, kernel)
    return graph.op("Conv", value, weight, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)


@pytest.fixture(scope="module")
def times() -> tuple[OperatorTime, ...]:
    """A large convolution, a small one, a residual addition, an average and a matrix product."""
    graph = Builder(shape=(32, 28, 28), rng=np.random.default_rng(0))
    large = graph.op("Relu", convolution(graph, "x", 32, 128))
    small = convolution(graph, large, 128, 16, kernel=1)
    again = convolution(graph, small, 16, 16, kernel=1)
    added = graph.op("Relu", graph.op("Add", again, small))
    pooled = graph.op("Flatten", graph.op("GlobalAveragePool", added))
    model = load(graph.model(graph.op("Gemm", pooled, graph.weight(16, 10))))
    return operator_times(model, runs=8)


def owner(times: tuple[OperatorTime, ...], node: str) -> OperatorTime:
    found = [kernel for kernel in times if node in kernel.nodes]
    assert len(found) == 1, node
    return found[0]


def test_every_node_is_told_once(times: tuple[OperatorTime, ...]) -> None:
    named = [node for kernel in times for node in kernel.nodes]
    assert len(named) == len(set(named))
    assert {name.partition("_")[0] for name in named} == {
        *("Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm")
    }


def test_fused_nodes_share_a_kernel(times: tuple[OperatorTime, ...]) -> None:
    assert owner(times, "Relu_v1") is owner(times, "Conv_v0")
    assert owner(times, "Add_v4") is owner(times, "Conv_v3")
    assert owner(times, "Relu_v5") is owner(times, "Conv_v3")
    assert owner(times, "Conv_v2") is not owner(times, "Conv_v3")


def test_most_time_goes_where_most_work_is(times: tuple[OperatorTime, ...]) -> None:
    longest = max(times, key=lambda kernel: kernel.time_s)
    assert "Conv_v0" in longest.nodes
    assert longest.time_s > 5 * owner(times, "Conv_v3").time_s > 0
    assert owner(times, "Conv_v0").out_bytes == 4 * 128 * 28 * 28


def test_weights_packed_while_loading_are_read_all_the_same(
    times: tuple[OperatorTime, ...],
) -> None:
    assert owner(times, "Gemm_v8").in_bytes == 4 * (16 + 16 * 10)
    assert owner(times, "Conv_v0").in_bytes == 4 * 32 * (28 * 28 + 128 * 9)


def test_gelu_in_five_nodes_is_one_kernel() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 64] x) => (float[N, 64] y)
        <float r = {1.41421356}, float one = {1}, float half = {0.5}> {
            [scaled] s = Div(x, r) [erf] e = Erf(s) [raised] a = Add(e, one)
            [times] m = Mul(x, a) [halved] y = Mul(m, half) }"""
    found = operator_times(load(onnx.parser.parse_model(text)), runs=3)
    assert [set(kernel.nodes) for kernel in found] == [
        {"scaled", "erf", "raised", "times", "halved"}
    ]


def test_a_branch_is_part_of_the_node_that_takes_it() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4096] x) => (float[N, 4096] y) <float zero = {0}> {
            [before] a = Relu(x)
            [total] s = ReduceMax<keepdims = 0>(a)
            [test] c = Greater(s, zero)
            [branch] b = If(c) <
                then_branch = then () => (float[N, 4096] t) { u = Tanh(a) t = Sin(u) },
                else_branch = other () => (float[N, 4096] e) { e = Identity(a) }>
            [after] y = Exp(b) }"""
    found = operator_times(load(onnx.parser.parse_model(text)), runs=3)
    assert [kernel.kernel for kernel in found] == ["Relu", "ReduceMax", "Greater", "If", "Exp"]
    assert [kernel.nodes for kernel in found][3] == ("branch",)


def test_an_empty_profile_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.loads", lambda text: [])
    with pytest.raises(MeasureError, match="no kernel"):
        operator_times(load(_identity()), runs=1)


def _identity() -> onnx.ModelProto:
    graph = Builder(shape=(4,), rng=np.random.default_rng(0))
    return graph.model(graph.op("Relu", "x"))
