from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from narrows.cli import main
from narrows.config import from_dict, read_json
from narrows.measure import coding_speed, fitting
from narrows.measure.graph_builder import Builder
from narrows.measure.whole import ModelRecord
from narrows.plan.profile import Device


@pytest.fixture
def network(tmp_path: Path) -> str:
    graph = Builder(shape=(3, 16, 16), rng=np.random.default_rng(0))
    weight = graph.weight(16, 3, 3, 3)
    value = graph.op("Relu", graph.op("Conv", "x", weight, kernel_shape=[3, 3], pads=[1] * 4))
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", value))
    onnx.save(graph.model(graph.op("Gemm", flat, graph.weight(16, 6))), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


def test_text_names_every_quantity(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", network, "--rounds", "6", "--session", "0"]) == 0
    shown = capsys.readouterr().out
    for word in ("latency", "CPU time", "96.9 %", "peak memory", "MACs", "machine", "Conv"):
        assert word in shown


def test_json_is_the_whole_record(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", network, "--rounds", "2", "--session", "0", "--json"]) == 0
    record = from_dict(ModelRecord, json.loads(capsys.readouterr().out)["model"])
    assert record.macs == 16 * 16 * 16 * 27 + 16 * 6
    assert record.size.parameters == 16 * 27 + 16 * 6
    assert len(record.latency.round_sizes) == 2
    assert record.quality is None


TASK = """
import numpy as np
from narrows.task import array_task

def make():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 3, 16, 16)).astype(np.float32)
    return array_task("noise", inputs, rng.integers(0, 6, 60))
"""


def test_a_task_adds_quality(
    network: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "noise_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--task", "noise_task:make", "--rounds", "1", "--session", "0", "--json"]
    assert main(["measure", network, *options]) == 0
    record = from_dict(ModelRecord, json.loads(capsys.readouterr().out)["model"])
    assert record.quality is not None
    assert record.quality.n > 0
    assert record.quality.accuracy == record.quality.metric
    assert main(["measure", network, *options, "--on", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_profile_is_a_device_that_plan_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = partial(fitting.profile_device, probes=6)
    monkeypatch.setattr(fitting, "profile_device", few)
    monkeypatch.setattr(coding_speed, "_FORMATS", ("jpeg",))
    path = tmp_path / "device.json"
    assert main(["measure", "--profile", str(path), "--name", "board"]) == 0
    device = read_json(path, Device)
    assert device.name == "board"
    assert not device.here
    assert device.rates.kernels
    assert 0 < device.encode_s_per_symbol < 1e-4
    assert set(device.picture_encode_s_per_pixel) == {"jpeg"}
    assert "board" not in capsys.readouterr().err


def test_wrong_usage_is_told_apart_from_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure"]) == 2
    assert main(["measure", "--profile", str(tmp_path / "no" / "device.json")]) == 2
    assert main(["measure", str(tmp_path / "missing.onnx")]) == 1
    assert "missing.onnx" in capsys.readouterr().err
