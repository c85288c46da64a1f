from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from narrows.cli import main
from narrows.config import from_dict, read_json, write_json
from narrows.measure import coding_speed, fitting, session
from narrows.measure.candidates import candidate
from narrows.measure.energy import EnergyRecord, NoEnergy
from narrows.measure.environment import Environment, environment
from narrows.measure.graph_builder import Builder
from narrows.measure.model_record import ModelRecord
from narrows.measure.session import (
    MLPERF_CALLS,
    MLPERF_SECONDS,
    TINY_INPUTS,
    TINY_SECONDS,
    mlperf,
    tiny,
)
from narrows.measure.workers import WorkerContender
from narrows.plan.profile import Device
from narrows.plan.record import PlanRecord
from narrows.runtime.manifest import Manifest
from narrows.study.settings import StudySettings

QUICK = ["--rounds", "6", "--session", "0", "--target", "0", "--processes", "1"]
QUICKEST = [*QUICK, "--no-operators", "--energy", "none"]


def small(seed: int = 0) -> onnx.ModelProto:
    graph = Builder(shape=(3, 16, 16), rng=np.random.default_rng(seed))
    weight = graph.weight(16, 3, 3, 3)
    value = graph.op("Relu", graph.op("Conv", "x", weight, kernel_shape=[3, 3], pads=[1] * 4))
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", value))
    return graph.model(graph.op("Gemm", flat, graph.weight(16, 6)))


