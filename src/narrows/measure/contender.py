"""Contender: one thing that is measured, and the clock it is measured by.

A contender runs its calls one after another and gives back the wall and the CPU time of each. It
lives in this process (`CallableContender`) or in one of its own (`narrows.measure.workers`), which
can be started afresh: where a process happens to lie in memory is worth a few per cent, so one
process is one sample of that, however long it runs.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

Run = Callable[[], object]
CallTimes = tuple[tuple[float, ...], tuple[float, ...]]


class Clock(ABC):
    """Time, and a way to let it pass; tests give one of their own."""

    @abstractmethod
    def wall_ns(self) -> int:
        """Monotonic nanoseconds."""

    @abstractmethod
    def cpu_ns(self) -> int:
        """Nanoseconds of processor time of this process, all threads together."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Wait."""


@final
class SystemClock(Clock):
    """The clocks of the operating system."""

    def wall_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """Nanoseconds of processor time of this process, all threads together."""
        return time.process_time_ns()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Consecutive calls of one contender.

    Args:
        wall_s: Wall time of each call.
        cpu_s: Processor time of each call, all threads of its process together.
        started_s: Seconds since the session began.
        process: Which process made the calls, counted from zero; a respawn starts the next.
        contended: Whether something else held the processor.
        reasons: What showed it: "wall/CPU 1.4", "run queue 3", "steal 2 %".
    """

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    started_s: float = 0.0
    process: int = 0
    contended: bool = False
    reasons: tuple[str, ...] = ()


class Contender(ABC):
    """One thing that is measured.

    Args:
        name: What it is called in tables.
        threads: Threads it may use.
    """

    name: str
    threads: int
    own_process: ClassVar[bool] = True  # whether `respawn` starts a fresh one

    @abstractmethod
    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        """Wall and CPU times in seconds of consecutive calls.

        Args:
            min_calls: At least so many calls,
            seconds: that last at least so long together.
        """

    @abstractmethod
    def respawn(self) -> None:
        """Go on in a fresh process, where there is one; in this process do nothing."""

    @abstractmethod
    def close(self) -> None:
        """End what was started; to close twice is allowed."""


@final
class CallableContender(Contender):
    """A callable of this process.

    Args:
        name: What it is called in tables.
        run: Called with nothing; what it gives back is dropped.
        threads: Threads it may use.
        clock: Where time comes from.

    Example:
        >>> contender = CallableContender("sum", lambda: sum(range(1000)))
        >>> wall_s, cpu_s = contender.call(min_calls=3, seconds=0.0)
        >>> len(wall_s), len(cpu_s), min(wall_s) > 0
        (3, 3, True)
    """

    own_process: ClassVar[bool] = False

    def __init__(self, name: str, run: Run, threads: int = 1, clock: Clock | None = None) -> None:
        self.name = name
        self.threads = threads
        self._run = run
        self._clock = clock or SystemClock()

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        """Wall and CPU times in seconds of consecutive calls."""
        return timed_calls(self._run, min_calls=min_calls, seconds=seconds, clock=self._clock)

    def respawn(self) -> None:
        """Nothing: this process goes on."""

    def close(self) -> None:
        """Nothing: there is nothing to end."""


def timed_calls(run: Run, *, min_calls: int, seconds: float, clock: Clock) -> CallTimes:
    """Call until there are `min_calls` and `seconds` have passed; time each call by both clocks.

    The wall readings lie inside the CPU readings: reading processor time is the slower of the two
    and does not enter the wall time.

    Returns:
        Wall times and CPU times in seconds, one of each for every call.
    """
    wall_ns: list[int] = []
    cpu_ns: list[int] = []
    read_wall, read_cpu = clock.wall_ns, clock.cpu_ns
    until_ns = read_wall() + int(seconds * 1e9)
    while True:
        cpu_before, before = read_cpu(), read_wall()
        run()
        after, cpu_after = read_wall(), read_cpu()
        wall_ns.append(after - before)
        cpu_ns.append(cpu_after - cpu_before)
        if after >= until_ns and len(wall_ns) >= min_calls:
            break
    return tuple(value / 1e9 for value in wall_ns), tuple(value / 1e9 for value in cpu_ns)
