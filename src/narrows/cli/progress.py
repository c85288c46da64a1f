"""A bar on standard error that shows what is being done; none where nobody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Note: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, the steps done and to do."""


@contextmanager
def progress_bar() -> Iterator[Note]:
    """A bar on standard error; gives a function of (what, done, total), 0 where nobody knows."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[share]}"))
    console = Console(stderr=True)
    shown = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with shown as bar:
        row = bar.add_task("", total=None, share="")

        def note(what: str, done: int, total: int) -> None:
            share = f"{done}/{total}" if total else ""
            bar.update(row, description=what, completed=done, total=total or None, share=share)

        yield note
