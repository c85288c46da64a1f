"""Rounds of all contenders at random times, until every interval is narrow enough.

    warm up | pause | B A C | pause | C B A | respawn, warm up | pause | A C B | ... | look

Time is thought of as slots as long as one round; a toss of a coin decides for each slot whether
it is measured, however long a round really takes: were the pauses random instead, slow spells
would have longer rounds and so fewer of them. So every moment of the session has the same chance
to be seen, whatever the machine does in it, and the rounds are a random sample of the session:
this, not independence of the calls, is what makes the interval honest. Evenly spaced rounds would
follow a drift too well (their interval is right more often than it says), rounds back to back see
one spell only. At most a seventh of the session is measured of each contender: what is measured
wholly is no sample.

Few looks are taken, each after at least a quarter more rounds: to look after every round and stop
at the first narrow interval would prefer those that are narrow by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from narrows.measure.contender import Clock, Contender, Round
from narrows.measure.contention import idle_gate, load_after, read_load, signs
from narrows.measure.order_statistics import median_of_rounds
from narrows.measure.process_level import interval_of_both
from narrows.measure.schedule import Schedule
from narrows.measure.warm_up import WarmUp, warm_up

Progress = Callable[[int, int], None]

_SHARE = 0.15
_LEAST_GROWTH = 1.25
_MOST_GROWTH = 2.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a session took.

    Args:
        rounds: Of each contender, by name.
        settled: Of each contender: whether each of its warm-ups settled.
        span_s: From the end of the first warm-up to the end of the last round.
        reached: Whether every interval is within the target; None where there was none.
    """

    rounds: Mapping[str, tuple[Round, ...]]
    settled: Mapping[str, tuple[bool, ...]]
    span_s: float
    reached: bool | None


def take_rounds(
    contenders: Mapping[str, Contender],
    *,
    schedule: Schedule,
    clock: Clock,
    root: Path,
    progress: Progress | None = None,
) -> Taken:
    """Measure contenders in interleaved rounds.

    Args:
        contenders: By name; they stay open.
        schedule: How long and how often.
        clock: Where time comes from.
        root: Where /proc is read.
        progress: Called with the rounds done and the rounds to do before the next look.
    """
    session = _Session(contenders, schedule, clock, root)
    look, reached = schedule.rounds, False
    while True:
        session.take()
        if progress:
            progress(session.done, max(look, session.done))
        enough = session.done >= look and session.span_s >= schedule.session_s
        if enough and schedule.target is not None:
            wide = session.half_width / schedule.target
            reached = wide <= 1
            growth = min(_MOST_GROWTH, max(_LEAST_GROWTH, wide**2))
            look = max(look, math.ceil(session.done * growth))
        if (enough and (reached or schedule.target is None)) or session.over:
            break
        if schedule.respawns and session.done % session.rounds_a_process == 0:
            session.respawn()
    return session.taken(reached if schedule.target is not None else None)


class _Session:
    def __init__(
        self, contenders: Mapping[str, Contender], schedule: Schedule, clock: Clock, root: Path
    ) -> None:
        self._contenders = contenders
        self._schedule = schedule
        self._clock = clock
        self._root = root
        self._rounds: dict[str, list[Round]] = {name: [] for name in contenders}
        self._settled: dict[str, list[bool]] = {name: [] for name in contenders}
        self._random = np.random.default_rng(schedule.seed)
        parts = schedule.respawns + 1
        self.rounds_a_process = math.ceil(schedule.rounds / parts)
        self.done = 0
        warm = [self._warm_up(name) for name in contenders]
        self._slot_s, self._chance = _slots(warm, schedule)
        self._began_ns = clock.wall_ns()
        self._due_s = -self._slot_s

    @property
    def span_s(self) -> float:
        """Seconds since the first warm-up ended."""
        return (self._clock.wall_ns() - self._began_ns) / 1e9

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.span_s >= self._schedule.limit_s

    @property
    def half_width(self) -> float:
        """Of the widest interval of wall times, as a share of its median."""
        widths = []
        for rounds in self._rounds.values():
            walls = [part.wall_s for part in rounds]
            low, high = interval_of_both(walls, [part.process for part in rounds])
            widths.append((high - low) / 2 / max(1e-12, median_of_rounds(walls)))
        return max(widths)

    def take(self) -> None:
        """Pause, then one round of every contender in random order."""
        self._pause()
        for name in self._random.permutation(list(self._contenders)):
            self._rounds[str(name)].append(self._round(str(name)))
        self.done += 1

    def respawn(self) -> None:
        """Go on in fresh processes, where contenders have some, in random order.

        Which of two equal processes starts first was worth a per cent of time for as long as they
        lived.
        """
        fresh = [name for name, one in self._contenders.items() if one.own_process]
        if not fresh:
            return
        for name in self._random.permutation(fresh):
            self._contenders[str(name)].respawn()
            self._warm_up(str(name))
        self._due_s = max(self._due_s, self.span_s)

    def taken(self, reached: bool | None) -> Taken:
        """All of it."""
        return Taken(
            rounds={name: tuple(rounds) for name, rounds in self._rounds.items()},
            settled={name: tuple(found) for name, found in self._settled.items()},
            span_s=self.span_s,
            reached=reached,
        )

    def _warm_up(self, name: str) -> WarmUp:
        warm = warm_up(self._contenders[name], self._clock)
        self._settled[name].append(warm.settled)
        return warm

    def _pause(self) -> None:
        """Wait for the next slot that is measured; what runs now does not move it."""
        if self._chance < 1.0:
            self._due_s += self._slot_s * float(self._random.geometric(self._chance))
            self._clock.sleep(max(0.0, self._due_s - self.span_s))

    def _round(self, name: str) -> Round:
        contender, schedule = self._contenders[name], self._schedule
        found = idle_gate(self._root, self._clock) if contender.threads > 1 else ()
        before = read_load(self._root)
        started_s = self.span_s
        # The first call fills the caches that the pause and the others emptied: it does not count.
        wall_s, cpu_s = contender.call(min_calls=schedule.min_calls + 1, seconds=schedule.round_s)
        counted = wall_s[1:], cpu_s[1:]
        after = load_after(self._root, self._clock, threads=contender.threads)
        found += signs(counted, before, after, threads=contender.threads)
        return Round(
            wall_s=counted[0],
            cpu_s=counted[1],
            started_s=started_s,
            process=len(self._settled[name]) - 1,
            contended=bool(found),
            reasons=found,
        )


def _slots(warm: list[WarmUp], schedule: Schedule) -> tuple[float, float]:
    """Length of a slot in seconds, and the chance that it is measured."""
    rounds_s = [max(schedule.round_s, (schedule.min_calls + 1) * one.call_s) for one in warm]
    slot_s = sum(rounds_s)
    if not schedule.session_s:
        return slot_s, 1.0
    apart_s = max(schedule.session_s / schedule.rounds, max(rounds_s) / _SHARE)
    apart_s = min(apart_s, schedule.limit_s / schedule.rounds)
    return slot_s, min(1.0, slot_s / apart_s)
