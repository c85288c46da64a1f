"""What the options of narrows measure mean: models, runtimes, shapes and sensors."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import typer

from narrows.errors import InputError, MeasureError, MissingExtra

if TYPE_CHECKING:
    import onnx

    from narrows.cli.progress import Note
    from narrows.measure.candidates import Candidate, Feeding
    from narrows.measure.latency import Schedule
    from narrows.measure.model_record import ModelRecord
    from narrows.measure.sensors import NoEnergy, Sensor
    from narrows.measure.session import Preset, Wanted
    from narrows.task import Task

TORCH = "torch"
_FILES = (".tflite", ".ort", ".xml")  # of runtimes other than ONNX's


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of narrows measure that concern a model; see `measure_options`."""

    model: str
    against: str | None
    backend: str | None
    threads: int
    shape: tuple[int, ...] | None
    batch: int | None
    inputs: Path | None
    rounds: int
    target: float | None
    session_s: float
    limit_s: float
    rule: Literal["rounds", "paper"]
    mlperf: bool
    tiny: bool
    loadgen: str | None
    loadgen_s: float
    loadgen_samples: int | None
    loadgen_logs: Path | None
    task: str | None
    split: str
    energy: str
    energy_s: float
    meter_offset_s: float
    processes: int
    operators: bool


def measured(asked: Asked, note: Note) -> ModelRecord:
    """Measure what was asked for.

    Args:
        asked: The options.
        note: Called with what is being done, the steps done and to do.

    Raises:
        NarrowsError: Something of it is not there or cannot be measured.
    """
    from narrows.measure.whole import Judging, measure_model

    with ExitStack() as stack:
        note(f"open {asked.model}", 0, 1)
        wanted = _wanted(asked)
        source, judged = _opened(asked)
        own = _candidates(asked, asked.model, source, stack)
        others: tuple[Candidate, ...] = ()
        if asked.against is not None:
            note(f"open {asked.against}", 0, 1)
            other = _found(asked.against, asked.shape)
            others = _candidates(asked, asked.against, other, stack, taken=own[0].model)
        return measure_model(
            own,
            against=others,
            schedule=_schedule(asked),
            wanted=wanted,
            judging=None if judged is None else Judging(task=judged, split=asked.split),
            input_shape=None if asked.shape is None else asked.shape[1:],
            progress=note,
        )


