"""narrows pack, unpack and inspect of a packed file, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.cli import main
from narrows.errors import BundleError
from narrows.graph.ort import run, session
from narrows.packed import PackedFile
from narrows.runtime.assemble import write_bundle
from narrows.runtime.bundle import read_bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.transport import Loopback

_NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, 8, 8] x) => (float[N, 4] y) {
  [stem] c = Conv<pads=[1,1,1,1]>(x, w1)
  r = Relu(c)
  [deep] d = Conv<strides=[2,2]>(r, w2, b2)
  e = Relu(d)
  f = Flatten(e)
  [head] y = MatMul(f, w3)
}"""
_SHAPES = {"w1": (16, 1, 3, 3), "w2": (32, 16, 2, 2), "b2": (32,), "w3": (512, 4)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network whose answers are the labels of a task."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_NET)
    for name, shape in _SHAPES.items():
        values = rng.normal(0, 0.3, size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(proto, tmp_path / "net.onnx")
    (tmp_path / "pack_task.py").write_text(
        "import numpy as np\n"
        "from narrows.graph.ort import run, session\n"
        "from narrows.task import array_task\n"
        "def task():\n"
        "    x = np.random.default_rng(1).normal(size=(600, 1, 8, 8)).astype(np.float32)\n"
        f"    (y,) = run(session({str(tmp_path / 'net.onnx')!r}), {{'x': x}})\n"
        "    return array_task('own answers', x, y.argmax(axis=1))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


TASK = ["--task", "pack_task:task"]


def test_the_coarsest_step_is_found_and_the_file_is_a_model_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "net.onnx", *TASK, "-o", "net.narrows", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = (here / "net.narrows").stat().st_size
    assert found["size_bytes"] == size < 0.25 * found["size_bytes_before"]
    assert found["choose"]["divergence"] <= 0.02
    assert found["choose"]["agreement"] > 0.9
    assert found["quality"]["set"] == "report"
    assert found["quality"]["packed"] > 0.9
    assert main(["unpack", "net.narrows", "-o", "again.onnx"]) == 0
    assert f"of {size:,}" in capsys.readouterr().out
    assert main(["quantize", "net.narrows", *TASK, "-o", "int8.onnx", "--examples", "20"]) == 0
    assert main(["unpack", "net.narrows", "-o", "again.npz"]) == 0
    arrays = np.load(here / "again.npz")
    model = {t.name: numpy_helper.to_array(t) for t in onnx.load("again.onnx").graph.initializer}
    assert set(arrays.files) == set(_SHAPES)
    assert all(np.array_equal(arrays[name], model[name]) for name in _SHAPES)


def test_a_size_or_a_step_can_be_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pack", "net.onnx", *TASK, "-o", "net.narrows", "--json"]
    assert main([*words, "--size", "3000"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 2700 < found["size_bytes"] <= 3000
    assert main([*words, "--step", "0.05", "--coder", "huffman", "--on", "choose"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["quality"]["set"]) == (0.05, "choose")
    assert main(["pack", "net.onnx", *TASK, "-o", "net.narrows"]) == 0
    told = capsys.readouterr().out
    assert "× smaller" in told
    assert "of the answers stay" in told
    assert "report examples" in told


def test_without_a_task_nothing_is_changed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "net.onnx", "-o", "net.narrows"]) == 0
    assert main(["unpack", "net.narrows", "-o", "again.onnx"]) == 0
    before, after = onnx.load("net.onnx"), onnx.load("again.onnx")
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_inspect_counts_every_byte(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "net.onnx", *TASK, "-o", "net.narrows", "--step", "0.3"]) == 0
    capsys.readouterr()
    assert main(["inspect", "net.narrows", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    spent = sum(t["values"] + t["positions"] + t["tables"] for t in found["tensors"])
    total = spent + found["header_bytes"] + found["other_bytes"]
    assert total == pytest.approx(found["size_bytes"]) == (here / "net.narrows").stat().st_size
    by_name = {t["name"]: t for t in found["tensors"]}
    assert by_name["w3"]["quantizer"] == "scaled"
    assert by_name["w3"]["zeros"] > 0
    assert main(["inspect", "net.narrows"]) == 0
    told = capsys.readouterr().out
    assert "bits a weight" in told
    assert "w3" in told


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["pack", "net.onnx", "-o", "x.narrows", "--size", "100"], 2, "--task"),
        (
            ["pack", "net.onnx", *TASK, "-o", "x.narrows", "--size", "9", "--step", "1"],
            2,
            "exclude",
        ),
        (["pack", "net.onnx", *TASK, "-o", "x.narrows", "--size", "100"], 1, "coarsest step"),
        (["pack", "net.onnx", *TASK, "-o", "x.narrows", "--step", "-1"], 1, "step is -1"),
        (["pack", "none.onnx", "-o", "x.narrows"], 1, "no model file"),
        (["unpack", "net.onnx", "-o", "y.onnx"], 1, "does not begin as one"),
        (["unpack", "none.narrows", "-o", "y.onnx"], 1, "cannot be read"),
        (["unpack", "net.onnx", "-o", "y.txt"], 1, "no packed file"),
        (["inspect", "bad.narrows"], 1, "no packed file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_and_nothing_written(
    here: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.narrows").write_bytes(b"narrow")
    before = set(here.iterdir())
    assert main(words) == code
    assert message in capsys.readouterr().err
    assert {path for path in here.iterdir() if path.name != "__pycache__"} == before


def test_a_packed_variant_is_planned_and_deployed_packed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "net.onnx", *TASK, "-o", "net.narrows", "--step", "0.05"]) == 0
    words = ["plan", "net.onnx", *TASK, "--variant", "packed=net.narrows", "-o", "plan"]
    words += ["--numbers", "float", "--rates", "2", "--codec", "pca-ans", "--max-drop", "0.1"]
    words += ["--link", "lora", "--json"]
    limit = 0.6 * (here / "net.onnx").stat().st_size
    capsys.readouterr()
    assert main([*words, "--max-flash", str(limit)]) == 0
    record = json.loads(capsys.readouterr().out)
    rows = {row["id"]: row for row in record["candidates"]}
    flash = {name: row["cost"]["device_flash_bytes"] for name, row in rows.items()}
    assert flash["packed/local"] == pytest.approx((here / "net.narrows").stat().st_size, rel=0.1)
    assert flash["packed/local"] < limit < flash["net/local"]
    assert all(flash[name] == 0 for name, row in rows.items() if row["route"] == "raw")
    split = [name for name, row in rows.items() if row["route"] == "split"]
    assert all(flash[name] > 0 for name in split)
    assert record["chosen"].startswith("packed/")

    for candidate in ("packed/local", next(name for name in split if name.startswith("packed/"))):
        out = here / candidate.replace("/", "-")
        assert main(["deploy", "plan", "--candidate", candidate, "-o", str(out)]) == 0
        bundle = read_bundle(out)
        files = {path.name for path in out.iterdir()}
        assert "model.narrows" in files
        assert "model.onnx" not in files
        assert ("head.narrows" in files) == ("tail.onnx" in files) == ("cut" in candidate)
        whole = onnx.load(here / "plan" / "models" / "packed.onnx")
        x = np.random.default_rng(3).normal(size=(1, 8, 8)).astype(np.float32)
        expected = run(session(whole), {"x": x[None]})[0][0]
        answer = EdgeClient(bundle, Loopback(CloudService(bundle))).answer(x)
        assert answer.top[0][0] == expected.argmax()
        assert np.allclose(bundle.model().one(x)[0], expected, atol=1e-5)


def test_a_damaged_part_of_a_bundle_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "net.onnx", *TASK, "-o", "net.narrows", "--step", "0.05"]) == 0
    packed = PackedFile.open(here / "net.narrows")
    bundle = write_bundle(here / "bundle", name="net", model="net.onnx", packed=packed)
    assert bundle.manifest.has_model
    path = here / "bundle" / "model.narrows"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.narrows .* is not what the manifest says"):
        read_bundle(here / "bundle")
