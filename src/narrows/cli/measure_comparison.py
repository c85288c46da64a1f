"""Two records of narrows measure side by side, as a person reads them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.cli.columns import print_columns
from narrows.cli.inspect_files import make_console, plain
from narrows.config import read_json
from narrows.errors import ConfigError
from narrows.units import bytes_text, joules_text, macs_text, percent_text, seconds_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from narrows.measure.compare_records import RecordComparison, Row
    from narrows.measure.model_record import ModelRecord


def read_record(path: Path) -> ModelRecord:
    """The record that `narrows measure MODEL --out FILE` wrote.

    Raises:
        InputError: There is no such file.
        ConfigError: It is something else; the message says what.
    """
    from narrows.measure.model_record import ModelRecord

    try:
        return read_json(path, ModelRecord)
    except ConfigError:
        other = _other_kind(path)
        if other is None:
            raise
        msg = (
            f"{path} is {other}, not a measurement of a model: give --compare two files that"
            " `narrows measure MODEL --out FILE` wrote"
        )
        raise ConfigError(msg) from None


def _other_kind(path: Path) -> str | None:
    """What a JSON file holds by its keys; None where that is a record of a model after all."""
    from narrows.measure.model_record import ModelRecord
    from narrows.plan.profile import Device
    from narrows.plan.record import PlanRecord
    from narrows.runtime.manifest import Manifest
    from narrows.study.settings import StudySettings

    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    keys = data.keys() if isinstance(data, dict) else set()
    if len(_names(ModelRecord) & keys) > len(_names(ModelRecord)) / 2:
        return None
    kinds = {
        "a plan": PlanRecord,
        "the profile of a machine": Device,
        "the manifest of a bundle": Manifest,
        "the settings of a study": StudySettings,
    }
    return next((text for text, kind in kinds.items() if _names(kind) <= keys), "some other JSON")


def _names(kind: type[DataclassInstance]) -> set[str]:
    return {field.name for field in fields(kind)}


def print_comparison(found: RecordComparison) -> None:
    """Two records side by side, on standard output."""
    console = make_console()
    console.print(f"A  [bold]{plain(found.first)}[/]\nB  [bold]{plain(found.second)}[/]")
    rows = [["", "A", "B", "A / B", "95 %", "A is"]]
    for row in found.rows:
        share = "–" if row.ratio is None else f"{row.ratio:.3f}"
        if row.difference is not None:
            share = f"{100 * row.difference:+.1f} points"
        told = f"{row.told} ({row.remark})" if row.remark else row.told
        rows.append([row.what, _value(row, row.first), _value(row, row.second), share])
        rows[-1] += [_row_interval(row), told]
    print_columns(console, rows)
    if found.differences:
        console.print("\n[bold]careful[/]: measured in different environments")
        for difference in found.differences:
            console.print(f"  [yellow]{plain(difference)}[/]")


def _value(row: Row, value: float) -> str:
    texts = {"s": seconds_text, "B": bytes_text, "J": joules_text, "1": percent_text}
    return texts.get(row.unit, macs_text)(value)


def _row_interval(row: Row) -> str:
    if row.interval is None:
        return "exact"
    low, high = row.interval
    if row.difference is not None:
        return f"{100 * low:+.1f} to {100 * high:+.1f}"
    return f"{low:.3f} to {high:.3f}"
