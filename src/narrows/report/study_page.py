"""The page of a study: built as the page of plans is, with data and scripts of its own."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from narrows.files import folders, write_atomic
from narrows.report.page import NAME, compose
from narrows.report.study_page_data import study_page_data
from narrows.report.study_scene import StudyScene

_SCRIPTS: Final = ("study_charts.js", "study_table.js", "study.js")
_SECTIONS: Final = MappingProxyType(
    {
        "answer": "Answer",
        "bars": "Before and after",
        "ratios": "Ratios",
        "operators": "Operators",
        "accuracy": "Accuracy and time",
        "table": "Table",
    }
)


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
        eyebrow="narrows study: networks, before and after",
        sections=_SECTIONS,
        styles=("page.css", "study.css"),
        title=scene.title,
        data=study_page_data(scene),
    )
    path = Path(folder) / NAME
    with folders(path.parent):
        write_atomic(path, page)
    return path
