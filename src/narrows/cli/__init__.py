"""The command line: `narrows COMMAND`.

Each command is a module of this package with a function of its own name. It is imported only when
the command is asked for, so that `narrows --help` answers at once; the modules in turn import
NumPy, ONNX, ONNX Runtime, gRPC and torch inside functions.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 it
could not be done (one line says why and what to do), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from inspect import getdoc
from types import MappingProxyType
from typing import Any, Final

import typer

from narrows import __version__
from narrows.cli.errors import failed
from narrows.errors import NarrowsError

COMMANDS: Final = MappingProxyType(
    {
        "demo": "Cut, code, plan, serve and run a real network on photographs, start to end.",
        "plan": "Choose where to cut a model and how to code what crosses, for a device and link.",
        "compress": "Make a network smaller by one or more methods, and what that changed.",
        "quantize": "Write a model in 8-bit integers, or its weights alone, and what that changed.",
        "pack": "Write a model as one small file, its weights rounded and entropy coded.",
        "unpack": "Make a model again of a packed file.",
        "deploy": "Write the bundle of a plan: what device and cloud each run.",
        "serve": "Run the cloud half of bundles (Open Inference Protocol over gRPC).",
        "run": "Run the device half on files, a folder or a stream, and print the answers.",
        "measure": "Measure a model's latency, size and quality, or profile this machine.",
        "study": "Measure networks before and after compression, on several runtimes.",
        "inspect": "Show a model's operators and cuts, or what a bundle, plan or profile holds.",
        "report": "Write the page and the figures of one or more plans.",
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code.

    Args:
        argv: Arguments without the program's name; by default the process's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        if name is None:
            _overview().main(args=arguments, prog_name="narrows")
        else:
            command(name).main(args=arguments[1:], prog_name=f"narrows {name}")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return 130
    except (NarrowsError, OSError) as error:
        return failed(error, as_json="--json" in arguments)
    return 0


def command(name: str) -> Any:
    """The command line of one command, its module imported now."""
    module = importlib.import_module(f"narrows.cli.{name}")
    return _single(getattr(module, name))


def _single(function: Callable[..., Any]) -> Any:
    app = _app()
    app.command(help=_unwrapped(getdoc(function) or ""))(function)
    return typer.main.get_command(app)


def _unwrapped(text: str) -> str:
    """Paragraphs of one line each, for the terminal to wrap at its own width."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _overview() -> Any:
    """The list of commands with a line on each; nothing of theirs is imported."""
    app = _app(no_args_is_help=True)
    app.callback(help=_unwrapped(getdoc(_narrows) or ""))(_narrows)
    for name, summary in COMMANDS.items():
        app.command(name, help=summary)(_listed)
    return typer.main.get_command(app)


def _app(**settings: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **settings)


def _listed() -> None:
    """Stand for a command in the overview; `main` runs the command itself."""


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"narrows {__version__}")
        raise typer.Exit


def _narrows(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Fit deep networks into small devices and through thin links.

    Cut a trained model between device and cloud, code what crosses the cut, measure every claim,
    choose, and run the choice.
    """
