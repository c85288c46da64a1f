from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import onnx
import pytest

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.graph.cost import node_costs
from narrows.graph.cost_rules import MAC_RULES
from narrows.graph.load import load
from narrows.measure import fitting
from narrows.measure.environment import environment
from narrows.measure.fitting import Timed, fitted, profile_device, time_network
from narrows.measure.fusion import CONVOLUTIONS, PRODUCTS
from narrows.measure.graph_builder import Builder
from narrows.measure.integer_probes import profile_networks
from narrows.measure.kernel_kinds import KIND_OF
from narrows.measure.kernels import FEATURES, Kernel, kernels
from narrows.measure.operators import OperatorTime
from narrows.measure.probes import probe_networks
from narrows.measure.profiling import (
    OperatorRates,
    predict_by_macs_s,
    predict_head_s,
    predict_nodes_s,
)

HERE = dataclasses.replace(environment(), cpu_flags=("avx512f",))
LANES = 16
RUNTIMES_NAME = {
    "reorder-in": "ReorderInput",
    "reorder-out": "ReorderOutput",
    "reorder-last": "Transpose",
    "decode": "DequantizeLinear",
    "dequantize": "DequantizeLinear",
    "quantize": "QuantizeLinear",
}


@cache
def networks() -> tuple[Timed, ...]:
    """Twelve probe networks in floats, really run."""
    return tuple(time_network(load(proto), runs=6) for proto in probe_networks(12, seed=5))


def invented_s(kernel: Kernel) -> float:
    """A device on which depthwise convolutions are slow and reorders are dear."""
    per = dict.fromkeys(FEATURES, 0.0) | {"call": 3e-6, "byte_in": 1e-10, "byte_weight": 3e-11}
    per["mac"] = 8e-11 if "depthwise" in kernel.kind else 1e-11
    if kernel.is_reorder:
        per["byte_out"] = 4e-10
    return sum(per[n] * f for n, f in zip(FEATURES, kernel.features, strict=True))


def invented(proto: onnx.ModelProto) -> Timed:
    """A network timed on the invented device; calls as wholes cost 10 µs and 5 % more.

    The profiler adds 2 µs to each kernel.
    """
    costs = node_costs(load(proto))
    found = kernels(costs, lanes=LANES)
    timed = []
    for kernel in found:
        unnamed = kernel.is_reorder or kernel.kind == "decode"
        timed.append(
            OperatorTime(
                kernel=RUNTIMES_NAME.get(kernel.kind, "any"),
                nodes=() if unnamed else tuple(costs[i].name for i in kernel.nodes),
                time_s=invented_s(kernel) + 2e-6,
                in_bytes=0,
                out_bytes=int(kernel.features[FEATURES.index("byte_out")]),
            )
        )
    whole_s = 10e-6 + 1.05 * sum(invented_s(kernel) for kernel in found)
    return Timed(costs=costs, kernels=tuple(timed), cpu_s=whole_s)


@cache
def invented_rates() -> OperatorRates:
    return fitted([invented(proto) for proto in profile_networks(36, seed=1)], HERE)


def test_networks_the_fit_has_not_seen_are_predicted() -> None:
    unseen = [invented(proto) for proto in profile_networks(9, seed=2)]
    rates = invented_rates()
    off = [abs(predict_head_s(n.costs, rates) / n.cpu_s - 1) for n in unseen]
    naive = [abs(predict_by_macs_s(n.costs, rates) / n.cpu_s - 1) for n in unseen]
    assert np.median(off) < 0.02
    assert max(off) < 0.1
    assert np.median(naive) > 0.1


def test_rates_survive_json() -> None:
    rates = invented_rates()
    again = from_dict(OperatorRates, to_dict(rates))
    assert again == rates
    costs = networks()[0].costs
    assert predict_nodes_s(costs, again) == predict_nodes_s(costs, rates)


def test_rates_of_another_version_are_refused() -> None:
    entry = invented_rates().kernels[0]
    short = dataclasses.replace(entry, seconds_per=entry.seconds_per[:-1])
    with pytest.raises(MeasureError, match="profile the device again"):
        dataclasses.replace(invented_rates(), kernels=(short,))


def test_time_of_nodes_adds_up_and_fused_nodes_are_free() -> None:
    rates = invented_rates()
    for network in networks():
        each = predict_nodes_s(network.costs, rates)
        assert predict_head_s(network.costs, rates) == pytest.approx(rates.call_s + sum(each))
        for kernel in kernels(network.costs, lanes=LANES):
            assert all(each[i] == 0 for i in kernel.nodes[1:])
            assert each[kernel.nodes[0]] > 0


