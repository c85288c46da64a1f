from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from narrows.errors import MeasureError
from narrows.measure.graph_builder import Builder
from narrows.measure.memory import cold_start
from narrows.measure.resident import resident_bytes
from narrows.measure.size import model_size


def dense(width: int, layers: int = 1) -> onnx.ModelProto:
    graph = Builder(shape=(width,), rng=np.random.default_rng(0))
    value = "x"
    for _ in range(layers):
        value = graph.op("MatMul", value, graph.weight(width, width))
    return graph.model(value)


def test_parameters_and_bytes_are_counted_by_type() -> None:
    graph = Builder(shape=(8,), rng=np.random.default_rng(0))
    value = graph.op("MatMul", "x", graph.weight(8, 4))
    value = graph.op("Reshape", value, graph.constant(np.array([-1, 4])))
    found = model_size(graph.model(value))
    assert found.parameters == 34
    assert found.bytes_by_type == {"FLOAT": 128, "INT64": 16}
    assert found.weight_bytes == 144


def test_weights_in_constant_nodes_count() -> None:
    proto = dense(8)
    weight = proto.graph.initializer.pop()
    node = onnx.helper.make_node("Constant", [], [weight.name], value=weight)
    proto.graph.node.insert(0, node)
    found = model_size(proto)
    assert (found.parameters, found.weight_bytes) == (64, 256)


def test_external_weights_count_in_the_file(tmp_path: Path) -> None:
    proto, path = dense(64), tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    found = model_size(path)
    assert (tmp_path / "model.data").stat().st_size == 64 * 64 * 4
    assert found.file_bytes == path.stat().st_size + 64 * 64 * 4
    assert found.weight_bytes == 64 * 64 * 4


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("not a model at all")
    unknown = dense(4)
    unknown.graph.initializer[0].data_type = 99
    (tmp_path / "unknown.onnx").write_bytes(unknown.SerializeToString())
    for name in ("notes.onnx", "missing.onnx", "unknown.onnx"):
        with pytest.raises(MeasureError, match=name):
            model_size(tmp_path / name)


def test_a_system_that_does_not_tell_its_memory() -> None:
    assert resident_bytes("VmHWM") >= resident_bytes() > 0
    with pytest.raises(MeasureError, match="no VmNothing"):
        resident_bytes("VmNothing")


def test_peak_memory_holds_the_weights() -> None:
    small, large = (cold_start(net, processes=2) for net in (dense(16), dense(1600, layers=4)))
    weights = 4 * 4 * 1600**2
    assert large.model_bytes - small.model_bytes > 0.9 * weights
    assert large.peak_bytes.median > large.base_bytes.median > 10e6
    for taken in (large.import_s, large.load_s, large.first_s):
        assert len(taken.samples) == 2
        assert min(taken.samples) > 0
        assert taken.unit == "s"


def test_peak_memory_of_this_process_does_not_show() -> None:
    """A child must not inherit what its parent once held."""
    held = np.ones(40_000_000)
    assert cold_start(dense(16), processes=1).peak_bytes.median < held.nbytes


def test_every_runtime_has_a_cold_start(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(dense(16), path)
    found = {name: cold_start(path, backend=name) for name in ("onnxruntime", "openvino")}
    for cold in found.values():
        assert len(cold.peak_bytes.samples) == 5
        low, high = cold.peak_bytes.interval
        assert low <= cold.peak_bytes.median <= high
        assert cold.model_bytes > 0
    # the two are other libraries of other sizes
    assert found["openvino"].peak_bytes.median != found["onnxruntime"].peak_bytes.median


def test_processes_are_counted_as_they_end() -> None:
    seen: list[tuple[int, int]] = []
    cold_start(dense(4), processes=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(MeasureError, match="0 processes"):
        cold_start(dense(4), processes=0)


def test_a_model_that_does_not_run_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x00garbage")
    with pytest.raises(MeasureError, match=r"broken\.onnx: ONNX Runtime does not take the file"):
        cold_start(path)
