"""narrows report: the page and the figures of one or more plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    plans: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of plans, or their plan.json files; or the folder of a study."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page and the figures.")],
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the PNG and SVG figures too.")
    ] = True,
    dark: Annotated[
        bool, typer.Option("--dark", help="Figures on a dark ground; the page has both.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write one self-contained interactive page, and the figures as PNG and SVG.

    The page is OUT/index.html. It holds all its data and scripts and loads nothing from the
    network. With several plans, their models stand side by side in the first three figures. Of a
    study it also writes tables.md.
    """
    from narrows.report.study_scene import is_study

    if any(is_study(path) for path in plans):
        _report_study(plans, out, figures=figures, dark=dark, as_json=as_json)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from narrows.cli.inspect_files import make_console
    from narrows.report.page import write_page
    from narrows.report.scene import gather, read_plans

    scene = gather(read_plans(plans))
    page = write_page(scene, out)
    drawn: tuple[Path, ...] = ()
    if figures:
        from narrows.report.figures import write_figures

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        console = make_console(stderr=True)
        quiet = not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
            task = bar.add_task("figures", total=None)
            drawn = write_figures(
                scene,
                out,
                dark=dark,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    if as_json:
        made = {"page": str(page), "figures": [str(path) for path in drawn]}
        typer.echo(json.dumps(made | {"candidates": sum(len(p.candidates) for p in scene.plans)}))
        return
    typer.echo(f"page: {page}")
    for path in drawn:
        typer.echo(f"figure: {path}")


def _report_study(
    studies: list[Path], out: Path, *, figures: bool, dark: bool, as_json: bool
) -> None:
    from narrows.cli.progress import progress_bar
    from narrows.report.study import write_study_report

    if len(studies) > 1:
        message = "a study stands alone: give one folder"
        raise typer.BadParameter(message)
    with progress_bar() as note:
        written = write_study_report(studies[0], out, figures=figures, dark=dark, progress=note)
    page, tables, *drawn = (str(path) for path in written)
    if as_json:
        typer.echo(json.dumps({"page": page, "tables": tables, "figures": drawn}))
        return
    typer.echo(f"page: {page}\ntables: {tables}")
    for path in drawn:
        typer.echo(f"figure: {path}")
