"""Which kernels the rules foretell for graphs with quantize nodes, against the runtime's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import pytest

from narrows.graph.cost import node_costs
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.measure.fitting import _layout_change, _work, time_network
from narrows.measure.graph_builder import Builder
from narrows.measure.integer_fusion import integer_kernels
from narrows.measure.integer_probes import in_integers, profile_networks, with_integer_weights
from narrows.measure.kernels import FEATURES, Kernel, kernels
from narrows.measure.probes import probe_networks
from narrows.measure.profiling import relatives


def convolution(channels: int = 16, out: int = 32, *, kernel: int = 3, act: str = "") -> Builder:
    graph = Builder(shape=(channels, 14, 14), rng=np.random.default_rng(0))
    weight, bias = graph.weight(out, channels, kernel, kernel), graph.constant(np.zeros(out, "f4"))
    pads = [kernel // 2] * 4
    made = graph.op("Conv", "x", weight, bias, kernel_shape=[kernel, kernel], pads=pads)
    if act:
        graph.op(act, made)
    return graph


def whole(graph: Builder) -> onnx.ModelProto:
    return graph.model(graph.nodes[-1].output[0], rank=4)


def feature(kernel: Kernel, name: str) -> float:
    return kernel.features[FEATURES.index(name)]


def test_an_integer_convolution_is_one_kernel_with_its_macs_and_integer_bytes() -> None:
    found = kernels(node_costs(load(in_integers(whole(convolution(act="Relu"))))), lanes=16)
    kinds = ["quantize", "reorder-last", "conv-dense-int8", "dequantize", "reorder-last"]
    assert [k.kind for k in found] == kinds
    inner = found[2]
    assert feature(inner, "mac") == 14 * 14 * 32 * 16 * 9
    assert (feature(inner, "byte_in"), feature(inner, "byte_out")) == (16 * 196, 32 * 196)
    assert 32 * 16 * 9 <= feature(inner, "byte_weight") < 2 * 32 * 16 * 9
    floats = kernels(node_costs(load(whole(convolution()))), lanes=0)
    assert feature(inner, "mac") == feature(floats[0], "mac")
    assert feature(floats[0], "byte_in") == 4 * feature(inner, "byte_in")


def test_an_integer_operator_without_quantize_nodes_is_the_same_kernel() -> None:
    """Of the older format; its kernel size is told by its weights alone."""
    graph = convolution()
    graph.nodes.clear()
    scale, zero = graph.constant(np.float32(0.05)), graph.constant(np.uint8(3))
    weight = graph.constant(np.ones((32, 16, 3, 3), np.int8))
    whole_x = graph.op("QuantizeLinear", "x", scale, zero)
    zeros = graph.constant(np.int8(0))
    reads = (whole_x, scale, zero, weight, scale, zeros, scale, zero)
    made = graph.op("QLinearConv", *reads, pads=[1, 1, 1, 1])
    graph.op("DequantizeLinear", made, scale, zero)
    inner = kernels(node_costs(load(whole(graph))), lanes=16)[2]
    wanted = kernels(node_costs(load(in_integers(whole(convolution())))), lanes=16)[2]
    assert inner.kind == wanted.kind == "conv-dense-int8"
    for name in ("mac", "byte_in", "byte_out", "row", "window"):
        assert feature(inner, name) == feature(wanted, name), name


def test_channels_beside_the_tiles_are_another_kind() -> None:
    def kind(channels: int, out: int) -> str:
        proto = in_integers(whole(convolution(channels, out, kernel=1)))
        found = kernels(node_costs(load(proto)), lanes=0)
        return next(k.kind for k in found if k.kind.startswith("conv"))

    assert kind(16, 32) == "conv-pointwise-int8"
    assert kind(16, 30) == "conv-pointwise-odd-int8"
    assert relatives("conv-pointwise-odd-int8")[1] == "conv-pointwise-int8"


def test_weights_alone_in_integers_are_decoded_in_every_call() -> None:
    found = kernels(node_costs(load(with_integer_weights(whole(convolution())))), lanes=16)
    assert [k.kind for k in found] == ["decode", "conv-dense-plain"]
    assert feature(found[0], "byte_out") == 4 * 32 * 16 * 9


def test_an_addition_is_not_done_inside_a_convolution_of_decoded_weights() -> None:
    graph = convolution(16, 16)
    graph.op("Add", graph.nodes[-1].output[0], "x")
    floats = kernels(node_costs(load(whole(graph))), lanes=0)
    assert [k.kind for k in floats] == ["conv-dense-plain"]
    found = kernels(node_costs(load(with_integer_weights(whole(graph)))), lanes=0)
    assert [k.kind for k in found] == ["decode", "conv-dense-plain", "elementwise"]


def test_an_operator_without_an_integer_kernel_stands_between_two() -> None:
    graph = convolution()
    pooled = graph.op("ReduceMax", graph.nodes[-1].output[0], graph.constant(np.array([2, 3])))
    weight = graph.weight(8, 32, 1, 1)
    graph.op("Conv", pooled, weight, kernel_shape=[1, 1])
    found = kernels(node_costs(load(in_integers(whole(graph)))), lanes=16)
    kinds = [k.kind for k in found if not k.is_reorder]
    inner = ["dequantize", "reduce", "quantize"]
    assert kinds == ["quantize", "conv-dense-int8", *inner, "conv-pointwise-int8", "dequantize"]


def test_what_is_read_by_others_too_is_not_fused() -> None:
    """A convolution whose float result also goes elsewhere has no integer result."""
    graph = convolution()
    made = graph.nodes[-1].output[0]
    graph.op("Add", graph.op("Exp", made), graph.op("Sqrt", made))
    costs = node_costs(load(in_integers(whole(graph))))
    (core,) = (i for i, cost in enumerate(costs) if cost.op_type == "Conv")
    assert core in integer_kernels(costs)
    direct = graph.op("Exp", "x")
    graph.op("Add", graph.op("Conv", direct, graph.weight(4, 16, 1, 1)), direct)
    assert not integer_kernels(node_costs(load(whole(convolution(act="Exp")))))


@pytest.mark.parametrize(
    "rewritten",
    [
        partial(in_integers, activation="uint8"),
        partial(in_integers, activation="int8"),
        with_integer_weights,
    ],
)
def test_rewritten_probes_compute_nearly_the_same(
    rewritten: Callable[[onnx.ModelProto], onnx.ModelProto],
) -> None:
    """The scales are made up, but structure and weights are kept: one layer agrees closely."""
    proto = whole(convolution())
    x = np.random.default_rng(1).uniform(0, 1, (2, 16, 14, 14)).astype(np.float32)
    (wanted,) = run(session(proto), {"x": x})
    (found,) = run(session(rewritten(proto)), {"x": x})
    assert np.abs(found - wanted).max() < 0.15
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def test_rules_foretell_the_runtimes_integer_kernels() -> None:
    right = total = reorders = expected = 0
    for proto in probe_networks(10, seed=5):
        network = time_network(load(in_integers(proto)), runs=3)
        costs = {cost.name: cost for cost in network.costs}
        found = kernels(network.costs, lanes=0)
        works = {_work([network.costs[i] for i in k.nodes]) for k in found if not k.is_reorder}
        expected += sum(k.is_reorder for k in found)
        for timed in network.kernels:
            does = [costs[name] for name in timed.nodes if costs[name].is_data]
            if _layout_change(timed, does):
                reorders += 1
            else:
                total += 1
                right += _work(does, timed.kernel) in works
    assert right / total > 0.95
    assert expected == pytest.approx(reorders, rel=0.1)


def test_a_profile_meets_floats_integers_and_stored_integers() -> None:
    held = []
    for proto in profile_networks(12, seed=8):
        kinds = {node.op_type for node in proto.graph.node}
        held.append("QuantizeLinear" in kinds or ("DequantizeLinear" in kinds and "stored"))
    assert held.count(True) == 4
    assert held.count("stored") == 1
    assert held.count(False) == 7
