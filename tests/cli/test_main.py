"""The command line answers at once, imports nothing heavy, and tells errors in one line."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from narrows import __version__, cli
from narrows.errors import ModelError

HEAVY = ("numpy", "onnx", "onnxruntime", "grpc", "torch", "PIL", "google.protobuf", "plotly")
BUILT = [name for name in cli.COMMANDS if (Path(cli.__file__).parent / f"{name}.py").exists()]


HELPS = [["--help"], ["--version"], [], *([name, "--help"] for name in BUILT)]


@pytest.mark.parametrize("arguments", HELPS)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from narrows.cli import main; code = main(sys.argv[1:]);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules];"
        "print('HEAVY', heavy, code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == f"HEAVY [] {0 if arguments else 2}", done.stderr


def test_help_takes_under_300_ms_of_one_core() -> None:
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "narrows", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.3


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in cli.COMMANDS)


def test_every_module_of_a_command_is_listed() -> None:
    folder = Path(cli.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")}
    assert set(cli.COMMANDS) & modules == set(BUILT)
    for name in BUILT:
        assert callable(getattr(__import__(f"narrows.cli.{name}", fromlist=[name]), name))


@pytest.mark.parametrize("name", [*BUILT, ""])
def test_help_wraps_paragraphs_at_the_width_of_the_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main([*filter(None, [name]), "--help"]) == 0
    text = capsys.readouterr().out.split("\u256d")[0]
    lines = [line.strip() for line in text.splitlines()]
    pairs = itertools.pairwise(lines)
    assert all(len(line) > 120 for line, after in pairs if line and after)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"narrows {__version__}\n"


@pytest.mark.parametrize("arguments", [["plam"], ["--nothing"], []])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "Usage" in "".join(capsys.readouterr())


Install = Callable[[Callable[..., None]], None]


@pytest.fixture
def as_plan(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a function in the place of `narrows plan`."""

    def install(function: Callable[..., None]) -> None:
        module = types.ModuleType("narrows.cli.plan")
        module.plan = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "narrows.cli.plan", module)

    return install


def test_a_command_gets_its_own_options(
    as_plan: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(model: str, rate: float = 1.0, json: bool = False) -> None:
        print(model, rate, json)

    as_plan(plan)
    assert cli.main(["plan", "--rate", "2", "m.onnx"]) == 0
    assert capsys.readouterr().out == "m.onnx 2.0 False\n"
    assert cli.main(["plan"]) == 2
    assert cli.main(["plan", "m.onnx", "--rate", "x"]) == 2


def test_an_error_is_one_line_and_1(as_plan: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def plan(json: bool = False) -> None:
        msg = "no cut in m.onnx:\n  two tensors cross everywhere"
        raise ModelError(msg)

    as_plan(plan)
    assert cli.main(["plan"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == "narrows: no cut in m.onnx: two tensors cross everywhere\n"
    assert cli.main(["plan", "--json"]) == 1
    told = json.loads(capsys.readouterr().err)["error"]
    assert told["type"] == "ModelError"
    assert told["message"].startswith("no cut in m.onnx: two")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_anywhere_is_one_line(
    as_plan: Install, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def plan() -> None:
        raise OSError(number, os.strerror(number), "out/plan.json")

    as_plan(plan)
    assert cli.main(["plan"]) == 1
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert "cannot write to out/plan.json" in found


def test_a_bug_keeps_its_traceback(as_plan: Install) -> None:
    def plan(kind: str) -> None:
        raise KeyError(kind) if kind == "key" else FileNotFoundError(errno.ENOENT, "x", "y")

    as_plan(plan)
    with pytest.raises(KeyError):
        cli.main(["plan", "key"])
    with pytest.raises(FileNotFoundError):
        cli.main(["plan", "file"])


def test_exit_codes_of_commands_are_kept(as_plan: Install) -> None:
    def plan(code: int) -> None:
        if code == 130:
            raise KeyboardInterrupt
        raise typer.Exit(code)

    as_plan(plan)
    assert [cli.main(["plan", str(code)]) for code in (0, 1, 2, 130)] == [0, 1, 2, 130]


def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = (
        "import sys, types; m = types.ModuleType('narrows.cli.plan')\n"
        "def plan():\n    for _ in range(100000): print('x' * 80)\n"
        "m.plan = plan; sys.modules['narrows.cli.plan'] = m\n"
        "from narrows.cli import main; sys.exit(main(['plan']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1
