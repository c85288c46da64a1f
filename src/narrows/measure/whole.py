"""Everything about one model on this machine, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import onnx

from narrows.errors import MeasureError
from narrows.graph.cost import total_macs, unknown_operators
from narrows.graph.load import Model, load, session
from narrows.graph.ort import run
from narrows.measure.latency import Schedule, compare
from narrows.measure.memory import ColdStart, cold_start
from narrows.measure.operators import OperatorTime, example_input, operator_times
from narrows.measure.quality import Quality, QualityRecord
from narrows.measure.record import Measurement
from narrows.measure.size import ModelSize, model_size
from narrows.task import Task

_BATCH = 16

Progress = Callable[[str, int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """What was measured of a model.

    Args:
        model: As it was named.
        latency: Wall time of a call, one sample, with CPU times beside it.
        size: Of the file.
        macs: Multiply-accumulates for a sample.
        unknown_operators: Operators whose MACs are missing, and how often they occur.
        cold: Peak memory and cold times in a fresh process.
        operators: Time by kernel of the runtime, traced back to nodes.
        quality: On the task, where one was given.
        metric: Name of the task's metric, whose value is `quality.metric`.
    """

    FORMAT: ClassVar[int] = 1

    model: str
    latency: Measurement
    size: ModelSize
    macs: int
    unknown_operators: Mapping[str, int]
    cold: ColdStart
    operators: tuple[OperatorTime, ...]
    quality: QualityRecord | None
    metric: str | None


def measure_model(
    name: str,
    source: str | Path | onnx.ModelProto,
    *,
    task: Task | None = None,
    split: str = "choose",
    schedule: Schedule | None = None,
    progress: Progress | None = None,
) -> ModelRecord:
    """Measure latency, size, memory, operators and, with a task, quality.

    Args:
        name: What the record calls it.
        source: The ONNX file, or the model.
        task: Data to judge the outputs on.
        split: Which of the task's sets: "fit", "choose" or "report".
        schedule: Rounds of the latency, and threads.
        progress: Called with what is being done, the steps done and to do.

    Raises:
        ModelError: The model cannot be read or run.
        MeasureError: Something cannot be measured.
        TaskError: The task does not fit the model.
    """
    schedule = schedule or Schedule()
    note = progress or (lambda what, done, total: None)
    model = load(source)
    running = session(model.proto, threads=schedule.threads)
    feeds = {model.input.name: example_input(model)}
    run(running, feeds)  # fails with a ModelError, where the bare call below would not
    rounds = compare(
        {"latency_s": lambda: running.run(None, feeds)},
        schedule=schedule,
        progress=lambda done, total: note("latency", done, total),
    )
    note("operators", 0, 1)
    kernels = operator_times(model, threads=schedule.threads)
    note("memory in a fresh process", 0, 1)
    return ModelRecord(
        model=name,
        latency=rounds.measurements["latency_s"],
        size=model_size(source),
        macs=total_macs(model),
        unknown_operators=dict(unknown_operators(model)),
        cold=cold_start(model.proto, threads=schedule.threads),
        operators=kernels,
        quality=judge(model, task, split, progress=note) if task else None,
        metric=task.metric.name if task else None,
    )


def judge(
    model: Model, task: Task, split: str, *, progress: Progress | None = None
) -> QualityRecord:
    """One pass of a model over one of a task's sets.

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
    quality = Quality(classes=classes, metric=task.metric)
    running = session(model.proto)
    for start in range(0, len(chosen), _BATCH):
        inputs, labels = task.inputs(chosen, start, start + _BATCH)
        quality.add(_outputs(model, running, inputs), labels)
        if progress:
            progress(f"{split} set", min(len(chosen), start + _BATCH), len(chosen))
    return quality.result()


def _outputs(model: Model, running: Any, inputs: Any) -> Any:
    """Outputs (n, k) of inputs (n, *shape), wherever the model has its batch axis."""
    given, made = model.input, model.outputs[0]
    fed = np.moveaxis(inputs, 0, given.batch_axis or 0).astype(given.dtype)
    found = run(running, {given.name: np.ascontiguousarray(fed)}, [made.name])[0]
    return np.moveaxis(found, made.batch_axis or 0, 0).reshape(len(inputs), -1)
