"""narrows study: networks × variants × runtimes × threads, before and after compression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from narrows.cli.progress import Note, progress_bar

if TYPE_CHECKING:
    from narrows.study.record import FailedRecord
    from narrows.study.settings import StudySettings

_MOST_LISTED = 20


def study(
    file: Annotated[Path, typer.Argument(help="TOML file of the study; see docs/study.md.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of records, models, report.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="What ${NAME} in the file stands for."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this network; * and ? match. May be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be measured, and about how long.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Export, make and judge the models; time nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the page, figures and tables.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure networks before and after compression, and write what came of it.

    Every network of the file is measured as it is and in each variant, on each runtime and number
    of threads. Records are kept as they come: interrupt it, change the file, run it again, and
    only what is missing is measured. What fails is listed at the end, and the exit code is 1.
    """
    from narrows.study.study_file import read_settings

    asked = read_settings(file, places=_places(settings or []))
    if dry_run:
        _list_missing(asked, out, only or [], as_json=as_json)
        return
    with progress_bar() as note:
        from narrows.study.prepare import prepare_study
        from narrows.study.run import run_study

        if prepare:
            measured, failed = 0, prepare_study(asked, out, only=only or [], progress=note)
        else:
            outcome = run_study(asked, out, only=only or [], progress=note)
            measured, failed = outcome.measured, outcome.failed
        written = _reported(out, note) if report and not prepare else []
    _tell(measured, failed, written, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _places(given: Sequence[str]) -> dict[str, str]:
    places = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            message = f"--set {text!r}: write it as NAME=VALUE"
            raise typer.BadParameter(message)
        places[name] = value
    return places


def _list_missing(asked: StudySettings, out: Path, only: Sequence[str], *, as_json: bool) -> None:
    from narrows.study.journal import Journal
    from narrows.study.todo import estimated_s, todo

    records = Journal(folder=out).read()
    todos = todo(asked, records, only=only)
    missing = [cell for one in todos for cell in (*one.cells, *one.failed)]
    wait_s = estimated_s(asked, todos, records)
    if as_json:
        typer.echo(json.dumps({"cells": [str(cell) for cell in missing], "estimated_s": wait_s}))
        return
    for cell in missing:
        typer.echo(str(cell))
    for one in todos:
        for cell, reason in one.failed.items():
            typer.echo(f"cannot be measured: {cell}: {reason}", err=True)
    minutes = f"{wait_s / 60:.0f} minutes" if wait_s >= 90 else f"{wait_s:.0f} seconds"
    typer.echo(f"{len(missing)} cells, about {minutes} without exports and quantization")


def _reported(out: Path, note: Note) -> list[str]:
    """The report's files; none where nothing was measured yet."""
    from narrows.errors import InputError, MissingExtra
    from narrows.report.study import write_study_report

    try:
        files = write_study_report(out, out / "report", progress=note)
    except InputError:
        return []
    except MissingExtra as error:
        typer.echo(f"no report: {error}", err=True)
        return []
    return [str(path) for path in files]


def _tell(
    measured: int, failed: Sequence[FailedRecord], written: Sequence[str], *, as_json: bool
) -> None:
    listed = [{"cell": str(record.cell), "reason": record.reason} for record in failed]
    if as_json:
        typer.echo(json.dumps({"measured": measured, "failed": listed, "report": list(written)}))
        return
    typer.echo(f"{measured} cells measured, {len(failed)} failed")
    for entry in listed[:_MOST_LISTED]:
        typer.echo(f"  failed: {entry['cell']}: {entry['reason']}", err=True)
    if len(listed) > _MOST_LISTED:
        typer.echo(f"  and {len(listed) - _MOST_LISTED} more, in the report", err=True)
    for path in written:
        typer.echo(f"report: {path}")
