"""The table an external meter writes: time, and power, energy, or voltage and current.

    # any line that begins so is skipped
    timestamp_s,power_mw                 time [ms];voltage [V];current [mA]
    1718000000.000,2315.2                0.0;5.07;451.2

Every column of these names states its unit, behind an underscore or in brackets; other columns are
left alone. Separators are commas, semicolons or tabs. Where there are several, energy is taken
before power, and power before voltage and current. A table that is cut off, unsorted or holds
anything that is not a number is refused: half a window is not a window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Final, final

from narrows.errors import MeasureError
from narrows.files import write_atomic
from narrows.measure.sensors.base import Kind
from narrows.measure.sensors.trace import Trace, counter_trace, power_trace

_NAMES: Final = MappingProxyType(
    {"timestamp": "time", "time": "time", "t": "time", "power": "power", "p": "power"}
    | {"voltage": "voltage", "v": "voltage", "u": "voltage", "current": "current", "i": "current"}
    | {"energy": "energy", "e": "energy"}
)
_UNITS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
        "power": {"w": 1.0, "mw": 1e-3, "uw": 1e-6, "kw": 1e3},
        "voltage": {"v": 1.0, "mv": 1e-3, "uv": 1e-6},
        "current": {"a": 1.0, "ma": 1e-3, "ua": 1e-6},
        "energy": {"j": 1.0, "mj": 1e-3, "uj": 1e-6, "wh": 3600.0, "mwh": 3.6, "kwh": 3.6e6},
    }
)
_HEAD = re.compile(r"(\w+?)(?:_([a-zµμ]+)|\s*[\[(]([a-zµμ]+)[\])])?")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTable:
    """What a meter wrote, in seconds, joules or watts.

    Args:
        times_s: Time of each row by the meter's clock, rising.
        values: Joules counted, or watts, at each.
        kind: Which of the two.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    kind: Kind

    @property
    def update_s(self) -> float:
        """Median time between two rows."""
        return median(b - a for a, b in pairwise(self.times_s))

    def trace(self, times_s: Sequence[float]) -> Trace:
        """The trace of these rows.

        Args:
            times_s: Their times by the clock of the run.
        """
        rows = [(value,) for value in self.values]
        if self.kind == "power":
            return power_trace(times_s, rows, update_s=self.update_s)
        return counter_trace(
            times_s, rows, ranges_j=(None,), rails=("meter",), update_s=self.update_s
        )


def read_meter_table(path: Path) -> MeterTable:
    """The table in a file.

    Raises:
        MeasureError: There is no such file, it has not the columns, is cut off, unsorted, or holds
            something that is not a number; the message names the line.
    """
    kept = _kept(_text(path))
    if len(kept) < 3:
        msg = f"{path} holds {max(0, len(kept) - 1)} rows of a meter: energy needs two at least"
        raise MeasureError(msg)
    return _table(kept, path)


def check_meter_table(path: Path) -> None:
    """Refuse a file that will never be a meter's table, while the meter may still be writing it.

    It may have no rows yet, not even a head, and a last line without its end is left out.

    Raises:
        MeasureError: As `read_meter_table` says of what is already there.
    """
    text = _text(path)
    if kept := _kept(text[: text.rfind("\n") + 1]):
        _table(kept, path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MeasureError(f"cannot read the meter's file {path}: {why}") from None


def _kept(text: str) -> list[tuple[int, str]]:
    """The lines that are no comment, each with its number: the head, then rows."""
    lines = enumerate(text.splitlines(), 1)
    return [(number, line) for number, line in lines if line.strip() and line[0] != "#"]


def _table(kept: Sequence[tuple[int, str]], path: Path) -> MeterTable:
    head = kept[0][1]
    separator = next((sign for sign in "\t;," if sign in head), ",")
    cells = head.split(separator)
    columns = _columns(cells, path)
    times_s: list[float] = []
    values: list[float] = []
    for number, line in kept[1:]:
        row = _row(line.split(separator), columns, f"{path}, line {number}", len(cells))
        if times_s and row["time"] <= times_s[-1]:
            msg = (
                f"{path}, line {number}: time goes from {times_s[-1]:.6f} s to"
                f" {row['time']:.6f} s: give each row a later time than the row before"
            )
            raise MeasureError(msg)
        times_s.append(row["time"])
        values.append(_value(row))
    kind: Kind = "energy" if "energy" in columns else "power"
    return MeterTable(times_s=tuple(times_s), values=tuple(values), kind=kind)


def write_meter_table(path: str | Path, trace: Trace) -> None:
    """Write a trace as a meter's table, for a `Replay` or a program of your own.

    Raises:
        StorageError: The file cannot be written.
    """
    rows = zip(trace.times_s, trace.energy_j, strict=True)
    lines = [f"{time_s:.7f},{energy_j:.9g}" for time_s, energy_j in rows]
    write_atomic(path, "\n".join(["timestamp_s,energy_j", *lines]) + "\n")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    index: int
    factor: float
    title: str


def _columns(cells: Sequence[str], path: Path) -> dict[str, _Column]:
    """Quantity → where it stands and what it is multiplied by."""
    found: dict[str, _Column] = {}
    for index, cell in enumerate(cells):
        title = cell.strip().strip('"').strip()
        match = _HEAD.fullmatch(title.lower())
        quantity = _NAMES.get(match[1]) if match else None
        if match is None or quantity is None:
            continue
        unit = (match[2] or match[3] or "").replace("µ", "u").replace("μ", "u")
        if unit not in _UNITS[quantity]:
            known = ", ".join(_UNITS[quantity])
            msg = f"{path}: column {title!r} states no unit of {quantity}: write one of {known}"
            raise MeasureError(msg)
        if quantity in found:
            msg = f"{path}: {found[quantity].title!r} and {title!r} are both {quantity}: keep one"
            raise MeasureError(msg)
        found[quantity] = _Column(index=index, factor=_UNITS[quantity][unit], title=title)
    if "time" not in found or not (
        "energy" in found or "power" in found or {"voltage", "current"} <= found.keys()
    ):
        msg = (
            f"{path} has the columns {', '.join(cell.strip() for cell in cells)}: it needs a"
            " timestamp and power, energy, or voltage and current, each with its unit:"
            " timestamp_s,power_w"
        )
        raise MeasureError(msg)
    return found


def _row(
    cells: Sequence[str], columns: Mapping[str, _Column], where: str, width: int
) -> dict[str, float]:
    if len(cells) < width:
        msg = f"{where} has {len(cells)} of {width} columns: was the file cut off there?"
        raise MeasureError(msg)
    row: dict[str, float] = {}
    for quantity, column in columns.items():
        text = cells[column.index].strip().strip('"')
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            msg = f"{where}: {column.title!r} is {text[:40]!r}, not a number: mend or drop the row"
            raise MeasureError(msg)
        if value < 0 and quantity != "time":
            msg = (
                f"{where}: {column.title!r} is {text[:40]}: a consumer's is not negative;"
                " turn the meter's leads round or take out its offset"
            )
            raise MeasureError(msg)
        row[quantity] = value * column.factor
    return row


def _value(row: Mapping[str, float]) -> float:
    if "energy" in row:
        return row["energy"]
    return row["power"] if "power" in row else row["voltage"] * row["current"]
