"""narrows report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invented_plans import make_plan

from narrows.cli import main
from narrows.config import write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    write_json(tmp_path / "plan" / "plan.json", make_plan(rates=2))
    return tmp_path / "plan"


def test_json_names_what_was_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["report", str(folder), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(out / "index.html")
    assert told["candidates"] == 32
    assert len(told["figures"]) == 10
    written = {str(path) for path in out.iterdir()}
    assert written == {told["page"], *told["figures"]}


def test_the_page_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    files = [str(folder / "plan.json"), str(folder)]
    assert main(["report", *files, "-o", str(out), "--no-figures"]) == 0
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert capsys.readouterr().out == f"page: {out / 'index.html'}\n"


def test_what_is_no_plan_is_told_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "out")]
    assert main(["report", str(tmp_path / "none"), *out]) == 1
    assert "cannot read" in capsys.readouterr().err
    (folder / "plan.json").write_text('{"format": 99}')
    assert main(["report", str(folder), *out]) == 1
    assert "format 99" in capsys.readouterr().err
    assert main(["report", *out]) == 2
    assert not (tmp_path / "out").exists()
