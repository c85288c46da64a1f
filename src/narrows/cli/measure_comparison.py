"""Two records of narrows measure side by side, as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narrows.cli.columns import print_columns
from narrows.cli.inspect_files import make_console, plain
from narrows.units import bytes_text, joules_text, macs_text, percent_text, seconds_text

if TYPE_CHECKING:
    from narrows.measure.compare_records import RecordComparison, Row


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