def parsed_shape(text: str | None) -> tuple[int, ...] | None:
    """Positive whole numbers separated by commas or by x."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        message = f"--shape {text!r}: give numbers such as 1,3,224,224"
        raise typer.BadParameter(message)
    return found


def _schedule(asked: Asked) -> Schedule:
    from narrows.measure.latency import Schedule

    return Schedule(
        rounds=asked.rounds,
        target=asked.target,
        session_s=asked.session_s,
        limit_s=asked.limit_s,
        threads=asked.threads,
        rule=asked.rule,
    )


def _wanted(asked: Asked) -> Wanted:
    from narrows.measure.loadgen import Scenario
    from narrows.measure.session import LoadGenSettings, Wanted

    loadgen = None
    if asked.loadgen is not None:
        loadgen = LoadGenSettings(
            scenario=Scenario(asked.loadgen),
            seconds=asked.loadgen_s,
            samples=asked.loadgen_samples,
            logs=asked.loadgen_logs,
        )
    presets: list[Preset] = ["mlperf"] if asked.mlperf else []
    presets += ["tiny"] if asked.tiny else []
    return Wanted(
        energy=sensor_named(asked.energy, asked.meter_offset_s),
        energy_s=asked.energy_s,
        presets=tuple(presets),
        loadgen=loadgen,
        operators=asked.operators,
        processes=asked.processes,
    )


def _opened(asked: Asked) -> tuple[Path | onnx.ModelProto, Task | None]:
    from narrows.zoo.sources import resolve_for

    if asked.task is None:
        return _found(asked.model, asked.shape), None
    return resolve_for(asked.model, asked.task)


def _found(model: str, shape: tuple[int, ...] | None) -> Path | onnx.ModelProto:
    """The file, or model, of what a user named.

    Raises:
        InputError: There is no such file, or no such form of name.
        MissingExtra: It needs packages that are not installed.
        ModelError: It cannot be built or exported.
    """
    from narrows.zoo.sources import resolve

    if model.endswith(_FILES):
        return Path(model)
    return resolve(model, input_shape=None if shape is None else shape[1:])


def _candidates(
    asked: Asked,
    model: str,
    source: Path | onnx.ModelProto,
    stack: ExitStack,
    taken: str | None = None,
) -> tuple[Candidate, ...]:
    """A model in every runtime asked for.

    Args:
        asked: The options.
        model: As the user named it.
        source: What that is.
        stack: Closes what was made for it.
        taken: Title of another candidate, which this one must not bear.
    """
    from narrows.measure.candidates import Feeding, as_file, candidate

    path = stack.enter_context(as_file(source))
    feeding = Feeding(inputs=asked.inputs, shape=asked.shape, batch=asked.batch)
    title = Path(model).name if model.endswith((".onnx", *_FILES)) else model
    if title == taken:
        title = f"{title} (2)"
    usual = "litert" if model.endswith(".tflite") else "onnxruntime"
    names = dict.fromkeys(part.strip() for part in (asked.backend or usual).split(","))
    found = tuple(
        _torch(model, title, asked.threads, feeding)
        if name == TORCH
        else candidate(title, path, backend=name, threads=asked.threads, feeding=feeding)
        for name in names
    )
    if found[0].path is None:
        message = "--backend: torch is a baseline, name a runtime before it"
        raise typer.BadParameter(message)
    return found


def _torch(model: str, title: str, threads: int, feeding: Feeding) -> Candidate:
    from narrows.measure.candidates import Candidate
    from narrows.zoo.eager import open_eager
    from narrows.zoo.names import parse

    if importlib.util.find_spec(TORCH) is None:
        raise MissingExtra("the baseline of eager torch", "lab")
    if parse(model).library in ("file", "factory"):
        msg = f"eager torch does not run {model}: name a network of zoo:, timm: or torchvision:"
        raise InputError(msg)
    if feeding.shape is not None or feeding.inputs is not None:
        msg = "eager torch is fed the network's own shape: leave out --shape and --inputs"
        raise InputError(msg)
    return Candidate(
        model=title,
        backend="torch, eager",
        version=metadata.version(TORCH),
        start=lambda seed: open_eager(model, threads=threads, batch=feeding.batch or 1),
        path=None,
    )


def sensor_named(text: str, offset_s: float) -> Sensor | NoEnergy:
    """The sensor a user named.

    Args:
        text: "auto", "none", a sensor's title, a meter's .csv file, or replay:FILE.
        offset_s: Seconds to add to the times of a meter's file.

    Raises:
        MeasureError: There is no such sensor, or its file is not what a meter writes.
    """
    from narrows.measure.sensors import MeterCsv, NoEnergy, Replay, find_sensors
    from narrows.measure.sensors.meter_table import check_meter_table, read_meter_table

    if text == "none":
        return NoEnergy(reason="it was not asked for")
    if text.startswith("replay:"):
        replay = Replay(path=_there(text.removeprefix("replay:")))
        read_meter_table(replay.path)
        return replay
    if text.endswith(".csv"):
        meter = MeterCsv(path=_there(text), offset_s=offset_s)
        check_meter_table(meter.path)
        return meter
    return find_sensors().pick(None if text == "auto" else text)


def _there(name: str) -> Path:
    if not Path(name).is_file():
        msg = f"--energy: no file {name}: give a recorded trace, or what a running meter writes"
        raise MeasureError(msg)
    return Path(name)
