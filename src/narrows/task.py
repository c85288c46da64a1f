"""A task: labelled data in three sets, how it is prepared, and what counts as good.

    fit      codecs are fitted to it              ┐
    choose   settings are chosen on it            ├ no sample is in two of them
    report   read once, for the numbers reported  ┘

A task comes from a small TOML file or from a user's own `module:factory`. Pictures are decoded
when asked for, so memory does not grow with their number. docs/task.md describes the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import ConfigError, InputError, TaskError
from narrows.metrics import METRICS, Metric, load_metric
from narrows.preprocess import Pixels, Preprocess
from narrows.references import call_reference, is_reference
from narrows.splits import (
    SHARES,
    Example,
    Kind,
    Split,
    array_split,
    check_disjoint,
    check_kind,
    divide,
    divided_text,
)
from narrows.task_file import read_task_file


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Data, preprocessing, labels and metric.

    Args:
        name: What the report calls it.
        kind: "image" (pictures), "array", or "series" (windows of a signal).
        metric: Score of outputs and labels, higher being better.
        fit: Samples codecs are fitted to.
        choose: Samples settings are chosen on.
        report: Samples read once, at the end.
        preprocess: From a picture or an array to the network's input.
        labels: Class names, or None where there are none.
        division: How the three sets came about, in words.
        overlap: "refuse" sets that share a sample, or "allow" it (recorded signals may repeat).

    Raises:
        TaskError: A set is empty, two share a sample, or labels do not fit the class names.
    """

    name: str
    kind: Kind
    metric: Metric
    fit: Split
    choose: Split
    report: Split
    preprocess: Preprocess
    labels: tuple[str, ...] | None = None
    division: str = "three sets, as given"
    overlap: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        check_kind(self.kind)
        if self.overlap not in ("refuse", "allow"):
            msg = f"overlap is {self.overlap!r}: expected 'refuse' or 'allow'"
            raise TaskError(msg)
        if (self.kind == "image") != (self.preprocess.size is not None):
            msg = f"{self.kind} data with preprocessing of size {self.preprocess.size}: pictures "
            raise TaskError(msg + "need a size, arrays and series must have none")
        for name, split in self.sets.items():
            if not len(split):
                msg = f"set {name!r} of task {self.name!r} is empty: give it samples"
                raise TaskError(msg)
            self._check_labels(name, split.labels)
        if self.overlap == "refuse":
            check_disjoint(self.sets)

    def _check_labels(self, name: str, found: NDArray[Any]) -> None:
        if self.metric.name in METRICS and self.metric.chance_hits is not None:
            if found.dtype.kind == "f":
                msg = f"metric {self.metric.name!r} needs class numbers, set {name!r} has "
                raise TaskError(f"{msg}{found.dtype}: use rmse or your own module:function")
            classes = len(self.labels) if self.labels else None
            if found.min() < 0 or (classes is not None and found.max() >= classes):
                wrong = found.min() if found.min() < 0 else found.max()
                known = f"{classes} class names" if classes else "numbers from 0"
                msg = f"set {name!r} has label {wrong}, expected {known}: correct labels or names"
                raise TaskError(msg)

    @property
    def sets(self) -> dict[str, Split]:
        """The three sets by name."""
        return {"fit": self.fit, "choose": self.choose, "report": self.report}

    @property
    def classes(self) -> int | None:
        """Number of classes if class names are stated, else None."""
        return len(self.labels) if self.labels else None

    @property
    def chance(self) -> float | None:
        """Score of guessing among the classes named or seen; None where that has no meaning."""
        seen = self.classes or len(
            np.unique([label for s in self.sets.values() for label in s.labels])
        )
        return self.metric.chance(seen)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network."""
        return self.preprocess.input_shape or np.asarray(self.fit.example(0).source).shape

    def pixels(self, example: Example) -> Pixels:
        """One picture, decoded, resized and cropped, (H, W, C).

        Raises:
            InputError: It is no picture.
            TaskError: This task has no pictures.
        """
        if self.kind != "image":
            msg = f"task {self.name!r} has {self.kind} data: it has no pixels"
            raise TaskError(msg)
        return self.preprocess.pixels(example.source)

    def to_input(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Pixels, or an array of the data, to one input of the network (float32, input_shape)."""
        return self.preprocess.to_input(values)

    def inputs(
        self, split: Split, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """A batch of inputs (n, *input_shape) and its labels (n,).

        Raises:
            InputError: A picture cannot be read, or an array holds something not finite.
        """
        batch = []
        for index in range(start, min(stop, len(split))):
            example = split.example(index)
            picture = self.kind == "image"
            values = self.pixels(example) if picture else np.asarray(example.source)
            batch.append(self.to_input(values))
            if not picture and not np.isfinite(batch[-1]).all():
                msg = f"sample {index} of task {self.name!r} is not finite: clean the data"
                raise InputError(msg)
        return np.stack(batch), split.labels[start:stop]

    def check_model(self, input_shape: tuple[int, ...], outputs: int) -> None:
        """Refuse a model that cannot be asked this task.

        Args:
            input_shape: Shape of one input of the model.
            outputs: How many numbers it answers with.

        Raises:
            TaskError: Shapes differ, or a label or class name has no output.
        """
        if tuple(input_shape) != self.input_shape:
            msg = (
                f"task {self.name!r} prepares inputs of shape {self.input_shape}, the model takes "
                f"{tuple(input_shape)}: set size and layout under [preprocess]"
            )
            raise TaskError(msg)
        if self.metric.chance_hits is None:
            return
        highest = max(int(split.labels.max()) for split in self.sets.values())
        if highest >= outputs or (self.labels and len(self.labels) != outputs):
            named = f"{len(self.labels)} class names and " if self.labels else ""
            msg = (
                f"task {self.name!r} has {named}labels up to {highest}, the model has {outputs} "
                "outputs: take the model trained on these classes, or correct the labels"
            )
            raise TaskError(msg)


def array_task(
    name: str,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    kind: Kind = "array",
    metric: str | Metric = "top1",
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Task:
    """A task from arrays in memory, divided into the three sets at random.

    Args:
        name: What the report calls it.
        x: Samples (n, *input_shape).
        y: Class numbers (n,), or targets (n, ...).
        kind: "array" or "series"; "image" for uint8 pixels, with a preprocess.
        metric: A name, `module:function`, or a Metric.
        labels: Class names.
        preprocess: Scaling; none by default.
        seed: Divides the same way each time.

    Raises:
        TaskError: The arrays do not fit together.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6, 50))
        >>> task = array_task("windows", x, np.arange(40) % 4, kind="series")
        >>> len(task.fit), len(task.report), task.input_shape, task.chance
        (10, 20, (6, 50), 0.25)
    """
    parts = divide(array_split(x, y), SHARES, seed=seed)
    return Task(
        name=name,
        kind=kind,
        metric=metric if isinstance(metric, Metric) else load_metric(metric),
        preprocess=preprocess or Preprocess(),
        labels=tuple(labels) if labels is not None else None,
        division=divided_text("all data", SHARES, seed),
        fit=parts["fit"],
        choose=parts["choose"],
        report=parts["report"],
    )


def load_task(source: str | Path, *, preprocess: Preprocess | None = None) -> Task:
    """The task a TOML file or a `module:factory` describes.

    Args:
        source: A path, or `module:factory` of a function without arguments that gives a Task.
        preprocess: The model's own, used where the file does not say how to prepare.

    Raises:
        TaskError: The file or what it names does not fit together.
        ConfigError: A reference cannot be imported.

    Example:
        >>> load_task("missing.toml")
        Traceback (most recent call last):
        narrows.errors.TaskError: no task file missing.toml: give a .toml file or module:factory
    """
    path = Path(source)
    if isinstance(source, str) and is_reference(source) and not path.exists():
        return _from_factory(source)
    if not path.is_file():
        msg = f"no task file {source}: give a .toml file or module:factory"
        raise TaskError(msg)
    try:
        return Task(**read_task_file(path, default=preprocess))
    except (TaskError, ConfigError) as error:
        msg = f"{path}: {error}"
        raise TaskError(msg) from error


def _from_factory(reference: str) -> Task:
    task = call_reference(reference)
    if not isinstance(task, Task):
        msg = f"{reference!r} gave a {type(task).__name__}: expected a narrows.task.Task"
        raise TaskError(msg)
    return task
