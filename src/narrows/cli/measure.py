"""narrows measure: everything about a model on this machine, or a profile of the machine itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from narrows.cli import measure_options as options
from narrows.cli.measure_profile import check_writable, device_summary, print_device, profiled
from narrows.cli.progress import progress_bar

if TYPE_CHECKING:
    from narrows.cli.measure_setup import Asked


def measure(
    model: options.Model = None,
    backend: options.Backend = None,
    against: options.Against = None,
    threads: options.Threads = 1,
    shape: options.Shape = None,
    batch: options.Batch = None,
    inputs: options.Inputs = None,
    rounds: options.Rounds = 30,
    target: options.Target = 0.02,
    session: options.Session = 3.0,
    limit: options.Limit = 60.0,
    rule: options.Rule = options.StoppingRule.ROUNDS,
    mlperf: options.Mlperf = False,
    tiny: options.Tiny = False,
    loadgen: options.Loadgen = None,
    loadgen_seconds: options.LoadgenSeconds = 60.0,
    loadgen_samples: options.LoadgenSamples = None,
    loadgen_logs: options.LoadgenLogs = None,
    task: options.Task = None,
    on: options.On = "choose",
    energy: options.Energy = "auto",
    energy_seconds: options.EnergySeconds = 10.0,
    meter_offset: options.MeterOffset = 0.0,
    processes: options.Processes = 5,
    operators: options.Operators = True,
    out: options.Out = None,
    compare: options.Compare = None,
    any_environment: options.AnyEnvironment = False,
    as_json: options.AsJson = False,
    profile: options.Profile = None,
    name: options.Name = "this machine",
) -> None:
    """Measure a model on this machine, compare two records, or with --profile measure the machine.

    Every runtime and model works in a process of its own, and all of them are called in turns, in
    rounds at random times. What disturbed the measurement is told with it.

    A profile holds how long each kind of operator takes here; `narrows plan` predicts from it what
    networks cost that this machine has never run. It takes about a minute.
    """
    if model is None and profile is None and compare is None:
        message = (
            "give a MODEL to measure, --compare two records, or --profile FILE of this machine"
        )
        raise typer.BadParameter(message)
    if out is not None:
        check_writable("--out", out)
    found: dict[str, object] = {}
    if compare is not None:
        found["comparison"] = _compared(compare, any_environment=any_environment, quiet=as_json)
    if profile is not None:
        found["profile"] = _profiled(profile, name, threads, quiet=as_json)
    if model is not None:
        from narrows.cli.measure_setup import Asked, parsed_shape

        asked = Asked(
            model=model,
            against=against,
            backend=backend,
            threads=threads,
            shape=parsed_shape(shape),
            batch=batch,
            inputs=inputs,
            rounds=rounds,
            target=target or None,
            session_s=session,
            limit_s=limit,
            rule=rule.value,
            mlperf=mlperf,
            tiny=tiny,
            loadgen=None if loadgen is None else loadgen.value,
            loadgen_s=loadgen_seconds,
            loadgen_samples=loadgen_samples,
            loadgen_logs=loadgen_logs,
            task=task,
            split=on,
            energy=energy,
            energy_s=energy_seconds,
            meter_offset_s=meter_offset,
            processes=processes,
            operators=operators,
        )
        found["model"] = _measured(asked, out, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(found))


def _measured(asked: Asked, out: Path | None, *, quiet: bool) -> object:
    """Measure, write and print; gives what --json says."""
    from narrows.cli.measure_setup import measured
    from narrows.cli.measure_text import print_record
    from narrows.config import to_dict, write_json

    with progress_bar() as note:
        record = measured(asked, note)
    if out is not None:
        write_json(out, record)
    if not quiet:
        print_record(record)
        if out is not None:
            typer.echo(f"\nwritten to {out}")
    return to_dict(record) if quiet else None


def _compared(paths: tuple[Path, Path], *, any_environment: bool, quiet: bool) -> object:
    from narrows.cli.measure_comparison import print_comparison, read_record
    from narrows.config import to_dict
    from narrows.measure.compare_records import compare_records

    first, second = (read_record(path) for path in paths)
    found = compare_records(first, second, any_environment=any_environment)
    if not quiet:
        print_comparison(found)
    return to_dict(found)


def _profiled(path: Path, name: str, threads: int, *, quiet: bool) -> object:
    check_writable("--profile", path)
    with progress_bar() as note:
        device = profiled(path, name, threads, note)
    if not quiet:
        print_device(device, path)
    return device_summary(device, path)
