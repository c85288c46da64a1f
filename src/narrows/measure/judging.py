"""A model's answers judged on a task: one pass in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from narrows.errors import MeasureError
from narrows.graph.load import Model, session
from narrows.graph.ort import run
from narrows.measure.class_report import ClassReport
from narrows.measure.quality import Quality, QualityRecord
from narrows.task import Task

_BATCH = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How good a model's answers are.

    Args:
        task: Name of the task.
        split: Which of its sets.
        metric: Name of the task's metric, whose value is `quality.metric`.
        quality: In short.
        classes: In full, with intervals; None where labels are not classes.
    """

    task: str
    split: str
    metric: str
    quality: QualityRecord
    classes: ClassReport | None


def judge(
    model: Model,
    task: Task,
    split: str,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """One pass of a model over one of a task's sets.

    Args:
        model: The model.
        task: The data and the metric.
        split: "fit", "choose" or "report".
        threads: Threads inside an operator.
        progress: Called with the samples done and to do.

    Raises:
        MeasureError: The task has no such set.
        TaskError: The task does not fit the model.
    """
    if split not in task.sets:
        msg = f"task {task.name!r} has no set {split!r}: choose one of {', '.join(task.sets)}"
        raise MeasureError(msg)
    chosen, output = task.sets[split], model.outputs[0]
    task.check_model(model.input.shape, int(np.prod(output.shape)))
    classes = int(np.prod(output.shape)) if task.metric.chance_hits is not None else None
    quality = Quality(classes=classes, metric=task.metric, details=True)
    running = session(model.proto, threads=threads)
    for start in range(0, len(chosen), _BATCH):
        inputs, labels = task.inputs(chosen, start, start + _BATCH)
        quality.add(outputs_of(model, running, inputs), labels)
        if progress:
            progress(min(len(chosen), start + _BATCH), len(chosen))
    return Judged(
        task=task.name,
        split=split,
        metric=task.metric.name,
        quality=quality.result(),
        classes=None if classes is None else quality.report(),
    )


def outputs_of(model: Model, running: Any, inputs: Any) -> Any:
    """Outputs (n, k) of inputs (n, *shape), wherever the model has its batch axis."""
    given, made = model.input, model.outputs[0]
    fed = np.moveaxis(inputs, 0, given.batch_axis or 0).astype(given.dtype)
    found = run(running, {given.name: np.ascontiguousarray(fed)}, [made.name])[0]
    return np.moveaxis(found, made.batch_axis or 0, 0).reshape(len(inputs), -1)
