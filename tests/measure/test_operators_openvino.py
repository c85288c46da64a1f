from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from narrows.errors import MeasureError, MissingExtra
from narrows.graph.cost import total_macs
from narrows.graph.load import Model, load
from narrows.graph.quantize import quantize_static
from narrows.measure.breakdown import breakdown
from narrows.measure.graph_builder import Builder


def network() -> onnx.ModelProto:
    graph = Builder(shape=(16, 14, 14), rng=np.random.default_rng(0))

    def conv(value: str, into: int, out: int, kernel: int, group: int = 1) -> str:
        weight = graph.weight(out, into // group, kernel, kernel)
        sides: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
        return graph.op("Relu", graph.op("Conv", value, weight, group=group, **sides))

    deep = conv(conv("x", 16, 32, 3), 32, 32, 3, group=32)
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", conv(deep, 32, 32, 1)))
    return graph.model(graph.op("Gemm", flat, graph.weight(32, 10)))


@pytest.fixture(scope="module")
def floating() -> Model:
    pytest.importorskip("openvino")
    return load(network())


def test_kernels_are_told_in_the_models_layers(floating: Model) -> None:
    found = breakdown(floating, runs=3, backend="openvino")
    by_kind = {row.kind: row for row in found.by_type}
    assert {"dense Conv", "depthwise Conv", "pointwise Conv", "Gemm"} <= set(by_kind)
    dense = next(row for row in found.rows if row.kind == "dense Conv")
    assert dense.layers == ("Conv_v0", "Relu_v1")
    assert dense.moved_bytes == 4 * (14 * 14 * (16 + 32) + 32 * 16 * 9)
    assert sum(row.macs for row in found.rows) == total_macs(floating)
    assert sum(row.time_s for row in found.rows) == pytest.approx(found.total_s)
    assert not any(row.int8 for row in found.rows)
    assert found.backend == "openvino"


def test_int8_kernels_move_a_quarter_of_the_bytes(floating: Model) -> None:
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((4, 16, 14, 14), dtype=np.float32)]
    made = load(quantize_static(floating.proto, samples, activation="uint8"))
    found = breakdown(made, runs=3, backend="openvino")
    dense = next(row for row in found.rows if row.kind == "dense Conv")
    assert dense.int8
    assert dense.layers == ("Conv_v0",)
    assert dense.moved_bytes == 14 * 14 * (16 + 32) + 32 * 16 * 9
    assert sum(row.macs for row in found.rows) == total_macs(floating)


def test_a_runtime_without_profiler_or_not_installed_is_refused(
    floating: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MeasureError, match="no profiler"):
        breakdown(floating, backend="litert")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="openvino"):
        breakdown(floating, backend="openvino")
