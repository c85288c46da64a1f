"""narrows compress: make a network smaller by one or more methods, and say what that changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narrows.cli import measure_options as options

if TYPE_CHECKING:
    from torch import nn

    from narrows.cli.progress import Note
    from narrows.compress import LayerTable
    from narrows.measure.contender import Contender
    from narrows.measure.record import Measurement
    from narrows.measure.sensors import NoEnergy, Sensor
    from narrows.train import Epoch, TrainingTask, TrainSettings


def compress(
    model: Annotated[
        str,
        typer.Argument(
            help="zoo:NAME, timm:NAME, torchvision:NAME, a file of `narrows compress`, or "
            "module:factory that gives an nn.Module or a TrainingTask."
        ),
    ],
    method: Annotated[
        list[str],
        typer.Option(
            help="NAME:KEY=VALUE,... (deepiot, units, magnitude, surgery, sparsesep, "
            "dead_units, distillation); several follow each other."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    task: Annotated[
        str | None,
        typer.Option(help="Task file or module:factory; not with a TrainingTask."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Train it first, KEY=VALUE,... such as epochs=10,learning_rate=0.05. A zoo:NAME "
            "without weights of its own begins with random ones; else it needs "
            "?weights=FILE.safetensors."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in a batch.")] = 64,
    flip: Annotated[
        bool, typer.Option("--flip", help="Train on pictures shifted and mirrored at random.")
    ] = False,
    taught: Annotated[
        bool,
        typer.Option("--taught", help="In every method the original's answers are learned, too."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of order and augmentation.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of training and timing.")] = 1,
    energy: options.Energy = "auto",
    energy_seconds: options.EnergySeconds = 5.0,
    meter_offset: options.MeterOffset = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make a network smaller, and measure it beside the original.

    Trains on the task's fit set, chooses on its choose set, and reads its report set once, at the
    end. The folder gets original.onnx, model.onnx, model.narrows (structure and weights), the
    checkpoints of every training (an interrupted command goes on where it stopped) and record.json.
    """
    import torch
    from rich.console import Console

    from narrows.cli.compress_text import print_record
    from narrows.cli.measure_setup import sensor_named
    from narrows.cli.progress import progress_bar
    from narrows.compress import Chain, layer_table
    from narrows.compress import taught as with_teacher
    from narrows.compress.catalog import method_of, settings_of
    from narrows.files import folders, write_atomic
    from narrows.store import pack_network
    from narrows.store.structure import describe
    from narrows.train import TrainSettings

    methods = tuple(method_of(each) for each in method)
    meter = sensor_named(energy, meter_offset)
    first = None if train is None else settings_of(TrainSettings, train)
    torch.set_num_threads(threads)
    asked = _asked(model, task, batch_size, seed, flip=flip, untrained=first is not None)
    describe(asked.model)  # or a network that cannot be stored would be found out in the end
    with progress_bar() as note, folders(out):
        if first is not None:
            asked = _trained(asked, first, out, note)
        made = Chain(methods=methods).apply(
            with_teacher(asked) if taught else asked,
            folder=out / "work",
            progress=lambda line: note(line, 0, 0),
        )
        packed = pack_network(made)
        write_atomic(out / "model.narrows", packed)
        paths = _exported(asked, made, out, note)
        record = {
            "model": model,
            "task": asked.task.name,
            "train": train,
            "methods": method,
            "taught": taught,
            **_judged(asked, paths, note),
            **_timed(paths, threads, partial(_energy, sensor=meter, seconds=energy_seconds), note),
            "packed_bytes": {
                "original": len(pack_network(asked.model)),
                "compressed": len(packed),
            },
            **_table(layer_table(made, asked.model)),
        }
        write_atomic(out / "record.json", json.dumps(record, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(record))
    else:
        print_record(Console(), record, out)


def _asked(
    model: str, task: str | None, batch_size: int, seed: int, *, flip: bool, untrained: bool
) -> TrainingTask:
    """The network with the task it is asked; one of random weights is told."""
    from narrows.train import crop_and_flip
    from narrows.zoo.names import parse
    from narrows.zoo.trainable import training_task_of

    asked = training_task_of(
        model,
        task,
        batch_size=batch_size,
        augment=crop_and_flip if flip else None,
        seed=seed,
        untrained=untrained,
    )
    if parse(model).is_random and not untrained:
        typer.echo(f"{model} has random weights: --train KEY=VALUE,... trains it first", err=True)
    return asked


def _trained(asked: TrainingTask, settings: TrainSettings, out: Path, note: Note) -> TrainingTask:
    """The task with its network trained."""
    from dataclasses import replace

    from narrows.train import train

    def tell(epoch: Epoch) -> None:
        note(f"train: loss {epoch.loss:.4g}", epoch.number, settings.epochs)

    model = train(asked, settings, folder=out / "work" / "train", progress=tell).model
    return replace(asked, model=model.cpu().eval())


def _exported(asked: TrainingTask, made: nn.Module, out: Path, note: Note) -> dict[str, Path]:
    """The ONNX files of both."""
    from narrows.files import write_atomic
    from narrows.zoo.export import export

    paths = {"original": out / "original.onnx", "compressed": out / "model.onnx"}
    for (name, path), network in zip(paths.items(), (asked.model, made), strict=True):
        note(f"export {name}", 0, 0)
        proto = export(network, tuple(asked.example.shape[1:]), name=name)
        write_atomic(path, proto.SerializeToString())
    return paths


def _judged(asked: TrainingTask, paths: dict[str, Path], note: Note) -> dict[str, Any]:
    """Multiply-accumulates, file sizes and quality of both."""
    from narrows.cli.quality_record import quality_record
    from narrows.graph import load
    from narrows.graph.cost import total_macs
    from narrows.measure.judging import judge

    models = {name: load(path) for name, path in paths.items()}
    judged = [
        judge(one, asked.task, "report", progress=lambda done, of: note("judge", done, of))
        for one in models.values()
    ]
    return {
        "macs": {name: total_macs(one) for name, one in models.items()},
        "size_bytes": {name: path.stat().st_size for name, path in paths.items()},
        "quality": quality_record(*judged, name="compressed"),
    }


def _timed(
    paths: dict[str, Path], threads: int, energy: Callable[[Contender], Any], note: Note
) -> dict[str, Any]:
    """Latencies of both from the same rounds, and the energy of one inference of each."""
    from narrows.measure.latency import Schedule, compare
    from narrows.measure.workers import open_contender

    note("latency", 0, 0)
    contenders = {n: open_contender(path, threads=threads, name=n) for n, path in paths.items()}
    try:
        taken = compare(contenders, schedule=Schedule(threads=threads, session_s=6, limit_s=30))
        note("energy", 0, 0)
        used = {name: energy(contender) for name, contender in contenders.items()}
    finally:
        for contender in contenders.values():
            contender.close()
    return {
        "latency_s": {n: _with_interval(m) for n, m in taken.measurements.items()},
        "speed_up": _with_interval(taken.ratio("original", "compressed")),
        "verdict": taken.verdict("compressed", "original"),
        "energy_j": used,
    }


def _energy(contender: Contender, *, sensor: Sensor | NoEnergy, seconds: float) -> dict[str, Any]:
    """Joules of one inference, in all and above idle; None with the reason without a sensor."""
    from narrows.measure.energy import NoEnergy, measure_energy

    found = measure_energy(contender, sensor, load_s=seconds, idle_s=seconds)
    if isinstance(found, NoEnergy):
        return {"total": None, "dynamic": None, "reason": found.reason}
    return {
        "total": _with_interval(found.total_j),
        "dynamic": _with_interval(found.dynamic_j),
        "sensor": found.sensor,
        "warnings": list(found.warnings),
    }


def _with_interval(measured: Measurement) -> dict[str, Any]:
    low, high = measured.interval
    return {"value": measured.estimate, "low": low, "high": high, "reached": measured.reached}


def _table(table: LayerTable) -> dict[str, Any]:
    return {
        "parameters": {
            "original": sum(row.parameters for row in table.rows),
            "left": sum(row.left for row in table.rows),
        },
        "layers": [
            {
                "name": row.name,
                "units": row.units,
                "parameters": row.parameters,
                "left": row.left,
                "dense_bytes": row.dense_bytes,
                "size_bytes": row.size_bytes,
                "format": row.format,
            }
            for row in table.rows
        ],
    }
