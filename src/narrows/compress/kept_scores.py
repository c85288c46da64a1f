"""Scores of candidates, kept in a file so that a search that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import final

from narrows.errors import TaskError
from narrows.files import write_atomic


@final
class KeptScores:
    """What was measured of each candidate, by name.

    Args:
        folder: Where the file is, or None for nowhere.
        name: Of the file.

    Raises:
        TaskError: The file that is there cannot be read.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = None if folder is None else folder / name
        self._scores: dict[str, float] = {}
        if self._path is not None and self._path.exists():
            try:
                found = json.loads(self._path.read_text())
                self._scores = {str(name): float(value) for name, value in found.items()}
            except (
                OSError,
                ValueError,
                AttributeError,
                TypeError,
                ArithmeticError,
                RecursionError,
            ):
                msg = f"{self._path} cannot be read: remove it to start the search anew"
                raise TaskError(msg) from None

    def score(self, what: str, measure: Callable[[], float]) -> float:
        """The score that is kept under a name, or a new one."""
        if what not in self._scores:
            self._scores[what] = measure()
            if self._path is not None:
                write_atomic(self._path, json.dumps(self._scores, indent=1) + "\n")
        return self._scores[what]
