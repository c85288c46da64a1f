"""Latency of anything callable: warmed up, in rounds spread over a session, contenders interleaved.

    warm-up until two windows agree
    round 1: B A C   round 2: C B A   ...   (random order; pauses spread the rounds over session_s)

Wall and CPU time are taken of every call. Where one thread's wall time is over 1.1 × its CPU time
the round is marked as contended: something else held the processor, and only CPU time can be
trusted. Two contenders are compared by their ratio inside each round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from narrows.errors import MeasureError
from narrows.measure.environment import Environment, environment
from narrows.measure.record import Measurement, check_comparable

Run = Callable[[], object]

_WARM_UP_LIMIT_S = 5.0
_WARM_UP_AGREEMENT = 0.02
_WARM_UP_WINDOW = 5
_CONTENDED = 1.1


class Clock(Protocol):
    """Time, and a way to let it pass; tests give one of their own."""

    def wall_ns(self) -> int:
        """Monotonic nanoseconds."""

    def cpu_ns(self) -> int:
        """Nanoseconds of processor time of this process, all threads together."""

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
class Schedule:
    """How long and how often.

    Args:
        rounds: Rounds for each contender; ten give an interval of 97.9 %, six the least with 95 %.
        round_s: A round of a contender lasts at least this long,
        min_calls: and has at least so many calls.
        session_s: The rounds are spread over at least this long; back to back they would agree
            with each other more than with the truth.
        threads: Threads the contenders use; more than one are judged contended by wall time never.
        seed: Of the order inside each round.
    """

    rounds: int = 10
    round_s: float = 0.1
    min_calls: int = 5
    session_s: float = 3.0
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.min_calls < 1:
            msg = (
                f"cannot measure {self.rounds} rounds of {self.min_calls} calls:"
                " ask for at least one of each (ten rounds for a 95 % interval)"
            )
            raise MeasureError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Contenders measured in the same rounds.

    Args:
        measurements: One for each contender, in the order they were given.
    """

    measurements: Mapping[str, Measurement]

    def ratio(self, name: str, base: str, *, cpu: bool = True) -> Measurement:
        """Time of one contender over another's, round by round.

        Args:
            name: The contender above the fraction line.
            base: The one below.
            cpu: Compare CPU time, which other load hardly moves; else wall time.

        Raises:
            MeasureError: No such contender.
        """
        above, below = self._times(name, cpu), self._times(base, cpu)
        check_comparable(above, below)
        pairs = zip(above.round_medians, below.round_medians, strict=True)
        return Measurement(
            name=f"{name} / {base}",
            unit="1",
            samples=tuple(a / b for a, b in pairs),
            environment=above.environment,
        )

    def faster(self, name: str, base: str) -> bool:
        """Whether `name` beats `base`: the interval of their ratio lies below one."""
        return self.ratio(name, base).interval[1] < 1.0

    def _times(self, name: str, cpu: bool) -> Measurement:
        if name not in self.measurements:
            known = ", ".join(self.measurements)
            msg = f"no contender {name!r}: there are {known}"
            raise MeasureError(msg)
        found = self.measurements[name]
        return found.cpu if cpu else found


def latency(
    run: Run,
    *,
    rounds: int = 10,
    round_s: float = 0.1,
    min_calls: int = 5,
    session_s: float = 3.0,
    threads: int = 1,
    clock: Clock | None = None,
) -> Measurement:
    """Measure one callable; see `Schedule` for the arguments.

    Returns:
        Wall times in seconds as `samples`, CPU times as `.cpu`.

    Example:
        >>> record = latency(lambda: sum(range(1000)), rounds=6, round_s=0.001, session_s=0)
        >>> record.unit, len(record.round_sizes), record.median > 0
        ('s', 6, True)
    """
    schedule = Schedule(
        rounds=rounds, round_s=round_s, min_calls=min_calls, session_s=session_s, threads=threads
    )
    return compare({"latency_s": run}, schedule=schedule, clock=clock).measurements["latency_s"]


def compare(
    runs: Mapping[str, Run],
    *,
    schedule: Schedule | None = None,
    clock: Clock | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure contenders interleaved, in a new random order every round.

    Args:
        runs: Name → callable.
        schedule: How long and how often.
        clock: Where time comes from.
        progress: Called with the rounds done and the rounds to do.

    Raises:
        MeasureError: There is no contender.
    """
    if not runs:
        msg = "cannot compare nothing: give at least one callable"
        raise MeasureError(msg)
    schedule = schedule or Schedule()
    clock = clock or SystemClock()
    here = environment(threads=schedule.threads)
    for run in runs.values():
        _warm_up(run, clock)
    taken: dict[str, list[_Round]] = {name: [] for name in runs}
    order = np.random.default_rng(schedule.seed)
    started_ns = clock.wall_ns()
    for index in range(schedule.rounds):
        due_s = schedule.session_s * index / max(1, schedule.rounds - 1)
        clock.sleep(max(0.0, due_s - (clock.wall_ns() - started_ns) / 1e9))
        for name in order.permutation(list(runs)):
            taken[str(name)].append(_round(runs[str(name)], schedule, clock))
        if progress:
            progress(index + 1, schedule.rounds)
    return Comparison(
        measurements={name: _record(name, rounds, here) for name, rounds in taken.items()}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    contended: bool


def _round(run: Run, schedule: Schedule, clock: Clock) -> _Round:
    wall_ns: list[int] = []
    cpu_ns: list[int] = []
    started_ns = clock.wall_ns()
    while True:
        cpu_before, before = clock.cpu_ns(), clock.wall_ns()
        run()
        after, cpu_after = clock.wall_ns(), clock.cpu_ns()
        wall_ns.append(after - before)
        cpu_ns.append(cpu_after - cpu_before)
        if len(wall_ns) >= schedule.min_calls and after - started_ns >= schedule.round_s * 1e9:
            break
    one_thread = schedule.threads == 1
    return _Round(
        wall_s=tuple(value / 1e9 for value in wall_ns),
        cpu_s=tuple(value / 1e9 for value in cpu_ns),
        contended=one_thread and sum(wall_ns) > _CONTENDED * max(1, sum(cpu_ns)),
    )


def _warm_up(run: Run, clock: Clock) -> None:
    """Call until the medians of two windows agree to 2 %, or five seconds have passed."""
    started_ns = clock.wall_ns()
    last_s = float("inf")
    while True:
        window = []
        for _ in range(_WARM_UP_WINDOW):
            before = clock.cpu_ns()
            run()
            window.append((clock.cpu_ns() - before) / 1e9)
        median_s = float(np.median(window))
        if abs(median_s - last_s) <= _WARM_UP_AGREEMENT * median_s:
            return
        if clock.wall_ns() - started_ns > _WARM_UP_LIMIT_S * 1e9:
            return
        last_s = median_s


def _record(name: str, rounds: list[_Round], here: Environment) -> Measurement:
    return Measurement(
        name=name,
        unit="s",
        samples=tuple(value for part in rounds for value in part.wall_s),
        environment=here,
        round_sizes=tuple(len(part.wall_s) for part in rounds),
        cpu_samples=tuple(value for part in rounds for value in part.cpu_s),
        contended_rounds=tuple(part.contended for part in rounds),
    )
