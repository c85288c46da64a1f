"""What `narrows compress` prints: before and after, and layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from narrows.cli.columns import print_columns
from narrows.cli.inspect_files import plain
from narrows.units import bytes_text, joules_text, macs_text, seconds_text

if TYPE_CHECKING:
    from rich.console import Console

Row: TypeAlias = tuple[str, str, str, str]


def print_record(console: Console, record: dict[str, Any], out: Path) -> None:
    """Print a record, as the command writes it.

    Args:
        console: Where.
        record: What record.json holds.
        out: The folder, to say where the files are.
    """
    before, left = record["parameters"]["original"], record["parameters"]["left"]
    macs, sizes, packed = record["macs"], record["size_bytes"], record["packed_bytes"]
    rows = [
        ("", "original", "compressed", ""),
        ("parameters", f"{before:,}", f"{left:,}", f"{left / before:.2%} left"),
        _shares("MACs", macs["original"], macs["compressed"], macs_text),
        _shares("ONNX file", sizes["original"], sizes["compressed"], bytes_text),
        _shares("packed file", packed["original"], packed["compressed"], bytes_text),
        _latency(record),
        _energy(record["energy_j"]),
        _quality(record["quality"]),
    ]
    print_columns(console, rows)
    print_columns(console, _layers(record["layers"]))
    console.print()
    if any(row["format"] == "csr" for row in record["layers"]):
        whole, least = (sum(r[k] for r in record["layers"]) for k in ("dense_bytes", "size_bytes"))
        console.print(
            f"weights: {bytes_text(whole)} as they are, {bytes_text(least)} with each matrix in "
            "its smaller format, indices of 32 bits counted; nothing was timed in that format"
        )
    if left < before and macs["compressed"] == macs["original"]:
        console.print("fewer parameters, and as many MACs: zeros inside a layer save no time")
    elif left < before and record["verdict"] != "faster":
        console.print("fewer parameters, and not faster as far as can be told")
    files = "model.onnx, model.narrows, original.onnx, record.json"
    console.print(plain(f"{out}: {files}"))


def _layers(layers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each layer; with its smaller format where one is smaller as its non-zeros."""
    sparse = any(row["format"] == "csr" for row in layers)
    table = [("layer", "units", "parameters", "left", *(("smaller as", "bytes") * sparse))]
    for row in layers:
        share = f"{row['left'] / row['parameters']:.2%}"
        line = (row["name"], f"{row['units']:,}", f"{row['parameters']:,}", share)
        table.append((*line, *((row["format"], f"{row['size_bytes']:,}") * sparse)))
    return table


def _shares(name: str, before: float, after: float, text: Callable[[float], str]) -> Row:
    return (name, text(before), text(after), f"{after / max(before, 1):.2%} left")


def _latency(record: dict[str, Any]) -> Row:
    taken, ratio = record["latency_s"], record["speed_up"]
    shown = [
        f"{seconds_text(one['value'])} ({seconds_text(one['low'])} to {seconds_text(one['high'])})"
        for one in (taken["original"], taken["compressed"])
    ]
    ratio_text = f"{ratio['value']:.2f} × ({ratio['low']:.2f} to {ratio['high']:.2f})"
    return ("latency", shown[0], shown[1], f"{ratio_text}, {record['verdict']}")


def _energy(used: dict[str, Any]) -> Row:
    """Joules above idle; without a sensor why there are none."""
    before, after = used["original"], used["compressed"]
    if before["dynamic"] is None or after["dynamic"] is None:
        return ("energy", "none", "none", before.get("reason", "") or after.get("reason", ""))
    shown = [
        f"{joules_text(one['dynamic']['value'])} ({joules_text(one['dynamic']['low'])} to "
        f"{joules_text(one['dynamic']['high'])})"
        for one in (before, after)
    ]
    return ("energy", shown[0], shown[1], f"above idle, {before['sensor']}")


def _quality(quality: dict[str, Any]) -> Row:
    shown = [f"{quality[name]:.4f}" for name in ("original", "compressed")]
    last = f"{quality['n']} {quality['set']} examples"
    if "drop" in quality:
        value, low, high = (100 * quality["drop"][key] for key in ("value", "low", "high"))
        last = f"drop {value:+.2f} points of accuracy ({low:+.2f} to {high:+.2f}), {last}"
    return (quality["metric"], shown[0], shown[1], last)
