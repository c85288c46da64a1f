"""narrows measure: latency, size, memory, operators and quality of a model, or a device profile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from narrows.measure.whole import ModelRecord
    from narrows.plan.profile import Device

_SHOWN_OPERATORS = 12


def measure(
    model: Annotated[
        str | None,
        typer.Argument(help="file.onnx, timm:NAME, torchvision:NAME, zoo:NAME or module:factory."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task file or module:factory; then quality is measured, too.")
    ] = None,
    on: Annotated[str, typer.Option(help="Set of the task: fit, choose or report.")] = "choose",
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; six or more give 95 %.")] = 10,
    session: Annotated[
        float, typer.Option(min=0, help="Seconds over which the rounds are spread.")
    ] = 5.0,
    profile: Annotated[
        Path | None, typer.Option(help="Write a device profile of this machine to this file.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the device in the profile.")] = "this machine",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure a model on this machine, or with --profile the machine itself.

    A profile holds how long each kind of operator takes here; `narrows plan` predicts from it what
    networks cost that this machine has never run. It takes about a minute.
    """
    if model is None and profile is None:
        message = "give a MODEL to measure, or --profile FILE to profile this machine"
        raise typer.BadParameter(message)
    found: dict[str, object] = {}
    if profile is not None:
        device = _profiled(profile, name, threads)
        found["profile"] = _device_summary(device, profile)
        if not as_json:
            _print_device(device, profile)
    if model is not None:
        from narrows.config import to_dict

        record = _measured(model, task, on, threads=threads, rounds=rounds, session_s=session)
        found["model"] = to_dict(record)
        if not as_json:
            _print_record(record)
    if as_json:
        typer.echo(json.dumps(found))


def _measured(
    name: str, task: str | None, on: str, *, threads: int, rounds: int, session_s: float
) -> ModelRecord:
    from narrows.measure.latency import Schedule
    from narrows.measure.whole import measure_model

    schedule = Schedule(rounds=rounds, session_s=session_s, threads=threads)
    with _progress() as note:
        from narrows.zoo.sources import resolve, resolve_for

        note(f"open {name}", 0, 1)
        source, judged = (resolve(name), None) if task is None else resolve_for(name, task)
        return measure_model(
            name,
            source,
            task=judged,
            split=on,
            schedule=schedule,
            progress=note,
        )


