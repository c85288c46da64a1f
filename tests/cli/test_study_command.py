"""narrows study at the command line: what it lists, tells and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from narrows.cli import main

STUDY = """\
[study]
variants = ["int8"]
rounds = 6
round_s = 0.001
session_s = 0
limit_s = 3
respawns = 0
[[network]]
name = "gone"
model = "${NETS}/gone.onnx"
[[network]]
name = "lcnet"
model = "timm:lcnet_035?pretrained=0&size=32"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_a_dry_run_lists_cells_and_makes_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", str(file), "-o", str(tmp_path / "out"), "--dry-run"]
    assert main([*command, "--set", f"NETS={tmp_path}"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[:2] == [
        "gone · original · onnxruntime · 1 thread",
        "gone · int8 · onnxruntime · 1 thread",
    ]
    assert "cannot be measured: gone · original" in told.err
    assert "gone.onnx" in told.err
    assert told.out.splitlines()[-1].startswith("4 cells, about")
    assert not (tmp_path / "out").exists()
    assert main([*command, "--set", f"NETS={tmp_path}", "--only", "LC*", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [cell.split(" ·")[0] for cell in listed["cells"]] == ["lcnet", "lcnet"]
    assert listed["estimated_s"] > 0


def test_what_fails_is_listed_and_the_exit_code_is_one(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["study", str(file), "-o", str(out), "--set", f"NETS={tmp_path}", "--only", "gone"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out.startswith("0 cells measured, 2 failed")
    assert "failed: gone · int8" in told.err
    assert not (out / "report").exists()
    assert main([*command, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["measured"] == 0
    assert len(found["failed"]) == 2


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--set", "NETS"], 2, "write it as NAME=VALUE"),
        ([], 1, "nothing says what ${NETS} is"),
        (["--set", "NETS=x", "--only", "lcnett"], 1, "did you mean 'lcnet'"),
    ],
)
def test_mistakes_are_one_line(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    told: str,
) -> None:
    assert main(["study", str(file), "-o", str(tmp_path / "out"), *more]) == code
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told in said
