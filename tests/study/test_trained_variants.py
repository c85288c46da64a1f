"""Networks made smaller inside a study, and files of them, beside their originals."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from narrows.report.study_scene import read_study
from narrows.store import save_network
from narrows.study.journal import Journal
from narrows.study.record import MeasuredRecord
from narrows.study.run import run_study
from narrows.study.settings import StudySettings
from narrows.study.study_file import read_settings
from narrows.study.todo import todo

_MODULE = """
import numpy as np
import torch
from torch import nn
from narrows.task import array_task

def task():
    random = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = (random.normal(size=(3, 12))[y] + random.normal(size=(240, 12))).astype(np.float32)
    return array_task("clouds", x, y)

def net(hidden=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, hidden), nn.ReLU(), nn.Linear(hidden, 3))
"""
_STUDY = """
[study]
name = "clouds"
rounds = 6
round_s = 0.001
min_calls = 2
session_s = 0
limit_s = 5
respawns = 0
target = 0.5
operators = false
energy = "off"

[[study.variant]]
name = "pruned + retrained"
method = "units:shares=[0.5],retrain.epochs=2,retrain.learning_rate=0.02"

[[study.variant]]
name = "pruned, int8"
method = ["units:shares=[0.5],retrain.epochs=2,retrain.learning_rate=0.02", "int8"]

[[network]]
name = "clouds"
model = "study_clouds:net"
task = "study_clouds:task"
train_batch = 20

[[network.variant]]
name = "student"
model = "student.narrows"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudySettings:
    (tmp_path / "study_clouds.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path / "cache"))
    import study_clouds  # type: ignore[import-not-found]

    save_network(study_clouds.net(8), tmp_path / "student.narrows")
    (tmp_path / "study.toml").write_text(_STUDY)
    return read_settings(tmp_path / "study.toml")


def test_the_pruned_columns_are_made_timed_judged_and_shown(
    settings: StudySettings, tmp_path: Path
) -> None:
    told: list[str] = []
    out = tmp_path / "out"
    outcome = run_study(settings, out, progress=lambda what, done, total: told.append(what))
    assert outcome.failed == ()
    trained = [one for one in told if "round 1 of 1: epoch 2 of 2" in one]
    assert len(trained) == 1  # for the int8 variant, too
    assert trained[0].startswith("pruned + retrained of clouds")
    records = {r.cell.variant: r for r in Journal(folder=out).read()}
    assert list(records) == ["original", "pruned + retrained", "pruned, int8", "student"]
    assert all(isinstance(record, MeasuredRecord) for record in records.values())
    weights = {name: record.facts.size.parameters for name, record in records.items()}
    assert weights["pruned + retrained"] <= 0.5 * weights["original"]
    assert weights["student"] < 0.2 * weights["original"]
    for name, record in records.items():
        assert record.facts.score is not None
        assert (record.facts.score.drop is None) == (name == "original")
        assert (record.ratio is None) == (name == "original")
    assert "int8" in records["pruned, int8"].facts.precision or any(
        node.op_type == "QuantizeLinear"
        for node in onnx.load(next((out / "models").glob("*pruned_int8*.onnx"))).graph.node
    )
    assert read_study(out).variants == tuple(records)
    assert list((out / "models").glob("*.work")) == []
    assert todo(settings, records.values()) == ()


def test_what_was_trained_is_trained_again_only_when_its_line_changes(
    settings: StudySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from narrows.study.models import open_network, variant_file

    (network,) = settings.networks
    opened = open_network(network, tmp_path / "models")
    pruned = network.variants[1]
    torch.set_num_threads(1)
    made = variant_file(opened, pruned, tmp_path / "models", lambda what: None)
    before = made.read_bytes()
    told: list[str] = []
    assert variant_file(opened, pruned, tmp_path / "models", told.append) == made
    assert told == []
    made.unlink()
    assert variant_file(opened, pruned, tmp_path / "models", told.append).read_bytes() == before
    assert told
