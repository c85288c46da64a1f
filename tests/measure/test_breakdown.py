from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.graph.cost import total_macs
from narrows.graph.load import Model, load
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.breakdown import UNEXPLAINED, Breakdown, breakdown
from narrows.measure.environment import environment
from narrows.measure.graph_builder import Builder
from narrows.measure.layers import LAYOUT, QUANTIZE, kind_of
from narrows.measure.roofline import Roofline, machine_roofline


def network() -> onnx.ModelProto:
    """One convolution of every kind, an average and a matrix product."""
    graph = Builder(shape=(16, 14, 14), rng=np.random.default_rng(0))

    def conv(value: str, into: int, out: int, kernel: int, group: int = 1) -> str:
        weight = graph.weight(out, into // group, kernel, kernel)
        sides: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
        return graph.op("Relu", graph.op("Conv", value, weight, group=group, **sides))

    dense = conv("x", 16, 32, 3)
    grouped = conv(conv(dense, 32, 32, 3, group=32), 32, 32, 3, group=4)
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", conv(grouped, 32, 32, 1)))
    return graph.model(graph.op("Gemm", flat, graph.weight(32, 10)))


# Ten times what any machine does, so that every share lies between 0 and 1.
ROOF = Roofline(
    macs_per_s=1e14,
    int8_macs_per_s=4e14,
    bandwidth_bytes_per_s=1e13,
    bandwidths=((1 << 20, 4e13), (1 << 27, 1e13)),
    kernels={},
    threads=1,
    environment_key=environment(threads=1).key,
)


@pytest.fixture(scope="module")
def floating() -> Model:
    return load(network())


@pytest.fixture(scope="module")
def int8(floating: Model) -> Model:
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((4, 16, 14, 14), dtype=np.float32)]
    return load(quantize_static(floating.proto, samples, activation="uint8"))


@pytest.fixture(scope="module")
def both(floating: Model, int8: Model) -> tuple[Breakdown, Breakdown]:
    return breakdown(floating, runs=5, roofline=ROOF), breakdown(int8, runs=5, roofline=ROOF)


def test_rows_and_types_sum_to_the_whole(both: tuple[Breakdown, Breakdown], int8: Model) -> None:
    for found in both:
        for rows in (found.rows, found.by_type):
            assert sum(row.time_s for row in rows) == pytest.approx(found.total_s)
            assert sum(row.share for row in rows) == pytest.approx(1)
            assert sum(row.macs for row in rows) == total_macs(int8)
            assert rows[-1].kind == UNEXPLAINED
            assert rows[-1].time_s == found.unexplained_s
        assert sum(row.count for row in found.by_type) == len(found.rows) - 1
        assert found.total_s > 0


def test_kinds_of_convolution_are_told_apart(both: tuple[Breakdown, Breakdown]) -> None:
    pixels = 14 * 14
    expected = {
        "dense Conv": 32 * pixels * 16 * 9,
        "depthwise Conv": 32 * pixels * 9,
        "grouped Conv": 32 * pixels * 8 * 9,
        "pointwise Conv": 32 * pixels * 32,
        "Gemm": 320,
    }
    for found in both:
        by_kind = {row.kind: row for row in found.by_type}
        assert {kind: by_kind[kind].macs for kind in expected} == expected
        assert by_kind["dense Conv"].count == 1


def test_quantized_kernels_are_told_in_float_layers(both: tuple[Breakdown, Breakdown]) -> None:
    floating, int8 = both
    layers = {row.kind: row.layers for row in floating.rows}
    for row in int8.rows:
        assert not [name for name in row.layers if "Quantize" in name]
        if row.int8:
            assert row.layers[0] == layers[row.kind][0]
            assert row.layers[0].startswith(("Conv", "Gemm"))
    assert [row.kind for row in int8.rows if row.int8] == [
        *("dense Conv", "depthwise Conv", "grouped Conv", "pointwise Conv", "Gemm")
    ]
    assert {QUANTIZE, LAYOUT} & {row.kind for row in int8.rows}
    assert not any(row.int8 for row in floating.rows)


