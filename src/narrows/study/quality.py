"""Every variant on every runtime judged in one pass: pictures are decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError, NarrowsError
from narrows.graph.load import Model
from narrows.measure.backends import BACKENDS
from narrows.measure.backends.base import Loaded
from narrows.measure.environment import environment
from narrows.measure.intervals import Estimate
from narrows.measure.quality import Quality, paired_drop, paired_drop_by_metric
from narrows.study.record import Score
from narrows.study.settings import ORIGINAL
from narrows.task import Task

Array = NDArray[Any]
Judged = tuple[str, str]
"""A variant and a runtime."""

_BATCH: Final = 16


def judge_all(
    files: Mapping[Judged, Path],
    original: Model,
    task: Task,
    *,
    split: str,
    samples: int | None,
    progress: Callable[[int, int], None],
) -> dict[Judged, Score | str]:
    """Judge models on one of a task's sets.

    Args:
        files: The file of each variant and runtime; the original on the first runtime is the
            reference that others may agree with.
        original: The original, checked: it says how inputs lie.
        task: Data, labels and metric.
        split: Which of its sets.
        samples: At most so many of them; None for all.
        progress: Called with the samples judged and to judge.

    Returns:
        For each the score, or why there is none.

    Raises:
        TaskError: The task does not fit the original.
        InputError: A sample cannot be read.
    """
    chosen, output = task.sets[split], original.outputs[0]
    width = int(np.prod(output.shape))
    task.check_model(original.input.shape, width)
    by_class = task.metric.chance_hits is not None
    total = min(len(chosen), samples or len(chosen))
    found: dict[Judged, Score | str] = {}
    running = _loaded(files, found)
    passes = {
        judged: Quality(classes=width if by_class else None, metric=task.metric, details=by_class)
        for judged in running
    }
    kept: dict[Judged, list[Array]] = {judged: [] for judged in running}
    labels: list[Array] = []
    for start in range(0, total, _BATCH):
        inputs, right = task.inputs(chosen, start, min(start + _BATCH, total))
        labels.append(right)
        reference: Array | None = None
        for judged in list(running):
            try:
                outputs = _outputs(running[judged], original, inputs)
                passes[judged].add(outputs, right, reference)
            except NarrowsError as error:
                found[judged] = str(error)
                del running[judged]
                continue
            if not by_class:
                kept[judged].append(outputs)
            reference = outputs if reference is None else reference
        progress(min(total, start + _BATCH), total)
    scores = {judged: _score(passes[judged], task, split) for judged in running}
    answers = (np.concatenate(labels), {j: np.concatenate(kept[j]) for j in running if kept[j]})
    for judged, score in scores.items():
        found[judged] = _with_drop(judged, score, passes, answers, task)
    return found


def _loaded(files: Mapping[Judged, Path], found: dict[Judged, Score | str]) -> dict[Judged, Loaded]:
    """Each file in its runtime; what does not load is told in `found`."""
    running = {}
    for judged, path in files.items():
        try:
            backend = BACKENDS[judged[1]]
            backend.check()
            running[judged] = backend.load(path, threads=_free_cores())
        except NarrowsError as error:
            found[judged] = str(error)
    return running


def _free_cores() -> int:
    """Threads that do not stand in the way of each other and of whatever else runs."""
    here = environment()
    return max(1, here.cores - round(here.load_average_1m))


def _outputs(loaded: Loaded, original: Model, inputs: Array) -> Array:
    """Outputs (n, k) of inputs (n, *shape), wherever the model has its batch axis."""
    given, made = original.input, original.outputs[0]
    axis = given.batch_axis or 0
    fixed = loaded.inputs[0].shape[axis]
    size = len(inputs) if fixed is None else fixed
    if len(inputs) % size:
        msg = f"the model takes {size} samples at a time, not {len(inputs)}: leave its batch open"
        raise MeasureError(msg)
    parts = []
    for start in range(0, len(inputs), size):
        fed = np.moveaxis(inputs[start : start + size], 0, axis).astype(given.dtype)
        answer = loaded.run({given.name: np.ascontiguousarray(fed)})[0]
        parts.append(np.moveaxis(np.array(answer), made.batch_axis or 0, 0).reshape(size, -1))
    return np.concatenate(parts)


def _score(passed: Quality, task: Task, split: str) -> Score:
    quality = passed.result()
    by_class = quality.accuracy is not None
    report = passed.report() if by_class else None
    return Score(
        set=split,
        n=quality.n,
        accuracy=report.accuracy if report else None,
        top5=report.top.get("5") if report else None,
        averages=report.macro if report else None,
        ece=report.calibration.ece if report else None,
        agreement=quality.agreement,
        drop=None,
        metric=task.metric.name,
        metric_value=quality.metric,
    )


def _with_drop(
    judged: Judged,
    score: Score,
    passes: Mapping[Judged, Quality],
    answers: tuple[Array, Mapping[Judged, Array]],
    task: Task,
) -> Score:
    """The score with what it loses against the original on the same runtime."""
    base = (ORIGINAL, judged[1])
    if judged == base or base not in passes:
        return score
    if score.accuracy is not None:
        drop: Sequence[float] = paired_drop(passes[base].result(), passes[judged].result())
    elif base in answers[1]:
        drop = paired_drop_by_metric(task.metric, answers[0], answers[1][base], answers[1][judged])
    else:
        return score
    return replace(score, drop=Estimate(value=drop[0], low=drop[1], high=drop[2]))
