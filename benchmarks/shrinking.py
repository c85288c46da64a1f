"""What the benchmarks of smaller networks share: a dense reference, and both networks compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from narrows.compress import layer_table
from narrows.files import write_atomic
from narrows.measure.latency import Schedule, compare
from narrows.measure.quality import Quality, QualityRecord, paired_drop
from narrows.measure.workers import open_contender
from narrows.train import TrainingTask, TrainSettings, outputs, train, training_task
from narrows.zoo.export import export


def dense(asked: TrainingTask, settings: TrainSettings, folder: Path) -> TrainingTask:
    """The reference, trained by the same loop as what is made of it, with its batches."""
    torch.manual_seed(settings.seed)
    trained = train(
        asked,
        settings,
        folder=folder,
        device="cpu",
        progress=lambda e: print(
            f"{folder.name}: epoch {e.number}, {e.score:.2%}, {e.seconds:.0f} s", flush=True
        ),
    )
    return replace(asked, model=trained.model)


def both(before: TrainingTask, found: nn.Module) -> dict[str, Any]:
    """What is left of the reference, and the errors of both on the report set with their drop."""
    table = layer_table(found, before.model)
    judged = {name: quality_of(before, net) for name, net in _pair(before, found).items()}
    drop = paired_drop(judged["dense"], judged["compressed"])
    return {
        "weights_left_percent": 100 * table.weight_share_left,
        "parameters_left_percent": 100 * table.share_left,
        "layers": {row.name: (row.units, row.weights, row.weights_left) for row in table.rows},
        "error_dense_percent": 100 * float(1 - judged["dense"].correct.mean()),
        "error_percent": 100 * float(1 - judged["compressed"].correct.mean()),
        "drop_points": [100 * value for value in drop],
    }


def timed(before: TrainingTask, found: nn.Module, folder: Path) -> dict[str, Any]:
    """Bytes of both ONNX files, and how much faster the second is in one run."""
    pair = _pair(before, found)
    paths = {name: folder / f"{name}.onnx" for name in pair}
    shape = tuple(before.example.shape[1:])
    for name, model in pair.items():
        write_atomic(paths[name], export(model, shape, name=name).SerializeToString())
    contenders = {name: open_contender(path, name=name) for name, path in paths.items()}
    try:
        taken = compare(contenders, schedule=Schedule(session_s=8, limit_s=30))
    finally:
        for contender in contenders.values():
            contender.close()
    ratio = taken.ratio("dense", "compressed")
    sizes = {f"{name}_bytes": path.stat().st_size for name, path in paths.items()}
    times = {f"{name}_latency_s": taken.measurements[name].estimate for name in pair}
    return sizes | times | {"faster": ratio.estimate, "faster_interval": ratio.interval}


def text(row: dict[str, Any]) -> str:
    """One line of what was found."""
    drop, low, high = row["drop_points"]
    said = (
        f"{row['weights_left_percent']:6.2f} % of the weights, "
        f"{row['parameters_left_percent']:6.2f} % of the parameters, error "
        f"{row['error_dense_percent']:.2f} → {row['error_percent']:.2f} %, "
        f"drop {drop:+.2f} ({low:+.2f} to {high:+.2f})"
    )
    if "faster" in row:
        low, high = row["faster_interval"]
        said += f", {row['faster']:.2f} × ({low:.2f}–{high:.2f}) faster"
        said += f", file {row['compressed_bytes'] / row['dense_bytes']:.2%}"
    return said


def _pair(before: TrainingTask, found: nn.Module) -> dict[str, nn.Module]:
    return {"dense": before.model, "compressed": found}


def quality_of(asked: TrainingTask, model: nn.Module) -> QualityRecord:

    task = asked.task
    report = training_task(replace(task, choose=task.report, report=task.choose), model)
    answers, labels = outputs(model, report.choose)
    quality = Quality(classes=answers.shape[1])
    quality.add(answers, labels)
    return quality.result()