@pytest.fixture
def network(tmp_path: Path) -> str:
    onnx.save(small(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """A network that takes pictures of any size."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
        net (float[N, 3, H, W] x) => (float[N, 3, 1, 1] y) { y = GlobalAveragePool (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "wide.onnx")
    return str(tmp_path / "wide.onnx")


def recorded(capsys: pytest.CaptureFixture[str]) -> ModelRecord:
    return from_dict(ModelRecord, json.loads(capsys.readouterr().out)["model"])


def test_text_names_every_quantity(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", network, *QUICK]) == 0
    shown = capsys.readouterr().out
    for word in (
        *("latency", "CPU time", "96.9 %", "p90", "peak memory", "MACs", "machine", "Conv"),
        *("energy", "estimated", "int8", "unexplained", "the whole", "f32", "import", "parameters"),
    ):
        assert word in shown


def test_json_is_the_whole_record(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "record.json"
    assert main(["measure", network, *QUICK, "--json", "--out", str(out)]) == 0
    record = recorded(capsys)
    assert read_json(out, ModelRecord) == record
    assert record.macs == 16 * 16 * 16 * 27 + 16 * 6
    assert record.size is not None
    assert record.size.parameters == 16 * 27 + 16 * 6
    assert record.file_bytes == Path(network).stat().st_size
    assert record.inputs == {"x": (1, 3, 16, 16)}
    assert record.latency.rule == "rounds"
    assert len(record.latency.round_sizes) == 6
    assert record.judged is None
    assert record.runtimes[0].precision == "f32"
    (parts,) = record.breakdowns
    assert parts.roofline is not None
    assert parts.backend == "onnxruntime"
    assert record.execution is not None
    assert record.execution.weight_bearing == 2
    assert record.estimated is not None
    assert isinstance(record.runtimes[0].energy, NoEnergy | EnergyRecord)


def test_runtimes_are_measured_in_the_same_rounds(
    network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--backend", "onnxruntime,openvino", *QUICKEST]
    assert main(["measure", network, *options, "--json"]) == 0
    record = recorded(capsys)
    assert [one.backend for one in record.runtimes] == ["onnxruntime", "openvino"]
    assert len({len(one.latency.round_sizes) for one in record.runtimes}) == 1
    (pair,) = record.ratios
    assert (pair.name, pair.base) == ("net.onnx on openvino", "net.onnx on onnxruntime")


def test_a_model_against_another_and_against_itself(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Builder(shape=(3, 16, 16), rng=np.random.default_rng(0))
    value = "x"
    for _ in range(12):
        value = graph.op("Conv", value, graph.weight(3, 3, 7, 7), kernel_shape=[7, 7], pads=[3] * 4)
    onnx.save(graph.model(value), tmp_path / "deep.onnx")
    deep = str(tmp_path / "deep.onnx")
    assert main(["measure", deep, "--against", network, *QUICKEST, "--json"]) == 0
    record = recorded(capsys)
    assert record.against is not None
    assert record.against.model == "net.onnx"
    assert record.against.file_bytes == Path(network).stat().st_size
    (pair,) = record.ratios
    assert pair.ratio.median > 2
    assert pair.verdict == "slower"
    assert main(["measure", network, "--against", network, *QUICKEST]) == 0
    assert "net.onnx on onnxruntime: " in (shown := capsys.readouterr().out)
    assert "net.onnx (2) on onnxruntime" in shown


def test_the_papers_rule_is_another(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", network, *QUICKEST, "--rule", "paper", "--json"]) == 0
    taken = recorded(capsys).latency
    assert taken.rule == "paper"
    assert not taken.round_sizes


def test_rules_of_other_benchmarks(network: str) -> None:
    one = candidate("net.onnx", Path(network), backend="onnxruntime")
    seeds: list[int] = []

    def start(seed: int) -> WorkerContender:
        seeds.append(seed)
        return one.start(seed)

    watched = replace(one, start=start)
    taken = mlperf(watched, 1, calls=40, seconds=0.05)
    assert len(taken.samples) >= 40
    assert len(taken.rounds) == 1
    assert sum(taken.samples) > 0.02
    taken = tiny(watched, 1, inputs=3, seconds=0.05)
    assert len(taken.rounds) == 3
    assert seeds == [0, 0, 1, 2]  # each input is another
    assert (MLPERF_CALLS, MLPERF_SECONDS, TINY_INPUTS, TINY_SECONDS) == (1024, 60, 5, 10)


def test_presets_are_shown_as_their_rules_say(
    network: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "mlperf", partial(mlperf, calls=40, seconds=0.05))
    monkeypatch.setattr(session, "tiny", partial(tiny, inputs=5, seconds=0.05))
    assert main(["measure", network, *QUICKEST, "--mlperf", "--tiny"]) == 0
    shown = capsys.readouterr().out
    assert "inferences/s (median of 5 inputs" in shown
    assert "p90" in shown.partition("mlperf")[2]


def test_loadgens_verdict_is_shown(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    options = ["--loadgen", "single-stream", "--loadgen-seconds", "0.2", "--loadgen-samples", "64"]
    assert main(["measure", network, *QUICKEST, *options, "--loadgen-logs", str(logs)]) == 0
    shown = capsys.readouterr().out
    assert "VALID, shorter than MLPerf's rules ask for" in shown
    assert (logs / "onnxruntime" / "mlperf_log_summary.txt").is_file()


def test_loadgen_feeds_several_inputs_what_the_workers_are_fed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that runs on three samples alone, though its batch is open."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
        net (float[N, 4] x, float[N, 4] z) => (float[M, 4] y)
        <int64[2] three = {3, 4}> { s = Add (x, z) y = Reshape (s, three) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "two.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "two.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(tmp_path / "two.onnx", options)
    words = ["--loadgen", "single-stream", "--loadgen-seconds", "0.1", "--loadgen-samples", "8"]
    words = ["measure", str(tmp_path / "two.ort"), *QUICKEST, *words, "--json"]
    assert main([*words, "--batch", "3"]) == 0
    record = recorded(capsys)
    assert record.inputs == {"x": (3, 4), "z": (3, 4)}
    assert record.runtimes[0].loadgen is not None


def test_no_time_at_all_is_one_line(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", network, *QUICKEST, "--limit", "0"]) == 1
    assert "0.0 s at most: give a limit above 0" in capsys.readouterr().err


def test_loadgens_logs_of_two_models_lie_apart(network: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    options = ["--loadgen", "single-stream", "--loadgen-seconds", "0.1", "--loadgen-samples", "8"]
    options += ["--loadgen-logs", str(logs), "--against", network, "--json"]
    assert main(["measure", network, *QUICKEST, *options]) == 0
    assert len(list(logs.glob("*_on_onnxruntime/mlperf_log_summary.txt"))) == 2


def test_more_threads_than_cores_is_told(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    many = environment().cores + 1
    assert main(["measure", network, *QUICKEST, "--threads", str(many), "--json"]) == 0
    assert any(f"{many} threads on" in flag for flag in recorded(capsys).flags)


def test_a_meter_that_does_not_run_is_refused_at_once(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", network, *QUICKEST, "--energy", str(tmp_path / "no.csv")]) == 1
    assert "no.csv: give a recorded trace, or what" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["{}", "replay:{}"])
def test_a_meters_file_that_is_junk_is_refused_before_anything_is_timed(
    form: str,
    network: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session, "compare", None)
    path = tmp_path / "junk.csv"
    for content, told in (
        (b"name,age\nAnna,7\nBert,9\n", "junk.csv has the columns name, age"),
        (b"time_s,power_w\n0.0,1.0\n0.1,much\n0.2,1.0\n", "line 3: 'power_w' is 'much'"),
        (b"\xff\xfe\x00\x01", "not UTF-8"),
    ):
        path.write_bytes(content)
        words = ["--energy", form.format(path), "--energy-seconds", "0.1"]
        assert main(["measure", network, *QUICK, *words]) == 1
        shown = capsys.readouterr().err
        assert told in shown
        assert shown.count("\n") == 1


def test_a_replayed_trace_gives_energy(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["time_s,power_w", *(f"{0.001 * i:.3f},{3 + i % 2}" for i in range(60000))]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")
    options = [*QUICK, "--no-operators", "--energy", f"replay:{tmp_path / 'trace.csv'}"]
    assert main(["measure", network, *options, "--energy-seconds", "0.1", "--json"]) == 0
    energy = recorded(capsys).runtimes[0].energy
    assert isinstance(energy, EnergyRecord)
    assert energy.idle_power_w.median == pytest.approx(3.5, rel=0.01)
    assert energy.latency.samples


def test_shapes_that_are_open_are_asked_for(wide: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", wide, *QUICKEST]) == 1
    told = capsys.readouterr().err
    assert "--shape" in told
    assert told.count("\n") == 1
    assert main(["measure", wide, *QUICKEST, "--shape", "2,3,20,20", "--json"]) == 0
    assert recorded(capsys).inputs == {"x": (2, 3, 20, 20)}
    assert main(["measure", wide, *QUICKEST, "--shape", "1,4,20,20"]) == 1
    assert "?,3,?,?" in capsys.readouterr().err
    assert main(["measure", wide, *QUICKEST, "--shape", "one"]) == 2


def test_batches_and_files_are_fed(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "three.npy", np.zeros((3, 3, 16, 16), np.float32))
    for options in (["--batch", "3"], ["--inputs", str(tmp_path / "three.npy")]):
        assert main(["measure", network, *QUICKEST, *options, "--json"]) == 0
        assert recorded(capsys).inputs == {"x": (3, 3, 16, 16)}


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
    options = ["--task", "noise_task:make", *QUICKEST]
    assert main(["measure", network, *options, "--json"]) == 0
    judged = recorded(capsys).judged
    assert judged is not None
    assert judged.quality.n > 0
    assert judged.quality.accuracy == judged.quality.metric
    assert judged.classes is not None
    assert judged.classes.accuracy.value == judged.quality.accuracy
    assert main(["measure", network, *options, "--on", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_two_records_are_compared(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in paths:
        assert main(["measure", network, *QUICKEST, "--out", path]) == 0
    capsys.readouterr()
    assert main(["measure", "--compare", *paths]) == 0
    shown = capsys.readouterr().out
    for word in ("latency_s, onnxruntime", "A / B", "peak_bytes", "exact"):
        assert word in shown
    record = read_json(paths[1], ModelRecord)
    data = json.loads(Path(paths[1]).read_text().replace('"cores": ', '"cores": 1'))
    Path(paths[1]).write_text(json.dumps(data))
    assert read_json(paths[1], ModelRecord) != record
    assert main(["measure", "--compare", *paths]) == 1
    assert "cores" in capsys.readouterr().err
    assert main(["measure", "--compare", *paths, "--any-environment", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)["comparison"]
    assert compared["differences"][0].startswith("cores")
    data["format"] = 1
    Path(paths[1]).write_text(json.dumps(data))
    assert main(["measure", "--compare", *paths]) == 1
    assert "b.json has format 1, a ModelRecord here has format 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (PlanRecord, "is a plan, not"),
        (Device, "is the profile of a machine, not"),
        (Manifest, "is the manifest of a bundle, not"),
        (StudySettings, "is the settings of a study, not"),
        (Environment, "is some other JSON, not"),
        (None, "is some other JSON, not"),
    ],
)
def test_a_file_that_is_no_measurement_is_told_what_it_is(
    kind: type[PlanRecord] | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    data = dict.fromkeys(field.name for field in fields(kind)) if kind else {}
    path.write_text(json.dumps({"format": 1, **data}))
    assert main(["measure", "--compare", str(path), str(path)]) == 1
    shown = capsys.readouterr().err
    assert f"plan.json {told} a measurement of a model" in shown
    assert "`narrows measure MODEL --out FILE`" in shown
    assert "format" not in shown
    path.write_text("{")
    assert main(["measure", "--compare", str(path), str(path)]) == 1
    assert "plan.json is not JSON" in capsys.readouterr().err


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
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure"]) == 2
    assert main(["measure", "--profile", str(tmp_path / "no" / "device.json")]) == 2
    assert main(["measure", network, "--out", str(tmp_path)]) == 2
    assert main(["measure", network, "--backend", "torch"]) in (1, 2)
    capsys.readouterr()
    (tmp_path / "broken.onnx").write_bytes(b"\x00garbage")
    for arguments, told in (
        ([str(tmp_path / "missing.onnx")], "missing.onnx"),
        ([str(tmp_path / "missing.tflite")], "missing.tflite"),
        ([str(tmp_path / "broken.onnx")], "does not take"),
        (["zoo:no_such_network"], "no_such_network"),
        ([network, "--backend", "tensorrt"], "tensorrt"),
        ([network, "--backend", "litert"], "litert does not read net.onnx"),
        ([network, "--energy", "no_such_sensor"], "no_such_sensor"),
        ([network, "--energy", "replay:gone.csv"], "gone.csv"),
        ([network, "--inputs", "gone.npy"], "gone.npy"),
        ([network, "--against", "gone.onnx"], "gone.onnx"),
    ):
        assert main(["measure", *QUICKEST[:-2], *arguments]) == 1, arguments
        shown = capsys.readouterr().err
        assert told in shown
        assert shown.count("\n") == 1, shown


@pytest.mark.parametrize("role", ["model", "against"])
def test_weights_that_are_not_finite_are_refused_before_anything_is_timed(
    role: str,
    network: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proto = small()
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight.flat[3] = np.nan
    proto.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(weight, proto.graph.initializer[0].name)
    )
    broken = str(tmp_path / "diverged.onnx")
    onnx.save(proto, broken)
    monkeypatch.setattr(session, "compare", None)
    words = [broken] if role == "model" else [network, "--against", broken]
    assert main(["measure", *words, *QUICK, "--energy", "none"]) == 1
    told = capsys.readouterr().err
    assert "diverged.onnx: 1 of 432 values" in told
    assert "NaN or infinite: the training diverged or the file is damaged" in told
    assert told.count("\n") == 1


def test_a_runtime_that_is_not_installed_is_named(
    network: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["measure", network, "--backend", "openvino"]) == 1
    assert "pip install 'narrows[openvino]'" in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly(network: str) -> None:
    command = [sys.executable, "-m", "narrows", "measure", network, "--session", "60"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Ctrl-C is ignored by whatever a script started in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + 60
    while not children.read_text().split() and time.monotonic() < until:
        time.sleep(0.05)
    (child,) = children.read_text().split()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, "Traceback" in err) == ("", False)
    assert not Path(f"/proc/{child}").exists()


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "other.json", NoEnergy(reason="x"))
    assert main(["measure", "--compare", *[str(tmp_path / "other.json")] * 2]) == 1
