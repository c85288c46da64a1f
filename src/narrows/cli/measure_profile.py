"""narrows measure --profile: how long each kind of operator takes on this machine, as a file."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from narrows.cli.progress import Note
    from narrows.plan.profile import Device


def profiled(path: Path, name: str, threads: int, note: Note) -> Device:
    """Measure this machine and write the profile.

    Args:
        path: The file to write.
        name: What the device is called in it.
        threads: Threads inside an operator.
        note: Called with what is being done, the steps done and to do.
    """
    from narrows.config import write_json
    from narrows.measure.coding_speed import coding_speed
    from narrows.measure.environment import environment
    from narrows.measure.fitting import profile_device
    from narrows.plan.profile import Device

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


def check_writable(option: str, path: Path) -> None:
    """Refuse a path that is no file in a folder, or has no room, before anything is measured."""
    from narrows.files import check_writable as try_to_write

    if not path.parent.is_dir():
        message = f"{option}: no folder {path.parent}"
        raise typer.BadParameter(message)
    if path.is_dir():
        message = f"{option} {path} is a folder: give the file to write"
        raise typer.BadParameter(message)
    try_to_write(path)


def device_summary(device: Device, path: Path) -> dict[str, object]:
    """What --json says of a profile."""
    return {
        "path": str(path),
        "name": device.name,
        "kinds": {entry.kind: entry.error for entry in device.rates.kernels},
        "network_error": device.rates.network_error,
        "macs_per_s": device.rates.macs_per_s,
    }


def print_device(device: Device, path: Path) -> None:
    """A profile in two lines."""
    from narrows.units import macs_text, percent_text

    samples = sum(entry.samples for entry in device.rates.kernels)
    typer.echo(
        f"{path}: {device.rates_from}\n"
        f"  {samples} kernels of {len(device.rates.kernels)} kinds timed; whole probe networks are"
        f" off by {percent_text(device.rates.network_error)} (median, in the fit);"
        f" {macs_text(device.rates.macs_per_s)}/s"
    )