def _profiled(path: Path, name: str, threads: int) -> Device:
    from narrows.config import write_json
    from narrows.measure.coding_speed import coding_speed
    from narrows.measure.environment import environment
    from narrows.measure.fitting import profile_device
    from narrows.plan.profile import Device

    if not path.parent.is_dir():
        message = f"--profile: no folder {path.parent}"
        raise typer.BadParameter(message)
    if path.is_dir():
        message = f"--profile {path} is a folder: give the file to write"
        raise typer.BadParameter(message)
    with _progress() as note:
        note("coders", 0, 1)
        coding = coding_speed()
        rates = profile_device(
            threads=threads, progress=lambda done, total: note("probe networks", done, total)
        )
    here = environment(threads=threads)
    measured = f"measured by narrows measure --profile, {date.today().isoformat()}"
    timed = ("rates", "encode_s_per_symbol", "encode_overhead_s", "picture_encode_s_per_pixel")
    device = Device(
        name=name,
        rates=rates,
        rates_from=f"{here.cpu_model}, onnxruntime {here.onnxruntime}, {threads} threads",
        slowdown=1.0,
        threads=threads,
        memory_bytes=here.memory_bytes or None,
        active_power_w=None,
        idle_power_w=None,
        encode_s_per_symbol=coding.encode_s_per_symbol,
        encode_overhead_s=coding.encode_overhead_s,
        picture_encode_s_per_pixel=coding.picture_encode_s_per_pixel,
        sources={
            **dict.fromkeys(timed, measured),
            "slowdown": "1: the rates are this machine's own",
            "memory_bytes": "all of this machine's memory, by its operating system",
            "active_power_w": "not measured",
            "idle_power_w": "not measured",
        },
    )
    write_json(path, device)
    return device


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error; gives a function of (what, done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    shown = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with shown as bar:
        row = bar.add_task("")

        def note(what: str, done: int, total: int) -> None:
            bar.update(row, description=what, completed=done, total=total)

        yield note


def _device_summary(device: Device, path: Path) -> dict[str, object]:
    return {
        "path": str(path),
        "name": device.name,
        "kinds": {entry.kind: entry.error for entry in device.rates.kernels},
        "network_error": device.rates.network_error,
        "macs_per_s": device.rates.macs_per_s,
    }


def _print_device(device: Device, path: Path) -> None:
    from narrows.units import macs_text, percent_text

    samples = sum(entry.samples for entry in device.rates.kernels)
    typer.echo(
        f"{path}: {device.rates_from}\n"
        f"  {samples} kernels of {len(device.rates.kernels)} kinds timed; whole probe networks are"
        f" off by {percent_text(device.rates.network_error)} (median, in the fit);"
        f" {macs_text(device.rates.macs_per_s)}/s"
    )


def _print_record(record: ModelRecord) -> None:
    from narrows.units import bytes_text, macs_text, percent_text, seconds_text

    taken, cpu = record.latency, record.latency.cpu
    rows = [
        ("latency", _with_interval(taken) + f", p90 {seconds_text(taken.p90)}"),
        ("CPU time", _with_interval(cpu)),
        (
            "size",
            f"{bytes_text(record.size.file_bytes)}, {record.size.parameters:,} parameters",
        ),
        ("MACs", macs_text(record.macs)),
        (
            "peak memory",
            f"{bytes_text(record.cold.peak_bytes)} in a fresh process,"
            f" {bytes_text(record.cold.model_bytes)} of it for the model",
        ),
        (
            "cold start",
            f"{seconds_text(record.cold.load_s + record.cold.first_s)} after the import",
        ),
        ("machine", _machine(record)),
    ]
    if record.unknown_operators:
        unknown = ", ".join(f"{op} ({n})" for op, n in record.unknown_operators.items())
        rows.append(("no MAC rule", unknown))
    if record.quality is not None:
        rows.append(("quality", _quality(record)))
    if taken.contended:
        rows.append(("careful", "other load held the processor: trust the CPU time, not the wall"))
    typer.echo(record.model)
    for title, text in rows:
        typer.echo(f"  {title:<12} {text}")
    total_s = sum(kernel.time_s for kernel in record.operators)
    typer.echo(f"\n  {'time':>9} {'share':>7}  operator")
    for kernel in sorted(record.operators, key=lambda k: -k.time_s)[:_SHOWN_OPERATORS]:
        nodes = " + ".join(kernel.nodes) or "change of layout"
        share = percent_text(kernel.time_s / total_s)
        typer.echo(f"  {seconds_text(kernel.time_s):>9} {share:>7}  {kernel.kernel}: {nodes}")


def _with_interval(taken: object) -> str:
    from narrows.measure.record import Measurement
    from narrows.units import percent_text, seconds_text

    assert isinstance(taken, Measurement)
    low, high = (seconds_text(end) for end in taken.interval)
    return f"{seconds_text(taken.median)} ({percent_text(taken.coverage)}: {low} to {high})"


def _machine(record: ModelRecord) -> str:
    here = record.latency.environment
    return (
        f"{here.cpu_model}, {here.cores} cores, {here.threads} threads used, load"
        f" {here.load_average_1m}, onnxruntime {here.onnxruntime} (key {here.key})"
    )


def _quality(record: ModelRecord) -> str:
    from narrows.units import percent_text

    found = record.quality
    assert found is not None
    shares = {
        "accuracy": found.accuracy,
        "top-5": found.top5,
        "precision": found.precision_macro,
        "recall": found.recall_macro,
        "F1": found.f1_macro,
    }
    parts = [f"{title} {percent_text(v)}" for title, v in shares.items() if v is not None]
    if found.metric is not None and record.metric not in ("top1", "top5"):
        parts.append(f"{record.metric} {found.metric:.4g}")
    return f"{', '.join(parts)} (n = {found.n})"