def test_what_only_dequantizes_is_told_by_the_layer_it_does_so_for(floating: Model) -> None:
    found = breakdown(load(quantize_weights(floating.proto)), runs=1)
    pairs = [row for row in found.rows if row.kind == QUANTIZE]
    convolutions = [row.layers[0] for row in found.rows if row.kind.endswith(" Conv")]
    assert pairs
    assert {row.layers[0] for row in pairs} <= {*convolutions, "Gemm_v10"}
    assert {len(row.layers) for row in pairs} == {1}
    assert sum(row.macs for row in found.rows) == total_macs(floating)


def test_a_pair_before_the_output_is_told_by_the_layer_that_makes_it(
    both: tuple[Breakdown, Breakdown],
) -> None:
    first, *_, last = [row for row in both[1].rows if row.kind == QUANTIZE]
    assert first.layers == ("Conv_v0",)
    assert last.layers == ("Gemm_v10",)


def test_bytes_are_of_the_types_that_are_moved(both: tuple[Breakdown, Breakdown]) -> None:
    floating, int8 = (
        next(row for row in found.rows if row.kind == "pointwise Conv") for found in both
    )
    values = 2 * 32 * 14 * 14 + 32 * 32
    assert floating.moved_bytes == 4 * values
    # A scale for each of 32 channels, and a few scales and zero points, beside the values.
    assert values < int8.moved_bytes < values + 600
    assert int8.macs_per_byte == pytest.approx(4 * floating.macs_per_byte, rel=0.05)


def test_each_row_says_how_far_from_which_limit(both: tuple[Breakdown, Breakdown]) -> None:
    for found in both:
        for row in found.rows[:-1]:
            arithmetic_s = row.macs / (4e14 if row.int8 else 1e14)
            memory_s = row.moved_bytes / 4e13
            assert row.limit == ("arithmetic" if arithmetic_s >= memory_s else "memory")
            if row.time_s > 0:
                share = max(arithmetic_s, memory_s) / row.time_s
                assert row.limit_share == pytest.approx(share)
        assert found.rows[-1].limit is found.rows[-1].limit_share is None
        dense = next(row for row in found.by_type if row.kind == "dense Conv")
        assert (
            dense.limit_share == next(r for r in found.rows if r.kind == "dense Conv").limit_share
        )


def test_a_breakdown_survives_json(both: tuple[Breakdown, Breakdown], floating: Model) -> None:
    assert from_dict(Breakdown, to_dict(both[1])) == both[1]
    plain = breakdown(floating, runs=1)
    assert {row.limit_share for row in (*plain.rows, *plain.by_type)} == {None}


def test_the_roofline_of_another_machine_is_refused(floating: Model) -> None:
    with pytest.raises(MeasureError, match="machine_roofline"):
        breakdown(floating, threads=2, roofline=ROOF)
    other = dataclasses.replace(ROOF, environment_key="0123456789ab")
    with pytest.raises(MeasureError, match="another machine"):
        breakdown(floating, roofline=other)


def test_this_machine_has_a_roofline(floating: Model) -> None:
    roof = machine_roofline()
    assert set(roof.kernels) == {"MatMul", "Conv", "MatMulInteger", "QGemm", "QLinearConv"}
    assert roof.macs_per_s == max(roof.kernels["MatMul"], roof.kernels["Conv"]) > 1e8
    assert roof.int8_macs_per_s >= roof.kernels["QGemm"] > 1e8
    speeds = [speed for _, speed in roof.bandwidths]
    assert speeds == sorted(speeds, reverse=True)
    assert roof.bandwidth_bytes_per_s == speeds[-1] > 1e7
    found = breakdown(floating, runs=1, roofline=roof)
    assert found.roofline == roof
    assert from_dict(Roofline, to_dict(roof)) == roof


def test_what_the_runtime_adds_is_told_by_what_it_does() -> None:
    assert kind_of("ReorderInput", ()) == LAYOUT
    assert kind_of("DequantizeLinear", ()) == QUANTIZE
    assert kind_of("Cast", ()) == "Cast"
