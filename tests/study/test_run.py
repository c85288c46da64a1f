"""A study end to end: measured, resumed, interrupted, out of disk, with what fails."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_studies import network, write_study

from narrows.cli import main
from narrows.errors import ConfigError, StorageError
from narrows.study.cells import Cell, cells
from narrows.study.claims import claims
from narrows.study.journal import Journal
from narrows.study.prepare import prepare_study
from narrows.study.record import FailedRecord, MeasuredRecord
from narrows.study.run import run_study
from narrows.study.settings import StudySettings
from narrows.study.study_file import read_settings
from narrows.study.todo import estimated_s, todo


def lines(out: Path) -> list[bytes]:
    return (out / "records.jsonl").read_bytes().splitlines()


def cell_of(network_name: str, variant: str) -> Cell:
    return Cell(network=network_name, variant=variant, runtime="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySettings, Path]:
    """A whole study of two networks on two runtimes."""
    folder = tmp_path_factory.mktemp("study")
    settings = read_settings(write_study(folder, runtimes=("onnxruntime", "openvino")))
    outcome = run_study(settings, folder / "out")
    assert (outcome.measured, outcome.failed) == (12, ())
    return settings, folder / "out"


def records(out: Path) -> dict[Cell, MeasuredRecord]:
    found = Journal(folder=out).read()
    return {record.cell: record for record in found if isinstance(record, MeasuredRecord)}


def test_every_cell_has_a_record_with_all_that_was_asked(
    done: tuple[StudySettings, Path],
) -> None:
    settings, out = done
    found = records(out)
    assert set(found) == set(cells(settings))
    for cell, record in found.items():
        facts = record.facts
        assert len(record.latency.round_sizes) >= 6
        assert facts.size.file_bytes > 0
        assert facts.macs == found[cell_of(cell.network, "original")].facts.macs
        assert (record.ratio is None) == (cell.variant == "original")
        assert (facts.score is None) == (cell.network == "large")
        assert facts.operators is not None
        assert sum(row.share for row in facts.operators.by_type) == pytest.approx(1.0)
        assert facts.cold.load_s > 0
        assert facts.estimated_energy_j is not None
    small = {(c.variant, c.runtime): r for c, r in found.items() if c.network == "large"}
    original, weights = (small[name, "onnxruntime"].facts for name in ("original", "weights"))
    assert weights.size.file_bytes < 0.5 * original.size.file_bytes
    execution = small["int8", "onnxruntime"].facts.execution
    assert execution is not None
    assert (execution.int8, execution.weight_bearing) == (3, 3)
    assert "i8" in small["int8", "onnxruntime"].facts.precision
    assert original.precision == "f32"


def test_a_task_gives_scores_with_paired_drops_and_agreement(
    done: tuple[StudySettings, Path],
) -> None:
    found = records(done[1])
    judged = {(c.variant, c.runtime): r.facts for c, r in found.items() if c.network == "small"}
    for (variant, runtime), facts in judged.items():
        score = facts.score
        assert score is not None
        assert score.accuracy is not None
        assert score.n == 20
        assert 0 <= score.accuracy.low <= score.accuracy.value <= score.accuracy.high <= 1
        assert (score.drop is None) == (variant == "original")
        assert (score.agreement is None) == ((variant, runtime) == ("original", "onnxruntime"))
        if score.drop is not None:
            base = judged["original", runtime].score
            assert base is not None
            assert base.accuracy is not None
            lost = base.accuracy.value - score.accuracy.value
            assert score.drop.value == pytest.approx(lost, abs=1e-12)
    large = next(record.facts for cell, record in found.items() if cell.network == "large")
    assert large.no_score == "no task was given for it"


def test_claims_are_the_geometric_means_of_the_records(done: tuple[StudySettings, Path]) -> None:
    found = records(done[1])
    for claim in claims(tuple(found.values())):
        place = (claim.variant, claim.runtime)
        own = [r for c, r in found.items() if (c.variant, c.runtime) == place]
        assert claim.networks == len(own) == 2
        pairs = [(r.ratio, r.latency.contended) for r in own if r.ratio is not None]
        ratios = [r.cpu.value if contended else r.wall.value for r, contended in pairs]
        assert claim.time.value == pytest.approx(float(np.exp(np.mean(np.log(ratios)))))
        assert (claim.time.low, claim.time.high) == (min(ratios), max(ratios))
        listed = [*claim.faster, *claim.slower, *claim.undecided]
        assert sorted(listed) == ["large", "small"]


def test_a_rerun_does_nothing_and_a_new_variant_only_itself(
    done: tuple[StudySettings, Path], tmp_path: Path
) -> None:
    settings, out = done
    before = lines(out)
    assert run_study(settings, out).measured == 0
    assert lines(out) == before
    folder = out.parent
    onnx.save(network(8), folder / "thin.onnx")
    more = '\n[[network.variant]]\nname = "thin"\nmodel = "thin.onnx"\n'
    text = (folder / "study.toml").read_text() + more
    (folder / "more.toml").write_text(text)
    wider = read_settings(folder / "more.toml")
    missing = todo(wider, Journal(folder=out).read())
    assert [str(cell) for one in missing for cell in one.cells] == [
        "large · thin · onnxruntime · 1 thread",
        "large · thin · openvino · 1 thread",
    ]
    assert estimated_s(wider, missing, ()) > 0
    assert run_study(wider, out).measured == 2
    assert lines(out)[: len(before)] == before
    thin = records(out)[cell_of("large", "thin")]
    assert thin.ratio is not None
    assert thin.facts.macs < records(out)[cell_of("large", "original")].facts.macs


def test_a_changed_file_or_schedule_is_measured_anew(
    done: tuple[StudySettings, Path], tmp_path: Path
) -> None:
    found = Journal(folder=done[1]).read()
    path = write_study(tmp_path, runtimes=("onnxruntime", "openvino"))
    assert todo(read_settings(path), found) == ()
    path.write_text(path.read_text().replace("rounds = 6", "rounds = 7"))
    assert sum(len(one.cells) for one in todo(read_settings(path), found)) == 12
    path.write_text(path.read_text().replace("rounds = 7", "rounds = 6"))
    onnx.save(network(17), tmp_path / "small.onnx")
    assert {one.network.name for one in todo(read_settings(path), found)} == {"small"}


def test_one_network_failing_leaves_the_others_and_is_tried_again(tmp_path: Path) -> None:
    more = '[[network]]\nname = "gone"\nmodel = "gone.onnx"\n'
    path = write_study(tmp_path, more=more)
    (tmp_path / "small.onnx").write_bytes(b"no model")
    out = tmp_path / "out"
    outcome = run_study(read_settings(path), out)
    assert outcome.measured == 3
    reasons = {record.cell.network: record.reason for record in outcome.failed}
    assert set(reasons) == {"small", "gone"}
    assert "gone.onnx" in reasons["gone"]
    assert len([r for r in Journal(folder=out).read() if isinstance(r, FailedRecord)]) == 6
    onnx.save(network(8), tmp_path / "gone.onnx")
    again = run_study(read_settings(path), out, only=["gone"])
    assert (again.measured, again.failed) == (3, ())
    with pytest.raises(ConfigError, match="did you mean 'gone'"):
        run_study(read_settings(path), out, only=["gome"])


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path) -> None:
    path, out = write_study(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "narrows", "study", str(path), "-o", str(out), "--no-report"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        until_s = time.monotonic() + 100
        while not (out / "records.jsonl").exists() or not lines(out):
            assert running.poll() is None, running.stderr.read() if running.stderr else ""
            assert time.monotonic() < until_s
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    finally:
        running.kill()
        running.communicate()
    kept = [line for line in lines(out) if line.endswith(b"}")]
    assert 1 <= len(kept) < 6
    with (out / "records.jsonl").open("ab") as file:
        file.write(kept[0][: len(kept[0]) // 2])
    assert len(Journal(folder=out).read()) == len(kept)
    assert run_study(read_settings(path), out).measured == 6 - len(kept)
    assert lines(out)[: len(kept)] == kept
    assert len(records(out)) == len(lines(out)) == 6


def test_a_full_disk_is_told_and_what_was_finished_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_study(tmp_path), tmp_path / "out"
    real = os.fsync

    def full(number: int) -> None:
        name = Path(f"/proc/self/fd/{number}").readlink().name
        if name == "records.jsonl" and len(lines(out)) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr("os.fsync", full)
    assert main(["study", str(path), "-o", str(out)]) == 1
    told = capsys.readouterr()
    assert "records.jsonl" in told.err
    assert "the disk is full: free some" in told.err
    assert (told.err.count("\n"), told.out) == (1, "")
    assert not (out / "report").exists()
    kept = lines(out)
    assert [json.loads(line)["cell"]["network"] for line in kept] == ["small"] * 3 + ["large"]
    assert (out / "records.jsonl").read_bytes().endswith(b"\n")
    monkeypatch.undo()
    assert run_study(read_settings(path), out).measured == 2
    assert lines(out)[:4] == kept


def test_two_studies_do_not_write_into_one_folder(tmp_path: Path) -> None:
    path, out = write_study(tmp_path), tmp_path / "out"
    with Journal(folder=out).locked(), pytest.raises(StorageError, match="another narrows study"):
        run_study(read_settings(path), out)


def test_a_damaged_line_is_an_error_that_names_it(
    done: tuple[StudySettings, Path], tmp_path: Path
) -> None:
    good = lines(done[1])[0]
    for damaged, told in (
        (good[:50], "line 2 is not JSON"),
        (good.replace(b'"format": 1', b'"format": 7'), "line 2 has format 7, expected 1"),
        (good.replace(b'"flags"', b'"flag"'), "line 2: MeasuredRecord: unknown key 'flag'"),
    ):
        (tmp_path / "records.jsonl").write_bytes(b"\n".join([good, damaged, good, b""]))
        with pytest.raises(ConfigError, match=told):
            Journal(folder=tmp_path).read()


def test_prepare_makes_models_and_scores_that_a_run_then_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = read_settings(write_study(tmp_path)), tmp_path / "out"
    assert prepare_study(settings, out) == ()
    made = {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()}
    assert len(made) == 4
    assert len(list((out / "scores").iterdir())) == 3
    assert not (out / "records.jsonl").exists()
    monkeypatch.setattr("narrows.study.scores.judge_all", None)
    assert run_study(settings, out, only=["small"]).failed == ()
    assert {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()} == made
    for cell, record in records(out).items():
        score = record.facts.score
        assert score is not None
        assert (score.drop is None) == (cell.variant == "original")
