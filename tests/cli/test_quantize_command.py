from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.cli import main
from narrows.graph.quantized import weight_bearing
from narrows.measure.environment import environment

_NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, 8, 8] x) => (float[N, 4] y) {
  [stem] c = Conv<pads=[1,1,1,1]>(x, w1)
  r = Relu(c)
  [deep] d = Conv<strides=[2,2]>(r, w2)
  e = Relu(d)
  f = Flatten(e)
  [head] y = MatMul(f, w3)
}"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose answers are the labels, and a task of its inputs."""
    folder = tmp_path_factory.mktemp("desk")
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_NET)
    for name, shape in {"w1": (16, 1, 3, 3), "w2": (16, 16, 2, 2), "w3": (256, 4)}.items():
        values = rng.normal(0, 0.3, size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(proto, folder / "net.onnx")
    (folder / "quantize_task.py").write_text(
        "import numpy as np\n"
        "from narrows.graph.ort import run, session\n"
        "from narrows.task import array_task\n"
        "def task():\n"
        "    x = np.random.default_rng(1).normal(size=(160, 1, 8, 8)).astype(np.float32)\n"
        f"    (y,) = run(session({str(folder / 'net.onnx')!r}), {{'x': x}})\n"
        "    return array_task('own answers', x, y.argmax(axis=1))\n"
    )
    return folder


@pytest.fixture
def here(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    return desk


def test_int8_is_written_and_judged(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    words = ["quantize", "net.onnx", "--task", "quantize_task:task", "-o", str(out)]
    assert main([*words, "--examples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["weight_bearing"], found["int8"]) == (3, 3)
    assert found["size_bytes"] < found["size_bytes_before"]
    quality = found["quality"]
    assert (quality["set"], quality["original"]) == ("choose", 1.0)
    assert quality["quantized"] == quality["accuracy"]["quantized"] > 0.85
    drop = quality["drop"]
    assert drop["value"] == pytest.approx(1 - quality["quantized"])
    assert drop["low"] < drop["value"] < drop["high"]
    assert weight_bearing(onnx.load(out)).int8 == ("stem", "deep", "head")
    assert list(tmp_path.iterdir()) == [out]


def test_weights_need_no_task(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    words = ["quantize", "net.onnx", "--to", "weights", "-o", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    # Of the matrix product ONNX Runtime makes one that rounds the data, too.
    assert "1 of 3 weight-bearing operators run in int8" in told
    assert "weights alone are stored in 8 bits" in told
    assert "accuracy" not in told
    # The stem has 144 weights, for which steps do not pay.
    assert weight_bearing(onnx.load(out)).weights_only == ("deep", "head")
    assert main([*words, "--task", "quantize_task:task"]) == 0
    assert "drop" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_methods_and_exclusions(here: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "small.onnx"
    words = ["quantize", "net.onnx", "--task", "quantize_task:task", "-o", str(out)]
    words += ["--examples", "10", "--method", method, "--exclude", "first, head"]
    assert main(words) == 0
    held = weight_bearing(onnx.load(out))
    assert (held.int8, held.floating) == (("deep",), ("stem", "head"))


_SERIES = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 6, 4] x) => (float[N, 3] y) {
  t = Transpose<perm=[1,0,2]>(x)
  [cell] s, h = GRU<hidden_size=8>(t, w, r)
  l = Squeeze(h, first)
  [head] y = MatMul(l, v)
}"""


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small GRU and a task of its inputs."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_SERIES)
    for name, shape in {"w": (1, 24, 4), "r": (1, 24, 8), "v": (8, 3)}.items():
        values = rng.normal(0, 0.5, size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    onnx.save(proto, tmp_path / "series.onnx")
    (tmp_path / "series_task.py").write_text(
        "import numpy as np\n"
        "from narrows.task import array_task\n"
        "def task():\n"
        "    rng = np.random.default_rng(1)\n"
        "    x = rng.normal(size=(80, 6, 4)).astype(np.float32)\n"
        "    return array_task('series', x, rng.integers(0, 3, 80))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_recurrent_layers_that_stay_in_float_are_named_with_the_reason(
    series: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quantize", "series.onnx", "--task", "series_task:task", "-o", "small.onnx"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "1 of 2 weight-bearing operators run in int8" in told
    assert "note: cell (GRU) stays in floating point: 8 units over 4 inputs; below" in told
    assert main([*words, "--recurrent", "all"]) == 0
    told = capsys.readouterr().out
    assert "3 of 3 weight-bearing operators run in int8 (100.0 %" in told
    assert "note" not in told
    assert weight_bearing(onnx.load("small.onnx")).int8 == ("cell input", "cell", "head")
    assert main([*words, "--exclude", "GRU", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recurrent_in_float"] == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--task"),
        (["--to", "int4"], 2, "int4"),
        (["--task", "quantize_task:task", "--exclude", "nothing"], 1, "cannot exclude 'nothing'"),
        (["--task", "quantize_task:task", "--examples", "0"], 2, "examples"),
        (["--task", "nowhere.toml"], 1, "no task file"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_and_nothing_written(
    here: Path,
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "small.onnx"
    assert main(["quantize", "net.onnx", "-o", str(out), *words]) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file_to_write(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", "net.onnx", "--to", "weights", "-o", str(tmp_path)]) == 2
    shown = capsys.readouterr().err.replace("│", "").split()  # a box that breaks its lines
    assert "is a folder" in " ".join(shown)


def test_where_it_cannot_be_written_is_said_before_the_work(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "missing" / "small.onnx"
    assert main(["quantize", "absent.onnx", "--to", "weights", "-o", str(out)]) == 1
    told = capsys.readouterr().err
    assert "its folder does not exist" in told
    assert "absent.onnx" not in told
    assert not out.parent.exists()


def test_without_vnni_saturation_is_told(
    here: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = replace(environment(), architecture="x86_64", cpu_flags=("avx", "avx2"))
    monkeypatch.setattr("narrows.measure.execution.environment", lambda: old)
    out = str(tmp_path / "small.onnx")
    words = ["quantize", "net.onnx", "--task", "quantize_task:task", "--examples", "5", "-o", out]
    words += ["--activation", "uint8"]
    assert main(words) == 0
    told = "note: this processor has no VNNI: in 3 of 3 int8 operators sums of uint8"
    assert told in capsys.readouterr().out
    quick = ["--rounds", "6", "--session", "0", "--target", "0", "--processes", "1"]
    assert main(["measure", out, *quick, "--energy", "none", "--json"]) == 0
    flags = json.loads(capsys.readouterr().out)["model"]["flags"]
    assert any(flag.startswith(told.removeprefix("note: ")) for flag in flags)
    assert main([*words, "--reduce-range"]) == 0
    assert "VNNI" not in capsys.readouterr().out


def test_weights_of_seven_bits(here: Path, tmp_path: Path) -> None:
    largest = []
    for words in ([], ["--reduce-range"]):
        out = tmp_path / "small.onnx"
        given = ["quantize", "net.onnx", "--task", "quantize_task:task", "--examples", "5"]
        assert main([*given, "-o", str(out), *words]) == 0
        stored = [numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer]
        weights = [np.abs(t.astype(int)).max() for t in stored if t.dtype == np.int8 and t.ndim > 1]
        largest.append(max(weights))
    assert largest == [127, 64]
