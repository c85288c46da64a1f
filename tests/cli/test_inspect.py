import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.cli import main
from narrows.config import to_dict, write_json
from narrows.plan.profile import Link, load_device


@pytest.fixture
def model(tmp_path: Path) -> str:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 17]>
        g (float[N, 3, 8, 8] x) => (float[N, 4] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w)
        b = Relu(a)
        c = Add(a, b)
        d = ReduceMean<axes = [2, 3], keepdims = 0>(c)
        y = Celu(d)
        }"""
    )
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


def test_table_shows_cuts_refused_places_and_equality(model, capsys):
    assert main(["inspect", model, "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == model
    assert "input x 3x8x8 float32" in lines[1]
    rows = {
        line.split()[0]: line
        for line in lines
        if line.strip()[:1].isdigit() and "no cuts" not in line
    }
    assert set(rows) >= {"0", "1", "2", "3", "4"}
    assert "1.02 kB" in rows["1"]
    assert "100.0 %" in rows["1"]
    assert all("exact" in rows[str(i)] for i in range(5))
    assert any("after 1: b: 'a' (4x8x8) crosses as well" in line for line in lines)


def test_json_holds_everything(model, capsys):
    assert main(["inspect", model, "--json", "--check"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cut["tensor"] for cut in found["cuts"]] == ["x", "a", "c", "d", "y"]
    assert [cut["dominated_by"] for cut in found["cuts"]] == [None, 3, 3, None, None]
    assert found["macs"] == 4 * 64 * 27
    assert found["refused"] == [
        {"tensor": "b", "crossing": ["a"], "reason": "'a' (4x8x8) crosses as well", "after": 1}
    ]
    assert found["unknown_operators"] == {}
    assert all(cut["exact"] and cut["optimised_error"] <= 1e-5 for cut in found["cuts"])


def test_useful_leaves_out_dominated_cuts(model, capsys):
    assert main(["inspect", model, "--json", "--useful"]) == 0
    assert [cut["index"] for cut in json.loads(capsys.readouterr().out)["cuts"]] == [0, 3, 4]


def test_unknown_operator_is_said(tmp_path, capsys):
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 17]>
        g (float[N, 2, 2] x) => (float[N] y) {a = Det(x) y = Relu(a)}"""
    )
    onnx.save(proto, tmp_path / "det.onnx")
    assert main(["inspect", str(tmp_path / "det.onnx")]) == 0
    assert "no rule for Det (1 calls)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx"], "cannot read the model missing.onnx"),
        (["."], "neither manifest.json nor plan.json"),
        (["empty.json"], "neither a plan nor a profile"),
        (["broken.json"], "not JSON"),
        (["model.onnx", "--input-shape", "3,a"], "give numbers"),
    ],
)
def test_what_cannot_be_inspected_says_why(model, arguments, message, capsys, monkeypatch):
    folder = Path(model).parent
    monkeypatch.chdir(folder)
    Path("empty.json").write_text("{}")
    Path("broken.json").write_text("{")
    assert main(["inspect", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_profile_shows_numbers_and_sources(tmp_path, capsys):
    link = Link(
        name="slow",
        bandwidth_up_bits_per_s=250e3,
        bandwidth_down_bits_per_s=1e6,
        round_trip_s=0.1,
        jitter_s=0.02,
        overhead_bytes_up=150,
        overhead_bytes_down=100,
        price_per_byte=0.0,
        energy_j_per_byte_up=1e-6,
        energy_j_per_byte_down=1e-6,
        sources={"round_trip_s": "a guess"},
    )
    write_json(tmp_path / "link.json", link)
    assert main(["inspect", str(tmp_path / "link.json")]) == 0
    out = capsys.readouterr().out
    assert "link slow" in out
    assert "round_trip_s: 0.1  a guess" in out
    write_json(tmp_path / "link.json", replace(link, name="slower"))
    assert main(["inspect", str(tmp_path / "link.json"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"kind": "link", **to_dict(replace(link, name="slower"))}


def test_a_device_profile_is_shown_without_its_coefficients(tmp_path, capsys):
    device = load_device("raspberry-pi-4")
    write_json(tmp_path / "device.json", device)
    assert main(["inspect", str(tmp_path / "device.json")]) == 0
    shown = capsys.readouterr().out
    assert f"rates: {device.rates.macs_per_s / 1e9:.3g} GMACs/s; " in shown
    assert "seconds_per" not in shown
    assert main(["inspect", str(tmp_path / "device.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"]["kernels"]
