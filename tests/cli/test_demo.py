"""The demonstration shows its commands, its answers as they are, and stops where a step fails."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from narrows.cli import demo, main

ANSWER = {
    "input": "imagenet_03_990.jpg",
    "route": "split",
    "top": [[990, 9.1], [12, 1.0]],
    "labels": ["buckeye", "house finch"],
    "times": {"total_s": 0.0129},
    "traffic": {"frame_bytes_up": 2840},
    "in_time": True,
    "reason": "",
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["buckeye (right)", "split", "12.9 ms", "2.84 kB up"]),
        ({"top": [[12, 9.0]], "labels": ["house finch"]}, ["house finch (wrong)"]),
        ({"labels": []}, ["990 (right)"]),
        ({"route": "local", "reason": "nobody answers"}, ["local", "[nobody answers]"]),
        ({"error": "x is not a picture"}, ["x is not a picture"]),
        ({"top": []}, ["no answer"]),
    ],
)
def test_an_answer_is_shown_as_it_is(changed: dict, expected: list[str]) -> None:
    line = demo._line(Path("imagenet_03_990.jpg"), {**ANSWER, **changed})
    assert line.startswith("imagenet_03_990.jpg")
    assert all(words in line for words in expected)


def test_a_step_is_shown_as_a_user_would_type_it_and_its_failure_ends_all() -> None:
    shown = io.StringIO()
    command = demo._command(["inspect", "my net.onnx"], shown)
    assert shown.getvalue() == "$ narrows inspect 'my net.onnx'\n"
    assert command == [sys.executable, "-m", "narrows", "inspect", "my net.onnx"]
    with pytest.raises(typer.Exit) as stopped:
        demo._narrows(["inspect", "no such file.onnx"], subprocess.DEVNULL, io.StringIO())
    assert stopped.value.exit_code == 1


def test_without_photographs_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["demo", "-o", str(tmp_path / "out")]) == 1
    assert "pip install --no-deps foolbox" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("foolbox") is None, reason="scripts/demo installs it")
def test_the_demonstration_answers_every_photograph_by_the_split_route(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["demo", "-o", str(tmp_path), "--json"]) == 0
    ended = json.loads(capsys.readouterr().out)
    assert [answer["route"] for answer in ended["answers"]] == ["split"] * 20
    assert Path(ended["page"]).exists()
