"""narrows demo: the whole way on twenty photographs, each step the command a user would type."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from narrows.errors import TransportError

_MODEL = "zoo:efficientnet_lite0"
# A camera that holds neither the network nor its int8, and must not send a picture: bytes cost.
_PLACES = ("--device", "cortex-a53", "--link", "lte-m", "--cloud", "x86-core")
_BOUNDS = (
    *("--objective", "cost", "--max-memory", "4e6", "--deadline", "0.5"),
    *("--max-drop", "0.03", "--min-agreement", "0.97"),
    *("--rates", "5", "--demonstration"),
)
_STOP_S = 60.0


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all it makes.")] = Path(
        "demo-out"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The end as one JSON object.")] = False,
) -> None:
    """Cut, code, plan, serve and run EfficientNet-Lite0 on twenty labelled photographs.

    The device is a camera with a Cortex-A53 and 4 MB to spare, on LTE-M, where every byte costs:
    the whole network does not fit, not even in int8, and a picture is dear. Every step is a command
    of narrows and is shown before it runs, so that you can do the same with your own model and
    pictures.

    Windows of each photograph and their mirror images stand in for a data set. That shows how well
    the split network agrees with the whole one, not how accurate either is.
    """
    from narrows.zoo.demo_data import photographs, write_task

    started_s = time.monotonic()
    shown = sys.stderr if as_json else sys.stdout
    pictures = [photograph.path for photograph in photographs()]
    task = write_task(out)
    plan, bundle, page = out / "plan", out / "bundle", out / "report" / "index.html"
    _step("Plan: try every cut worth trying, at several rates, beside JPEG, WebP and AVIF", shown)
    arguments = ["plan", _MODEL, "--task", str(task), "-o", str(plan), *_PLACES, *_BOUNDS]
    _narrows(arguments, subprocess.DEVNULL, shown)  # its table stands at the end
    _step("Deploy: write what device and cloud each run", shown)
    _narrows(["deploy", str(plan), "-o", str(bundle), "--replace"], shown, shown)
    _step("Serve and run: the cloud half in its own process, photographs streamed to it", shown)
    with _server(bundle, shown) as address:
        answers = _stream(bundle, address, pictures, shown)
    _step("Report: the trade-off as a page", shown)
    _narrows(["report", str(plan), "-o", str(page.parent)], shown, shown)
    took_s = time.monotonic() - started_s
    if as_json:
        made = {"plan": str(plan / "plan.json"), "page": str(page), "bundle": str(bundle)}
        typer.echo(json.dumps({**made, "answers": answers, "took_s": took_s}))
    else:
        _print_end(plan, page, answers, took_s)


def _step(title: str, shown: IO[str]) -> None:
    print(f"\n== {title}", file=shown, flush=True)


def _command(arguments: list[str], shown: IO[str]) -> list[str]:
    print(f"$ narrows {shlex.join(arguments)}", file=shown, flush=True)
    return [sys.executable, "-m", "narrows", *arguments]


def _narrows(arguments: list[str], results: IO[str] | int, shown: IO[str]) -> None:
    """Run one command of narrows to its end; its own message stands for what went wrong."""
    done = subprocess.run(_command(arguments, shown), stdout=results, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


@contextmanager
def _server(bundle: Path, shown: IO[str]) -> Iterator[str]:
    """The server as a process of its own; gives its address, and stops it at the end."""
    command = _command(["serve", str(bundle), "--port", "0", "--json"], shown)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                msg = "the server stopped before it was ready: its own message is above"
                raise TransportError(msg)
            yield str(json.loads(line)["address"])
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _stream(
    bundle: Path, address: str, pictures: list[Path], shown: IO[str]
) -> list[dict[str, Any]]:
    """Write paths to the device's standard input, and read its answers as they come."""
    command = _command(
        ["run", str(bundle), "-", "--server", address, "--no-local", "--json"], shown
    )
    answers = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for picture in pictures:
            process.stdin.write(f"{picture}\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline() or "{}"))
            print(_line(picture, answers[-1]), file=shown, flush=True)
        process.stdin.close()
        if process.wait(timeout=_STOP_S):
            raise typer.Exit(1)
    return answers


def _line(picture: Path, answer: dict[str, Any]) -> str:
    """One answer: the picture, what it is and what was answered, the route, time and bytes."""
    from narrows.units import bytes_text, seconds_text

    if "error" in answer or not answer.get("top"):
        return f"{picture.name}  {answer.get('error', 'no answer')}"
    mark = "right" if _is_right(picture, answer) else "wrong"
    took, up = answer["times"]["total_s"], answer["traffic"]["frame_bytes_up"]
    what = f"{answer['labels'][0] if answer['labels'] else answer['top'][0][0]} ({mark})"
    why = f"  [{answer['reason']}]" if answer["reason"] else ""
    crossed = f"{bytes_text(up)} up"
    return f"{picture.name:24}{what:32} {answer['route']:6} {seconds_text(took):8} {crossed}{why}"


def _is_right(picture: Path, answer: dict[str, Any]) -> bool:
    return bool(answer["top"][0][0] == int(picture.stem.rpartition("_")[2]))


def _print_end(plan: Path, page: Path, answers: list[dict[str, Any]], took_s: float) -> None:
    from narrows.cli.plan import print_plan
    from narrows.config import read_json
    from narrows.plan.record import PlanRecord

    typer.echo()
    print_plan(read_json(plan / "plan.json", PlanRecord), plan)
    routes = [answer.get("route", "none") for answer in answers]
    counted = ", ".join(f"{routes.count(route)} {route}" for route in dict.fromkeys(routes))
    typer.echo(f"{len(answers)} photographs answered: {counted}")
    typer.echo(f"the page: {page.resolve()}")
    typer.echo(f"took {took_s:.0f} s")
