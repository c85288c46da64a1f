"""What `narrows inspect` shows of a packed file: bits per weight, by tensor and by part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import typer

from narrows.cli.columns import print_columns
from narrows.cli.inspect_files import make_console, plain, sides

if TYPE_CHECKING:
    from narrows.packed import PackedFile


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where the bytes of one tensor go.

    Args:
        name: Of the tensor.
        shape: Of it.
        quantizer: Of its grid, or "none".
        coder: Of its symbols, or "none".
        weights: How many.
        zeros: Of them, how many are zero.
        values: Bytes of the values that are not zero.
        positions: Bytes that say which are zero.
        tables: Bytes of the grid, of the coder and of levels.
    """

    name: str
    shape: tuple[int, ...]
    quantizer: str
    coder: str
    weights: int
    zeros: int
    values: float
    positions: float
    tables: float

    @property
    def size_bytes(self) -> float:
        """All of it."""
        return self.values + self.positions + self.tables


def show_packed(path: Path, as_json: bool) -> None:
    """Bits per weight by tensor and by part; every byte of the file is counted once."""
    from narrows.packed import PackedFile
    from narrows.units import bytes_text

    file = PackedFile.open(path)
    rows = [_row(file, name) for name in file.names]
    parts = file.container.parts
    total = path.stat().st_size
    rest = sum(part.size_bytes for part in parts[len(rows) :])
    header = total - sum(part.size_bytes for part in parts)
    weights = sum(row.weights for row in rows)
    if as_json:
        told: dict[str, Any] = {"kind": file.kind, "size_bytes": total, "header_bytes": header}
        told |= {"other_bytes": rest, "weights": weights, "tensors": [asdict(row) for row in rows]}
        typer.echo(json.dumps(told))
        return
    console = make_console()
    console.print(
        f"[bold]{plain(str(path))}[/]: {file.kind}, {bytes_text(total)}, {weights:,} weights, "
        f"{8 * total / max(weights, 1):.3f} bits a weight"
    )
    titles = ("tensor", "shape", "grid", "coder", "zeros", "bytes", "bits")
    print_columns(console, [(*titles, "values", "positions", "tables"), *map(_cells, rows)])
    console.print(f"header and checksums {bytes_text(header)}, graph {bytes_text(rest)}")


def _cells(row: Row) -> tuple[str, ...]:
    """Bytes, and bits a weight: in all, and of each part."""
    sizes = (row.size_bytes, row.values, row.positions, row.tables)
    return (
        row.name,
        sides(row.shape),
        row.quantizer,
        row.coder,
        f"{row.zeros / max(row.weights, 1):.0%}",
        f"{row.size_bytes:,.0f}",
        *(f"{8 * size / max(row.weights, 1):.2f}" for size in sizes),
    )


def _row(file: PackedFile, name: str) -> Row:
    import numpy as np

    from narrows.coding.coders import Adaptive

    entry, values = file.entries[name], file.tensor(name)
    stored = next(arrays for found, _, arrays in file.stored() if found == name)
    last = stored[-1]
    masks = sum(one.size_bytes for one in stored[:-1] if one.key == "mask")
    tables = float(sum(one.size_bytes for one in stored[:-1]) - masks)
    spent = {"values": float(last.size_bytes), "positions": float(masks)}
    if last.coding == Adaptive.name:
        part = file.container.read(file.names.index(name))
        coder = Adaptive()
        table = coder.fitter(last.shape).table()
        split = coder.split_bits(part[len(part) - last.size_bytes :], last.shape, table)
        positions, levels = split["positions"] / 8, split["levels"] / 8
        spent = {"values": last.size_bytes - positions - levels, "positions": positions}
        tables += levels
    return Row(
        name=name,
        shape=values.shape,
        quantizer=(entry["quantizer"] or {}).get("name", "none"),
        coder=entry["coder"] or "none",
        weights=values.size,
        zeros=int(values.size - np.count_nonzero(values)),
        tables=tables,
        **spent,
    )
