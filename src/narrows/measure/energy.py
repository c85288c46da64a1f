"""Energy of one inference: idle, load and idle again, several times over.

    P │        ·┌──────────┐   ·            total   = E(load)
      │        ·│   load   └╮  ·            dynamic = E(load, margins) - P_idle · their length
      │  idle  ·│           ╰──· idle       P_idle  = the two idle means, joined by a line and
      └──────────────────────────────► t              read off at the middle of the load
           margin          margin

What comes in the margins belongs to the load: clocks and voltages go down only some time after the
work, a sensor that shows means shows them late, and a meter's clock may be some milliseconds off.
Each cycle has idle windows of its own, and a fresh process where the contender has one, so that
cycles are independent and the order statistics of their values an honest interval. The latency
comes from the same calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from narrows.errors import MeasureError
from narrows.measure.contender import Clock, Contender, Round, SystemClock
from narrows.measure.contention import Load, load_after, read_load, signs
from narrows.measure.energy_cycles import Span, energy_record
from narrows.measure.energy_record import EnergyCycle, EnergyRecord
from narrows.measure.sensors import NoEnergy, Recording, Sensor
from narrows.measure.warm_up import warm_up

__all__ = ["EnergyCycle", "EnergyRecord", "NoEnergy", "measure_energy"]

_LEAST_CYCLES = 5
_MARGIN_UPDATES = 5


def measure_energy(
    contender: Contender,
    sensor: Sensor | NoEnergy,
    *,
    cycles: int = 6,
    load_s: float = 10.0,
    idle_s: float = 10.0,
    margin_s: float = 0.5,
    min_updates: int = 100,
    clock: Clock | None = None,
    root: Path = Path("/"),
    progress: Callable[[int, int], None] | None = None,
) -> EnergyRecord | NoEnergy:
    """Measure the energy of one inference.

    Args:
        contender: What is measured.
        sensor: What reads the energy; where there is none, its reason is handed on.
        cycles: Loads, each between two idle windows: five at least; six are the fewest whose
            interval covers 95 %.
        load_s: A load window lasts at least this long,
        idle_s: an idle window so long,
        min_updates: and each of them so many updates of the sensor.
        margin_s: Pause before and after a load whose energy counts as the load's; five updates at
            least.
        clock: Where time comes from; a sensor that is polled needs the system's.
        root: Where /proc is read, for the signs of other load.
        progress: Called with the cycles done and the cycles to do.

    Returns:
        The record; `NoEnergy` where there is no sensor.

    Raises:
        MeasureError: The sensor has gone, stood still or told nonsense, or fewer than five cycles
            were asked for.
    """
    if isinstance(sensor, NoEnergy):
        return sensor
    if cycles < _LEAST_CYCLES or min(load_s, idle_s) <= 0 or margin_s < 0:
        msg = (
            f"cannot measure energy in {cycles} cycles of {load_s} s load and {idle_s} s idle:"
            f" ask for {_LEAST_CYCLES} cycles at least, and windows longer than nothing"
        )
        raise MeasureError(msg)
    clock = clock or SystemClock()
    settled = [warm_up(contender, clock).settled]
    recording = sensor.record(clock)
    try:
        update_s = recording.update_s or 0.0
        session = _Session(
            contender=contender,
            recording=recording,
            clock=clock,
            root=root,
            load_s=max(load_s, min_updates * update_s),
            idle_s=max(idle_s, min_updates * update_s),
            margin_s=max(margin_s, _MARGIN_UPDATES * update_s),
        )
        spans: list[Span] = []
        for index in range(cycles):
            if index and contender.own_process:
                contender.respawn()
                settled.append(warm_up(contender, clock).settled)
            spans.append(session.cycle(process=len(settled) - 1))
            if progress:
                progress(index + 1, cycles)
        clock.sleep(session.margin_s)  # so that the trace reaches over the last window
        trace = recording.stop()
    finally:
        recording.close()
    return energy_record(
        contender,
        sensor,
        trace,
        spans,
        margin_s=session.margin_s,
        min_updates=min_updates,
        settled=tuple(settled),
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    contender: Contender
    recording: Recording
    clock: Clock
    root: Path
    load_s: float
    idle_s: float
    margin_s: float

    def cycle(self, *, process: int) -> Span:
        self.clock.sleep(self.margin_s)
        before_s, idle_before = self._idle()
        self.clock.sleep(self.margin_s)
        load_s, calls = self._load(process)
        self.clock.sleep(self.margin_s)
        after_s, idle_after = self._idle()
        return Span(
            before_s=before_s,
            load_s=load_s,
            after_s=after_s,
            calls=calls,
            idle_shares=tuple(share for share in (idle_before, idle_after) if share is not None),
        )

    def _load(self, process: int) -> tuple[tuple[float, float], Round]:
        before, started_s = read_load(self.root), self._now_s()
        taken = self.contender.call(min_calls=1, seconds=self.load_s)
        ended_s, threads = self._now_s(), self.contender.threads
        after = load_after(self.root, self.clock, threads=threads)
        self.recording.check()
        found = signs(taken, before, after, threads=threads)
        calls = Round(
            wall_s=taken[0],
            cpu_s=taken[1],
            started_s=started_s,
            process=process,
            contended=bool(found),
            reasons=found,
        )
        return (started_s, ended_s), calls

    def _idle(self) -> tuple[tuple[float, float], float | None]:
        """When, and which share of the processors was idle, where the system tells."""
        before, started_s = read_load(self.root), self._now_s()
        self.clock.sleep(self.idle_s)
        ended_s, after = self._now_s(), read_load(self.root)
        self.recording.check()
        return (started_s, ended_s), _idle_share(before, after)

    def _now_s(self) -> float:
        return self.clock.wall_ns() / 1e9


def _idle_share(before: Load, after: Load) -> float | None:
    passed = after.total - before.total
    return (after.idle - before.idle) / passed if passed > 0 else None
