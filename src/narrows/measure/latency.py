"""Latency of anything that can be called: in rounds at random times, contenders interleaved.

    warm up | pause | B A C | pause | C B A | respawn, warm up | pause | A C B | ... | look

Wall and CPU time are taken of every call. Where something else held the processor the round is
marked as contended, with what showed it, and no winner is called from wall times. Two contenders
are compared by their ratio inside each round. `narrows.measure.sampling` has the rounds,
`narrows.measure.order_statistics` the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from narrows.errors import MeasureError
from narrows.measure.contender import CallableContender, Clock, Contender, Round, Run, SystemClock
from narrows.measure.environment import Environment, environment
from narrows.measure.paper_rule import TARGET, call_until_mean_is_narrow
from narrows.measure.record import Measurement, check_comparable
from narrows.measure.sampling import Taken, take_rounds
from narrows.measure.schedule import Rule as Rule
from narrows.measure.schedule import Schedule as Schedule
from narrows.measure.warm_up import warm_up

Verdict = Literal["faster", "slower", "not told apart"]
Progress = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Contenders measured in the same rounds.

    Args:
        measurements: One for each contender, in the order they were given.
    """

    measurements: Mapping[str, Measurement]

    def ratio(self, name: str, base: str, *, cpu: bool | None = None) -> Measurement:
        """Time of one contender over another's, round by round.

        Args:
            name: The contender above the fraction line.
            base: The one below.
            cpu: Compare CPU time, which other load hardly moves; False: wall time; None: CPU time
                of one thread where the wall time of either was contended, else wall time.

        Raises:
            MeasureError: No such contender, or they were not measured in the same rounds.
        """
        first, second = self._found(name), self._found(base)
        check_comparable(first, second)
        if cpu is None:
            cpu = (first.contended or second.contended) and first.environment.threads == 1
        above, below = (first.cpu, second.cpu) if cpu else (first, second)
        if len(above.round_medians) != len(below.round_medians):
            msg = (
                f"cannot divide {len(above.round_medians)} rounds of {name!r} by"
                f" {len(below.round_medians)} of {base!r}:"
                ' measure them in one session, by rule "rounds"'
            )
            raise MeasureError(msg)
        pairs = zip(above.round_medians, below.round_medians, strict=True)
        return Measurement(
            name=f"{above.name} / {below.name}",
            unit="1",
            samples=tuple(a / b for a, b in pairs),
            environment=above.environment,
            round_processes=above.round_processes,
            contended_rounds=tuple(
                not cpu and (a or b)
                for a, b in zip(first.contended_rounds, second.contended_rounds, strict=True)
            ),
        )

    def verdict(self, name: str, base: str, *, cpu: bool | None = None) -> Verdict:
        """Whether `name` beats `base`: only where the interval of their ratio excludes one.

        Contended wall times never make a winner, nor do fewer than five rounds.

        Args:
            name: The contender that may be faster.
            base: The other.
            cpu: As in `ratio`.
        """
        found = self.ratio(name, base, cpu=cpu)
        low, high = found.interval
        if not found.telling or low <= 1.0 <= high:
            return "not told apart"
        return "faster" if high < 1.0 else "slower"

    def _found(self, name: str) -> Measurement:
        if name not in self.measurements:
            known = ", ".join(self.measurements)
            msg = f"no contender {name!r}: there are {known}"
            raise MeasureError(msg)
        return self.measurements[name]


def latency(
    run: Run | Contender,
    *,
    schedule: Schedule | None = None,
    clock: Clock | None = None,
    root: Path = Path("/"),
    progress: Progress | None = None,
) -> Measurement:
    """Measure one callable or contender.

    Args:
        run: What is called.
        schedule: How long and how often.
        clock: Where time comes from.
        root: Where /proc is read.
        progress: Called with the rounds done and the rounds to do.

    Returns:
        Wall times in seconds as `samples`, CPU times as `.cpu`.

    Example:
        >>> quick = Schedule(rounds=6, round_s=0.001, session_s=0, target=None)
        >>> record = latency(lambda: sum(range(1000)), schedule=quick)
        >>> record.unit, len(record.round_sizes), record.median > 0
        ('s', 6, True)
    """
    runs = {"latency_s": run}
    found = compare(runs, schedule=schedule, clock=clock, root=root, progress=progress)
    return found.measurements["latency_s"]


def compare(
    runs: Mapping[str, Run | Contender],
    *,
    schedule: Schedule | None = None,
    clock: Clock | None = None,
    root: Path = Path("/"),
    progress: Progress | None = None,
) -> Comparison:
    """Measure contenders interleaved, in a new random order every round.

    Args:
        runs: Name → callable of this process, or a contender; contenders stay open.
        schedule: How long and how often.
        clock: Where time comes from.
        root: Where /proc is read.
        progress: Called with the rounds done and the rounds to do before the next look.

    Raises:
        MeasureError: There is no contender, or one has other threads than the schedule.
    """
    if not runs:
        msg = "cannot compare nothing: give at least one callable"
        raise MeasureError(msg)
    schedule, clock = schedule or Schedule(), clock or SystemClock()
    here = environment(threads=schedule.threads)
    contenders = {
        name: _contender(name, run, schedule.threads, clock) for name, run in runs.items()
    }
    if schedule.rule == "paper":
        found = {n: _by_paper(n, c, schedule, clock, here) for n, c in contenders.items()}
        return Comparison(measurements=found)
    taken = take_rounds(contenders, schedule=schedule, clock=clock, root=root, progress=progress)
    return Comparison(
        measurements={name: _record(name, taken, schedule, here) for name in contenders}
    )


def _contender(name: str, run: Run | Contender, threads: int, clock: Clock) -> Contender:
    if not isinstance(run, Contender):
        return CallableContender(name, run, threads, clock)
    if run.threads != threads:
        msg = (
            f"contender {name!r} has {run.threads} threads, the schedule {threads}:"
            " give both the same number"
        )
        raise MeasureError(msg)
    return run


def _by_paper(
    name: str, contender: Contender, schedule: Schedule, clock: Clock, here: Environment
) -> Measurement:
    warm = warm_up(contender, clock)
    began_ns = clock.wall_ns()
    (wall_s, cpu_s), reached = call_until_mean_is_narrow(contender, limit_s=schedule.limit_s)
    return Measurement(
        name=name,
        unit="s",
        samples=wall_s,
        environment=here,
        cpu_samples=cpu_s,
        settled=(warm.settled,),
        session_s=(clock.wall_ns() - began_ns) / 1e9,
        target=TARGET,
        reached=reached,
        rule="paper",
    )


def _record(name: str, taken: Taken, schedule: Schedule, here: Environment) -> Measurement:
    rounds: tuple[Round, ...] = taken.rounds[name]
    return Measurement(
        name=name,
        unit="s",
        samples=tuple(value for part in rounds for value in part.wall_s),
        environment=here,
        round_sizes=tuple(len(part.wall_s) for part in rounds),
        cpu_samples=tuple(value for part in rounds for value in part.cpu_s),
        contended_rounds=tuple(part.contended for part in rounds),
        round_reasons=tuple(part.reasons for part in rounds),
        round_starts_s=tuple(part.started_s for part in rounds),
        round_processes=tuple(part.process for part in rounds),
        settled=taken.settled[name],
        session_s=taken.span_s,
        target=schedule.target,
        reached=taken.reached,
    )
