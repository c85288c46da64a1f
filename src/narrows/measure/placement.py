"""Placement: contenders of one thread share one core, so that cores are not what is compared.

The scheduler leaves a process on the core where it ran last. Two equal processes then keep to two
cores for a whole session, and where these differ (by what a neighbour of the virtual machine does,
by their kind, by their load) so do the processes: ratios of equal contenders scattered by 4.6 %
from session to session, and by 0.7 % on one core. Contenders take turns, so one core is enough.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import final


@final
class Placement:
    """Puts processes on one core, and back.

    Args:
        root: Where /proc is read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._allowed: dict[int, set[int]] = {}

    def share_core(self, pids: Sequence[int]) -> None:
        """Let the first thread of every process run on the core where the first one ran last.

        That is a core the scheduler would choose. Where the system cannot tell or do it, nothing
        happens.
        """
        core = last_core(pids[0], self._root)
        if core is None or not hasattr(os, "sched_setaffinity"):
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                allowed = os.sched_getaffinity(pid)
                os.sched_setaffinity(pid, {core})
                self._allowed.setdefault(pid, allowed)

    def undo(self) -> None:
        """Let them run where they were allowed before."""
        for pid, allowed in self._allowed.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, allowed)
        self._allowed.clear()


def last_core(pid: int, root: Path = Path("/")) -> int | None:
    """The core a process ran on last, or None where the system does not tell.

    Example:
        >>> last_core(0, Path("/nowhere")) is None
        True
    """
    try:
        told = (root / f"proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # Field 39, counted from the third: the second is a name, in brackets, with anything in it.
        return int(told.rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None
