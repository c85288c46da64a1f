"""Energy of one inference: idle, load and idle again, several times over.

    P │        ·┌──────────┐   ·            total   = E(load)
      │        ·│   load   └╮  ·            dynamic = E(load, margins) - P_idle · their length
      │  idle  ·│           ╰──· idle       P_idle  = the two idle means, joined by a line and
      └──────────────────────────────► t              read off at the middle of the load
           margin          margin

What comes in the margins belongs to the load: clocks and voltages go down only some time after the
work, a sensor that shows means shows them late, and a meter's clock may be some milliseconds off.
Each cycle has idle windows of its own, so that cycles are independent and the order statistics of
their values an honest interval. The latency comes from the same calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from narrows.errors import MeasureError
from narrows.measure.contender import Clock, Contender, SystemClock
from narrows.measure.energy_record import EnergyCycle, EnergyRecord
from narrows.measure.environment import environment
from narrows.measure.record import Measurement
from narrows.measure.sensors import NoEnergy, Recording, Sensor
from narrows.measure.sensors.trace import Trace

__all__ = ["EnergyCycle", "EnergyRecord", "NoEnergy", "measure_energy"]

_LEAST_CYCLES = 5
_WARM_UP_S = 1.0
_MARGIN_UPDATES = 5
_SEEN = 0.95
_TOO_MANY = 1.1
_BUSY = 0.95
_IDLE_MOVED = 0.1
_COSTLY = 0.1
_CONTENDED = 1.1


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
    contender.call(min_calls=1, seconds=_WARM_UP_S)
    recording = sensor.record(clock)
    try:
        update_s = recording.update_s or 0.0
        session = _Session(
            contender=contender,
            recording=recording,
            clock=clock,
            load_s=max(load_s, min_updates * update_s),
            idle_s=max(idle_s, min_updates * update_s),
            margin_s=max(margin_s, _MARGIN_UPDATES * update_s),
        )
        clock.sleep(session.margin_s)
        spans: list[_Span] = []
        for index in range(cycles):
            spans.append(session.cycle())
            if progress:
                progress(index + 1, cycles)
        clock.sleep(session.margin_s)  # so that the trace reaches over the last window
        trace = recording.stop()
    finally:
        recording.close()
    return _record(contender, sensor, trace, spans, session.margin_s, min_updates)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """When the windows of one cycle were, and the calls of its load."""

    before_s: tuple[float, float]
    load_s: tuple[float, float]
    after_s: tuple[float, float]
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    contender: Contender
    recording: Recording
    clock: Clock
    load_s: float
    idle_s: float
    margin_s: float

    def cycle(self) -> _Span:
        before_s = self._idle()
        self.clock.sleep(self.margin_s)
        started_s = self._now_s()
        wall_s, cpu_s = self.contender.call(min_calls=1, seconds=self.load_s)
        ended_s = self._now_s()
        self.recording.check()
        self.clock.sleep(self.margin_s)
        return _Span(
            before_s=before_s,
            load_s=(started_s, ended_s),
            after_s=self._idle(),
            wall_s=wall_s,
            cpu_s=cpu_s,
        )

    def _idle(self) -> tuple[float, float]:
        started_s = self._now_s()
        self.clock.sleep(self.idle_s)
        self.recording.check()
        return started_s, self._now_s()

    def _now_s(self) -> float:
        return self.clock.wall_ns() / 1e9


def _record(
    contender: Contender,
    sensor: Sensor,
    trace: Trace,
    spans: list[_Span],
    margin_s: float,
    min_updates: int,
) -> EnergyRecord:
    if trace.change_s == float("inf"):
        msg = (
            f"{sensor.title} ({', '.join(sensor.rails)}) showed the same value all the time, idle"
            " or not: it does not update; choose another sensor or other rails"
        )
        raise MeasureError(msg)
    found = tuple(_cycle(trace, span, margin_s) for span in spans)
    return EnergyRecord(
        sensor=sensor.title,
        rails=sensor.rails,
        update_s=trace.update_s,
        change_s=trace.change_s,
        margin_s=margin_s,
        sampler_cpu_share=trace.cpu_share,
        cycles=found,
        latency=_latency(contender, spans),
        warnings=tuple(_warnings(trace, found, min_updates)),
    )


def _cycle(trace: Trace, span: _Span, margin_s: float) -> EnergyCycle:
    windows = (span.before_s, span.load_s, span.after_s)
    before_w, after_w = (
        trace.between(*idle) / (idle[1] - idle[0]) for idle in (span.before_s, span.after_s)
    )
    start_s, end_s = span.load_s[0] - margin_s, span.load_s[1] + margin_s
    middles_s = tuple(sum(edges) / 2 for edges in (span.before_s, (start_s, end_s), span.after_s))
    share = (middles_s[1] - middles_s[0]) / (middles_s[2] - middles_s[0])
    idle_w = before_w + share * (after_w - before_w)
    return EnergyCycle(
        started_s=span.load_s[0] - trace.times_s[0],
        load_s=span.load_s[1] - span.load_s[0],
        busy_s=sum(span.wall_s),
        inferences=len(span.wall_s),
        total_j=trace.between(*span.load_s),
        dynamic_j=trace.between(start_s, end_s) - idle_w * (end_s - start_s),
        idle_before_w=before_w,
        idle_after_w=after_w,
        updates_seen=tuple(trace.updates(*window) for window in windows),
        updates_expected=tuple((end - start) / trace.update_s for start, end in windows),
    )


def _latency(contender: Contender, spans: list[_Span]) -> Measurement:
    """The calls of all loads, one round for each cycle."""
    one_thread = contender.threads == 1
    return Measurement(
        name="latency_s",
        unit="s",
        samples=tuple(value for span in spans for value in span.wall_s),
        environment=environment(threads=contender.threads),
        round_sizes=tuple(len(span.wall_s) for span in spans),
        cpu_samples=tuple(value for span in spans for value in span.cpu_s),
        contended_rounds=tuple(
            one_thread and sum(span.wall_s) > _CONTENDED * sum(span.cpu_s) for span in spans
        ),
    )


def _warnings(trace: Trace, cycles: tuple[EnergyCycle, ...], min_updates: int) -> list[str]:
    """What a reader must know before using the figures."""
    shares = [
        seen / expected
        for cycle in cycles
        for seen, expected in zip(cycle.updates_seen, cycle.updates_expected, strict=True)
    ]
    found: list[str] = []
    if min(shares) < _SEEN:
        poor = sum(share < _SEEN for share in shares)
        found.append(
            f"{poor} of {len(shares)} windows saw less than 95 % of the sensor's updates, the worst"
            f" {min(shares):.0%}: the machine was too busy to read it in time"
        )
    if max(shares) > _TOO_MANY:
        found.append(
            f"the sensor updated more often ({max(shares):.0%}) than every {trace.update_s:.3g} s,"
            " the period it states"
        )
    fewest = min(cycle.updates_seen[1] for cycle in cycles)
    if fewest < min_updates:
        found.append(f"a load window saw {fewest} updates, fewer than {min_updates}: load longer")
    busy = min(cycle.busy_s / cycle.load_s for cycle in cycles)
    if busy < _BUSY:
        found.append(f"only {busy:.0%} of a load window was spent in inferences")
    idle = [cycle for cycle in cycles if cycle.idle_before_w > 0]
    moved = max((abs(c.idle_after_w / c.idle_before_w - 1) for c in idle), default=0.0)
    if moved > _IDLE_MOVED:
        found.append(
            f"idle power moved by {moved:.0%} within a cycle: something else ran, or the machine"
            " was still cooling down"
        )
    if min(cycle.dynamic_j for cycle in cycles) <= 0:
        found.append("in a cycle the load used no more than the idle machine: it cannot be told")
    if trace.cpu_share > _COSTLY:
        found.append(f"reading the sensor took {trace.cpu_share:.0%} of a core")
    return found
