"""Tables that are never cut off, however narrow the terminal or the pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from narrows.cli.inspect_files import plain

if TYPE_CHECKING:
    from rich.console import Console


def print_columns(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Columns after a blank line, the first to the left, the others to the right.

    Args:
        console: Where.
        rows: Of as many cells each; the first is the head.
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    console.print()
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        line = plain("  ".join(cells).rstrip())
        console.print(line if number else f"[bold]{line}[/]")
