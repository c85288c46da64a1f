"""The whole report of a study: the page, the figures, the tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from narrows.report.study_figures import write_study_figures
from narrows.report.study_page import write_study_page
from narrows.report.study_scene import read_study
from narrows.report.study_tables import write_tables


def write_study_report(
    study: str | Path,
    folder: str | Path,
    *,
    figures: bool = True,
    dark: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Path, ...]:
    """Write the report of a study's folder.

    Args:
        study: The folder.
        folder: Where the report goes; made if it is not there.
        figures: Draw the PNG and SVG figures, too.
        dark: Figures on a dark ground; the page has both.
        progress: Told what is being done, the steps done and to do.

    Returns:
        The files written: the page, the tables, the figures.

    Raises:
        InputError: There is no study, or nothing of it is measured yet.
        MissingExtra: plotly or matplotlib is not installed.
        StorageError: A file cannot be written.
    """
    scene = read_study(study)
    written = [write_study_page(scene, folder), write_tables(scene, folder)]
    if figures:
        drawn = write_study_figures(scene, folder, dark=dark, progress=partial(progress, "figures"))
        written += drawn
    return tuple(written)
