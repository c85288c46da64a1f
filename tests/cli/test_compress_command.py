"""`narrows compress`: a smaller network, its files, its record, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from narrows.cli import main
from narrows.store import load_network

_MODULE = """
import numpy as np
import torch
from torch import nn
from narrows.task import array_task
from narrows.train import TrainSettings, train, training_task

def task():
    random = np.random.default_rng(0)
    y = np.arange(400) % 3
    x = (random.normal(size=(3, 12))[y] + random.normal(size=(400, 12))).astype(np.float32)
    return array_task("clouds", x, y)

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

def trained():
    made = training_task(task(), net(), batch_size=20)
    model = train(made, TrainSettings(epochs=3, learning_rate=0.05), device="cpu").model
    return training_task(made.task, model, batch_size=20)

def number():
    return 3

class Branching(nn.Linear):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

def branching():
    return nn.Sequential(Branching(12, 3))
"""
WITH_TASK = ["--task", "compress_clouds:task"]
PRUNE = "magnitude:by=global,targets=[0.8],retrain.epochs=1"
UNITS = "units:shares=[0.5],retrain.epochs=2,retrain.learning_rate=0.02"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "compress_clouds.py").write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_chain_is_applied_measured_and_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = "distillation:training.epochs=1,training.learning_rate=0.01"
    words = ["compress", "compress_clouds:trained", "--method", UNITS, "--method", learn]
    assert main([*words, "-o", "out", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((here / "out/record.json").read_text())
    left = record["parameters"]["left"] / record["parameters"]["original"]
    assert 0.4 < left <= 0.5
    assert record["macs"]["compressed"] < record["macs"]["original"]
    assert record["quality"]["set"] == "report"
    assert record["quality"]["compressed"] > 0.8
    assert record["quality"]["drop"]["low"] <= record["quality"]["drop"]["value"]
    assert [row["name"] for row in record["layers"]] == ["0", "2"]
    small = load_network(here / "out/model.narrows")
    x = np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32)
    session = ort.InferenceSession(here / "out/model.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"input": x})
    assert np.allclose(small(torch.from_numpy(x)).detach(), answers, atol=1e-5)
    assert record["size_bytes"]["compressed"] == (here / "out/model.onnx").stat().st_size
    assert record["packed_bytes"]["compressed"] == (here / "out/model.narrows").stat().st_size
    assert onnx.load(here / "out/original.onnx").graph.node


def test_a_network_without_weights_is_trained_first(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", "compress_clouds:net", "--task", "compress_clouds:task", "-o", "out"]
    words += ["--train", "epochs=3,learning_rate=0.05", "--batch-size", "20", "--method", UNITS]
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["train"] == "epochs=3,learning_rate=0.05"
    assert record["quality"]["original"] > 0.8
    assert main([*words[:-2], "--method", UNITS, "--train", "epoch=3"]) == 1
    assert "unknown key 'epoch'" in capsys.readouterr().err


def test_a_person_reads_a_table_and_a_second_run_starts_from_the_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "compress_clouds:task", "--batch-size", "20"]
    first = ["compress", "compress_clouds:net", *words, "--method", UNITS, "-o", "first"]
    assert main(first) == 0
    shown = capsys.readouterr().out
    for part in (
        "parameters",
        "MACs",
        "ONNX file",
        "packed file",
        "latency",
        "top1",
        "layer",
        "record.json",
    ):
        assert part in shown
    again = ["compress", "first/model.narrows", *words, "--method", UNITS, "-o", "second"]
    assert main([*again, "--taught", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["taught"]
    before = json.loads((here / "first/record.json").read_text())["parameters"]["left"]
    assert record["parameters"]["original"] == before


def test_energy_is_measured_where_there_is_a_meter(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{step / 1000:.3f},{3 + step % 7 / 7:.3f}" for step in range(120_000)]
    (here / "meter.csv").write_text("timestamp_s,power_w\n" + "\n".join(rows) + "\n")
    words = ["compress", "compress_clouds:trained", "--method", UNITS, "-o", "out", "--json"]
    words += ["--energy", "replay:meter.csv", "--energy-seconds", "0.1"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["energy_j"]
    assert found["original"]["sensor"] == found["compressed"]["sensor"] == "replay:meter.csv"
    for one in found.values():
        assert one["total"]["low"] <= one["total"]["value"] <= one["total"]["high"]
    assert main([*words[:3], UNITS, "-o", "other", "--energy", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err
    assert not (here / "other").exists()


def test_zeros_that_save_no_time_are_not_sold_as_speed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = "magnitude:by=global,targets=[0.8],retrain.epochs=1"
    assert main(["compress", "compress_clouds:trained", "--method", method, "-o", "out"]) == 0
    shown = capsys.readouterr().out
    assert "100.00% left" in shown  # of the MACs
    assert "fewer parameters, and as many MACs: zeros inside a layer save no time" in shown
    assert "smaller as" in shown
    assert "nothing was timed in that format" in " ".join(shown.split())
    first, second = json.loads((here / "out/record.json").read_text())["layers"]
    assert first["format"] == "csr"
    assert first["size_bytes"] < 0.6 * first["dense_bytes"] == 0.6 * 4 * (12 * 32 + 32)
    assert second["size_bytes"] <= second["dense_bytes"] == 4 * (32 * 3 + 3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["compress_clouds:net", "--method", UNITS], 1, "give a task"),
        (["compress_clouds:trained", "--method", UNITS, "--task", "x:y"], 1, "leave the task out"),
        (["compress_clouds:number", "--method", UNITS], 1, "expected an nn.Module"),
        (["compress_clouds:trained", "--method", "shrink"], 1, "no method 'shrink'"),
        (["compress_clouds:branching", *WITH_TASK, "--method", PRUNE], 1, "cannot trace it"),
        (["compress_clouds:trained", "--method", "units:shares=[0.5]"], 1, "retrain"),
        (["absent.narrows", "--method", UNITS], 1, "absent.narrows"),
        (["compress_clouds:trained"], 2, "method"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert main(["compress", *words, "-o", "out"]) == code
    assert said in capsys.readouterr().err
    assert not (here / "out").exists()
