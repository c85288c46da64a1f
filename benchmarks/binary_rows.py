"""What the benchmarks of binary networks share: a row of a table, judged, and run as bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

import shrinking
from narrows.binary import load_binary, save_binary
from narrows.compress import BinaryNet, Method, binary_network
from narrows.measure.latency import Schedule, compare
from narrows.measure.quality import paired_drop
from narrows.preprocess import Preprocess
from narrows.task import Task
from narrows.train import TrainSettings, squared_hinge, training_task
from narrows.zoo.export import export

# A byte means (byte − 128) / 128, so that the first layer of a binary network is exact.
SCALE: Final = 1 / 128
ZERO: Final = 128


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Args:
        build: The network, with random weights.
        how: A method, or settings of a plain training with the squared hinge.
        beside: The row of floats it is judged beside, or None for one of these.
        paper: The paper's test error in per cent, of its own network, data and epochs.
        batch: Samples of a batch.
    """

    build: Callable[[], nn.Module]
    how: Method | TrainSettings
    beside: str | None
    paper: float | None
    batch: int


def signed(task: Task) -> Task:
    """The task with bytes as (byte − 128) / 128."""
    made: Preprocess = replace(task.preprocess, scale=128.0, mean=(1.0,), std=(1.0,))
    return replace(task, preprocess=made)


def trained(name: str, row: Row, task: Task, seed: int, folder: Path) -> nn.Module:
    """The network of a row; what is kept in the folder is taken up."""
    torch.manual_seed(seed)
    asked = training_task(task, row.build(), loss=squared_hinge, batch_size=row.batch, seed=seed)
    place = folder / f"{name}-{seed}"
    if isinstance(row.how, TrainSettings):
        settings = replace(row.how, seed=seed)
        return shrinking.dense(asked, settings, place).model
    method = replace(row.how, training=replace(row.how.training, seed=seed))  # type: ignore[attr-defined,type-var]
    return method.apply(  # type: ignore[no-any-return]
        asked, folder=place, progress=lambda line: print(f"{name} {seed}: {line}", flush=True)
    )


def judged(task: Task, model: nn.Module, float_twin: nn.Module | None) -> dict[str, Any]:
    """The error on the report set, and the points lost beside floats."""
    asked = training_task(task, model)
    found = shrinking.quality_of(asked, model)
    made: dict[str, Any] = {"error_percent": 100 * float(1 - found.correct.mean())}
    if float_twin is not None:
        reference = shrinking.quality_of(asked, float_twin)
        made["drop_points"] = [100 * value for value in paired_drop(reference, found)]
    return made


def as_bits(task: Task, model: nn.Module, float_twin: nn.Module, path: Path) -> dict[str, Any]:
    """The network as bits: equal answers, its file, and its time beside the float twin's."""
    shape = task.input_shape
    save_binary(binary_network(model, shape, scale=SCALE, zero=ZERO), path)
    run = load_binary(path).ready()
    pictures = np.stack([np.asarray(e.source) for e in task.report]).reshape(
        -1, *shape[1:], shape[0]
    )
    samples = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    scores = np.concatenate([run(samples[at : at + 100]) for at in range(0, len(samples), 100)])
    with torch.inference_mode():
        wanted = torch.cat(
            [model((part.float() - ZERO) * SCALE) for part in torch.from_numpy(samples).split(100)]
        ).numpy()
    proto = export(float_twin, shape).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    one = samples[:1]
    feeds = {"input": ((one.astype(np.float32) - ZERO) * SCALE).astype(np.float32)}
    runs = {"float": lambda: session.run(None, feeds), "bits": lambda: run(one)}
    taken = compare(runs, schedule=Schedule(session_s=4, limit_s=20))
    ratio = taken.ratio("float", "bits", cpu=True)
    return {
        "same_classes": float((scores.argmax(1) == wanted.argmax(1)).mean()),
        "largest_difference": float(np.abs(scores - wanted).max()),
        "file_bytes": path.stat().st_size,
        "float_file_bytes": len(proto),
        "cpu_s": {name: one.cpu.estimate for name, one in taken.measurements.items()},
        "times_as_fast": {"value": ratio.estimate, "interval": ratio.interval},
    }


def run_rows(
    rows: dict[str, Row], names: list[str], task: Task, seeds: list[int], folder: Path
) -> list[dict[str, Any]]:
    """Every row of every seed, printed as it comes."""
    found = []
    for seed in seeds:
        models: dict[str, nn.Module] = {}
        for name in names:
            row, began = rows[name], time.perf_counter()
            for needed in (row.beside, name):
                if needed is not None and needed not in models:
                    models[needed] = trained(needed, rows[needed], task, seed, folder)
            twin = None if row.beside is None else models[row.beside]
            made = {"row": name, "seed": seed, "paper_percent": row.paper}
            made |= judged(task, models[name], twin)
            if isinstance(row.how, BinaryNet) and twin is not None:
                path = folder / f"{name}-{seed}.safetensors"
                made["bits"] = as_bits(task, models[name], twin, path)
            made["seconds"] = time.perf_counter() - began
            found.append(made)
            print(text(made), flush=True)
    return found


def text(row: dict[str, Any]) -> str:
    """One line of what was found."""
    paper = "" if row["paper_percent"] is None else f" (paper {row['paper_percent']} %)"
    said = f"{row['row']} seed {row['seed']}: error {row['error_percent']:.2f} %{paper}"
    if "drop_points" in row:
        drop, low, high = row["drop_points"]
        said += f", lost {drop:+.2f} ({low:+.2f} to {high:+.2f})"
    if "bits" in row:
        bits = row["bits"]
        low, high = bits["times_as_fast"]["interval"]
        said += (
            f"; as bits {bits['same_classes']:.2%} of the classes alike, "
            f"{bits['times_as_fast']['value']:.1f} × as fast ({low:.1f}–{high:.1f}), file "
            f"{bits['file_bytes']:,} of {bits['float_file_bytes']:,} bytes"
        )
    return said


def summary(rows: list[dict[str, Any]]) -> str:
    """Mean and range of the errors of each row over its seeds."""
    lines = ["mean over seeds, with the smallest and the largest"]
    for name in dict.fromkeys(row["row"] for row in rows):
        errors = [row["error_percent"] for row in rows if row["row"] == name]
        lines.append(f"{name:24}{np.mean(errors):6.2f} % ({min(errors):.2f} to {max(errors):.2f})")
    return "\n".join(lines)
