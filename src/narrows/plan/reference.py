"""A whole model on one set: its outputs wait in a file, so memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import final

import numpy as np

from narrows.coding.base import Floats
from narrows.errors import PlanError
from narrows.files import storage_error, write_atomic
from narrows.graph.load import Model
from narrows.plan.features import FeatureReader
from narrows.plan.fit import Progress
from narrows.plan.judge import Answers, Judge, joined
from narrows.plan.samples import Rows, Samples
from narrows.plan.settings import Settings
from narrows.preprocess import PRESETS, Preprocess, with_size
from narrows.task import Task

_CHANCE_RATIO = 5.0
_CHANCE_SHARE = 0.2


@final
class Reference:
    """A whole model's outputs on one set.

    Args:
        samples: The set.
        width: Number of outputs.
        path: Of the file; what a former run left there is used.
    """

    def __init__(self, samples: Samples, width: int, path: Path) -> None:
        self._samples, self._width, self._path = samples, width, path
        self._seconds = path.with_suffix(".seconds")

    def prepare(
        self, model: Model, settings: Settings, progress: Progress = lambda _: None
    ) -> float:
        """Decode the set and run the model over it: one plain accuracy pass.

        Returns:
            Seconds the pass took, in this run or in the one that left the file.

        Raises:
            PlanError: The outputs are not finite.
            StorageError: The disk is full.
        """
        size = 4 * self._width * len(self._samples)
        whole = self._path.is_file() and self._path.stat().st_size == size
        if whole and self._seconds.is_file():
            self._samples.prepare()
            return float(self._seconds.read_text())
        started_s = perf_counter()
        self._samples.prepare()
        reader = FeatureReader(model, (), threads=settings.threads)
        temporary = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                for rows, inputs in self._samples.batches(self._samples.rows, settings.batch):
                    file.write(reader.read(inputs)[1].tobytes())
                    progress(len(rows))
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise storage_error(self._path, error) from error
        seconds = perf_counter() - started_s
        write_atomic(self._seconds, repr(seconds))
        return seconds

    def outputs(self, rows: Rows) -> Floats:
        """Outputs (n, k) of some rows."""
        row_bytes = 4 * self._width
        with self._path.open("rb") as file:
            parts = []
            for row in rows:
                file.seek(int(row) * row_bytes)
                parts.append(np.frombuffer(file.read(row_bytes), np.float32))
        return np.stack(parts)

    def answers(
        self, judge: Judge, to: Callable[[Rows], Floats] | None = None, batch: int = 256
    ) -> Answers:
        """The model's answers to the whole set.

        Args:
            judge: Of the task.
            to: Outputs of rows that they are compared with; by default the same.
            batch: Rows at once.
        """
        rows = self._samples.rows
        parts = []
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            outputs = self.outputs(part)
            parts.append(
                judge.answers(part, outputs, self._samples.labels[part], (to or self.outputs)(part))
            )
        return joined(parts)


def check_above_chance(metric_value: float, task: Task, model: str) -> None:
    """Stop where a model scores hardly better than guessing: the preprocessing is in doubt.

    "Hardly" is below five times chance, or below chance and a fifth of the way to one where that
    is less (few classes).

    Raises:
        PlanError: It does.
    """
    chance = task.chance
    if chance is None:
        return
    least = min(_CHANCE_RATIO * chance, chance + _CHANCE_SHARE * (1 - chance))
    if metric_value >= least:
        return
    msg = (
        f"{model} scores {metric_value:.4f} ({task.metric.name}) on the choose set of "
        f"{task.name!r}, guessing scores {chance:.4f}. Is the preprocessing the model's own? It is "
        f"{preprocess_text(task.preprocess)}. Set [preprocess] in the task (a preset, or mean, "
        "std, scale and layout), and check that labels and outputs have the same order"
    )
    raise PlanError(msg)


def preprocess_text(preprocess: Preprocess) -> str:
    """The preset's name, if it is one at some size, and the numbers."""
    side = preprocess.size[0] if preprocess.size else None
    names = [
        name
        for name, preset in PRESETS.items()
        if preprocess == preset or (side and preprocess == with_size(preset, side))
    ]
    numbers = (
        f"x / {preprocess.scale:g}, mean {preprocess.mean}, std {preprocess.std}, "
        f"layout {preprocess.layout}, colour {preprocess.colour}"
    )
    return f"preset {names[0]!r} ({numbers})" if names else f"no preset ({numbers})"