def test_nothing_takes_no_time() -> None:
    assert predict_head_s((), invented_rates()) == 0


def test_rules_of_fusion_foretell_the_runtimes_kernels() -> None:
    """What this machine's runtime makes of random networks is what the rules say."""
    lanes = fitting._lanes(networks(), environment())
    if not lanes:
        pytest.skip("this machine's runtime has no blocked layout")
    right = total = reorders = expected = 0
    for network in networks():
        found = kernels(network.costs, lanes=lanes)
        names = {
            frozenset(network.costs[i].name for i in k.nodes) for k in found if not k.is_reorder
        }
        total += sum(not timed.is_reorder for timed in network.kernels)
        right += sum(
            frozenset(timed.nodes) in names for timed in network.kernels if not timed.is_reorder
        )
        reorders += sum(timed.is_reorder for timed in network.kernels)
        expected += sum(kernel.is_reorder for kernel in found)
    assert right / total > 0.95
    assert expected == pytest.approx(reorders, rel=0.05)


def test_rates_of_this_machine_beat_macs_alone() -> None:
    """Loose bounds: other processes may be at work. The benchmark has the figures."""
    rates = fitted(networks(), environment())
    assert rates.network_error < 0.3
    off = [abs(np.log(predict_head_s(n.costs, rates) / n.cpu_s)) for n in networks()]
    naive = [abs(np.log(predict_by_macs_s(n.costs, rates) / n.cpu_s)) for n in networks()]
    assert np.median(off) < np.median(naive)


def test_a_kind_never_timed_borrows_from_its_neighbour() -> None:
    rates = invented_rates()
    without = dataclasses.replace(
        rates, kernels=tuple(k for k in rates.kernels if k.kind != "softmax")
    )
    features = tuple(1.0 if name == "call" else 0.0 for name in FEATURES)
    asked = Kernel(kind="softmax", nodes=(0,), features=features)
    near = Kernel(kind="transcendental", nodes=(0,), features=features)
    assert without.kernel_s(asked) == rates.kernel_s(near)
    with pytest.raises(MeasureError, match="softmax"):
        dataclasses.replace(rates, kernels=()).kernel_s(asked)


def test_every_operator_with_macs_has_a_kind_that_knows_them() -> None:
    """Element-wise kernels have no MACs, so their rates say nothing of an operator that has."""
    without = [op for op in MAC_RULES if op not in CONVOLUTIONS | PRODUCTS and op not in KIND_OF]
    assert without == []


@pytest.mark.parametrize("kind", ["conv-dense-int8", "conv-depthwise-int8", "conv-transposed"])
def test_plain_convolutions_stand_in_where_there_are_no_blocked_ones(kind: str) -> None:
    rates = invented_rates()
    dense = next(k for k in rates.kernels if k.kind == "conv-dense")
    plain = dataclasses.replace(dense, kind="conv-dense-plain")
    features = tuple(1.0 for _ in FEATURES)
    asked = Kernel(kind=kind, nodes=(0,), features=features)
    found = dataclasses.replace(rates, kernels=(plain,)).kernel_s(asked)
    near = Kernel(kind="conv-dense", nodes=(0,), features=features)
    assert found == rates.kernel_s(near) > 0


def test_a_transposed_convolution_costs_its_macs() -> None:
    graph = Builder(shape=(16, 14, 14), rng=np.random.default_rng(0))
    weight = graph.weight(16, 16, 2, 2)
    made = graph.op("ConvTranspose", "x", weight, kernel_shape=[2, 2], strides=[2, 2])
    (kernel,) = kernels(node_costs(load(graph.model(made, rank=4))), lanes=0)
    assert kernel.kind == "conv-transposed"
    assert kernel.features[FEATURES.index("mac")] == 16 * 14 * 14 * 16 * 4


def test_profiling_stops_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_ENOUGH", 2)
    seen: list[tuple[int, int]] = []
    rates = profile_device(
        probes=50, limit_s=0.0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 50), (2, 50)]
    assert rates.threads == 1
    assert rates.environment_key == environment().key


def test_no_networks_give_no_rates() -> None:
    with pytest.raises(MeasureError, match="no networks"):
        fitted([], environment())
