"""Where planning time goes, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import final

from narrows.plan.record import Stage

Watcher = Callable[[str, int, int], None]


@final
class Stages:
    """Times stages and tells a watcher of them.

    Args:
        watcher: Called with a stage's title, what is done of it, and what there is in all (0: not
            known).
    """

    def __init__(self, watcher: Watcher = lambda _title, _done, _total: None) -> None:
        self._watcher = watcher
        self._taken: list[Stage] = []

    @contextmanager
    def stage(self, title: str, total: int = 0) -> Iterator[Callable[[int], None]]:
        """Time what is inside; call what is given with every amount done."""
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            self._watcher(title, done, total)

        started_s = perf_counter()
        self._watcher(title, 0, total)
        yield advance
        self._taken.append(Stage(name=title, seconds=perf_counter() - started_s))

    @property
    def taken(self) -> tuple[Stage, ...]:
        """What is finished, in order."""
        return tuple(self._taken)
