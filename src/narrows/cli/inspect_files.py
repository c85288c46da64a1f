"""What `narrows inspect` shows of a bundle, a plan and a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from narrows.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console


def show_bundle(path: Path, as_json: bool) -> None:
    """The parts of a bundle and how they fit together."""
    from narrows.config import to_dict
    from narrows.runtime.bundle import read_bundle
    from narrows.units import bytes_text

    bundle = read_bundle(path)
    held = bundle.manifest
    if as_json:
        typer.echo(json.dumps({"id": bundle.id.hex(), "manifest": to_dict(held)}))
        return
    console = make_console()
    console.print(f"[bold]bundle {bundle.id.hex()}[/] of {plain(held.model)}: {held.route.value}")
    console.print(f"input {sides(held.input.shape)} {held.input.dtype}")
    if held.split is not None:
        place = held.split
        console.print(
            f"cut {place.cut} at {plain(place.tensor)}: symbols {sides(place.symbol_shape)}, "
            f"coder {place.coder}"
        )
    for part in held.parts:
        console.print(f"  {part.file}: {bytes_text(part.size_bytes)}, sha256 {part.sha256[:16]}…")
    console.print(f"checked with ONNX Runtime {held.onnxruntime}")


def show_plan(path: Path, as_json: bool) -> None:
    """The choice and the frontier of a plan."""
    from narrows.config import read_json, to_dict
    from narrows.plan.record import PlanRecord
    from narrows.units import bytes_text, seconds_text

    record = read_json(path, PlanRecord)
    frontier = [record.candidate(name) for name in record.frontier]
    if as_json:
        summary = {name: getattr(record, name) for name in ("title", "created", "explanation")}
        summary |= {"chosen": record.chosen, "candidates": len(record.candidates)}
        typer.echo(json.dumps(summary | {"frontier": to_dict(frontier)}))
        return
    console = make_console()
    console.print(f"[bold]{plain(record.title)}[/], {record.created}")
    console.print(plain(record.explanation))
    console.print(f"frontier, {len(frontier)} of {len(record.candidates)} candidates:")
    for candidate in frontier:
        console.print(
            f"  {'→' if candidate.id == record.chosen else ' '} {plain(candidate.id)}: "
            f"{bytes_text(candidate.payload_bytes)}, "
            f"drop {100 * candidate.choose_drop.value:.1f} points, "
            f"{seconds_text(candidate.cost.latency_s)}"
        )


def show_json_file(path: Path, as_json: bool) -> None:
    """A plan or a profile, whichever the file is.

    Raises:
        InputError: It is neither.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise InputError(f"{path} is not JSON") from None
    keys = set(value) if isinstance(value, dict) else set()
    if "candidates" in keys:
        show_plan(path, as_json)
    elif keys & {"memory_bytes", "round_trip_s", "price_per_call"}:
        _show_profile(path, keys, as_json)
    else:
        raise InputError(f"{path} is neither a plan nor a profile of a device, link or cloud")


def _show_profile(path: Path, keys: set[str], as_json: bool) -> None:
    from narrows.config import to_dict
    from narrows.plan.profile import load_cloud, load_device, load_link

    if "memory_bytes" in keys:
        kind, profile = "device", to_dict(load_device(path))
    elif "round_trip_s" in keys:
        kind, profile = "link", to_dict(load_link(path))
    else:
        kind, profile = "cloud", to_dict(load_cloud(path))
    if as_json:
        typer.echo(json.dumps({"kind": kind, **profile}))
        return
    console = make_console()
    console.print(f"[bold]{kind} {plain(profile.pop('name'))}[/]")
    sources = profile.pop("sources")
    if "rates" in profile:
        profile["rates"] = _rates_text(profile["rates"])
    for name, value in profile.items():
        source = f"  [dim]{plain(sources[name])}[/]" if sources.get(name) else ""
        shown = value if name == "rates" else json.dumps(value)
        console.print(f"{name}: {plain(shown)}{source}")


def _rates_text(rates: dict[str, Any]) -> str:
    from narrows.units import macs_text, percent_text

    kinds = sorted({kernel["kind"] for kernel in rates["kernels"]})
    return (
        f"{macs_text(rates['macs_per_s'])}/s; {len(kinds)} kinds of kernel, whole networks off by "
        f"{percent_text(rates['network_error'])} (median); all of it with --json"
    )


def sides(shape: tuple[int, ...]) -> str:
    """A shape as 3x224x224."""
    return "x".join(map(str, shape)) or "scalar"


def plain(text: str) -> str:
    """Text with nothing in it that rich would take for markup."""
    from rich.markup import escape

    return escape(text)


def make_console(*, stderr: bool = False) -> Console:
    """A console that leaves long lines to the terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not stderr)
