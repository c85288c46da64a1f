"""The page of a study: built as the page of plans is, with data and scripts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from narrows.files import write_atomic
from narrows.report.figures import make_folder
from narrows.report.page import NAME, compose
from narrows.report.study_page_data import study_page_data
from narrows.report.study_scene import StudyScene

_SCRIPTS: Final = ("study_charts.js", "study_table.js", "study.js")


def write_study_page(scene: StudyScene, folder: str | Path) -> Path:
    """Write the page of a study into a folder, which is made if it is not there.

    Returns:
        The file.

    Raises:
        MissingExtra: plotly is not installed.
        StorageError: It cannot be written.
    """
    page = compose(
        "study.html",
        _SCRIPTS,
        styles=("page.css", "study.css"),
        title=scene.title,
        data=study_page_data(scene),
    )
    path = make_folder(folder) / NAME
    write_atomic(path, page)
    return path
