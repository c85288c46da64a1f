"""From the windows of a run and the trace of its sensor to the record, with its warnings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from narrows.errors import MeasureError
from narrows.measure.contender import Contender, Round
from narrows.measure.energy_record import EnergyCycle, EnergyRecord
from narrows.measure.environment import environment
from narrows.measure.record import Measurement
from narrows.measure.sensors import Sensor
from narrows.measure.sensors.trace import Trace

_SEEN = 0.95
_TOO_MANY = 1.1
_BUSY = 0.95
_IDLE_MOVED = 0.1
_IDLE_SHARE = 0.9
_COSTLY = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When the windows of one cycle were, in seconds of the run's clock, and what was called.

    Args:
        before_s: Begin and end of the idle window before,
        load_s: of the load,
        after_s: and of the idle window after.
        calls: The calls of the load.
        idle_shares: Share of the machine's processors that was idle in the two idle windows;
            empty where the system does not tell.
    """

    before_s: tuple[float, float]
    load_s: tuple[float, float]
    after_s: tuple[float, float]
    calls: Round
    idle_shares: tuple[float, ...]


def energy_record(
    contender: Contender,
    sensor: Sensor,
    trace: Trace,
    spans: Sequence[Span],
    *,
    margin_s: float,
    min_updates: int,
    settled: tuple[bool, ...],
) -> EnergyRecord:
    """The record of a run.

    Args:
        contender: What was measured.
        sensor: What gave the trace.
        trace: Joules over the whole run.
        spans: Its cycles.
        margin_s: How long before and after a load what was used counts as its own.
        min_updates: Updates a load window should have.
        settled: Whether each warm-up settled.

    Raises:
        MeasureError: The trace does not reach over the run, or the sensor stood still.
    """
    if math.isinf(trace.change_s):
        msg = (
            f"{sensor.title} ({', '.join(sensor.rails)}) showed the same value all the time, idle"
            " or not: it does not update; choose another sensor or other rails"
        )
        raise MeasureError(msg)
    cycles = tuple(_cycle(trace, span, margin_s) for span in spans)
    latency = _latency(contender, spans, settled)
    warnings = _sensor_warnings(trace, cycles, min_updates) + _machine_warnings(cycles, latency)
    return EnergyRecord(
        sensor=sensor.title,
        rails=sensor.rails,
        update_s=trace.update_s,
        change_s=trace.change_s,
        margin_s=margin_s,
        sampler_cpu_share=trace.cpu_share,
        cycles=cycles,
        latency=latency,
        warnings=tuple(warnings),
    )


def _cycle(trace: Trace, span: Span, margin_s: float) -> EnergyCycle:
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
        busy_s=sum(span.calls.wall_s),
        inferences=len(span.calls.wall_s),
        total_j=trace.between(*span.load_s),
        dynamic_j=trace.between(start_s, end_s) - idle_w * (end_s - start_s),
        idle_before_w=before_w,
        idle_after_w=after_w,
        idle_shares=span.idle_shares,
        updates_seen=tuple(trace.updates(*window) for window in windows),
        updates_expected=tuple((end - start) / trace.update_s for start, end in windows),
    )


def _latency(contender: Contender, spans: Sequence[Span], settled: tuple[bool, ...]) -> Measurement:
    """The calls of all loads, one round for each cycle."""
    rounds = [span.calls for span in spans]
    began_s = rounds[0].started_s
    return Measurement(
        name="latency_s",
        unit="s",
        samples=tuple(value for part in rounds for value in part.wall_s),
        environment=environment(threads=contender.threads),
        round_sizes=tuple(len(part.wall_s) for part in rounds),
        cpu_samples=tuple(value for part in rounds for value in part.cpu_s),
        contended_rounds=tuple(part.contended for part in rounds),
        round_reasons=tuple(part.reasons for part in rounds),
        round_starts_s=tuple(part.started_s - began_s for part in rounds),
        round_processes=tuple(part.process for part in rounds),
        settled=settled,
        session_s=spans[-1].load_s[1] - began_s,
    )


def _sensor_warnings(trace: Trace, cycles: Sequence[EnergyCycle], min_updates: int) -> list[str]:
    """What the sensor and its reading leave open."""
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
    if trace.cpu_share > _COSTLY:
        found.append(f"reading the sensor took {trace.cpu_share:.0%} of a core")
    return found


def _machine_warnings(cycles: Sequence[EnergyCycle], latency: Measurement) -> list[str]:
    """What else may be in the figures."""
    found: list[str] = []
    contended = sum(latency.contended_rounds)
    if contended:
        found.append(
            f"something else ran in {contended} of {len(cycles)} loads"
            f" ({', '.join(_strongest(latency.round_reasons))}): its energy is in the figures"
        )
    idle_shares = [share for cycle in cycles for share in cycle.idle_shares]
    if idle_shares and min(idle_shares) < _IDLE_SHARE:
        found.append(
            f"in an idle window only {min(idle_shares):.0%} of the processors were idle: what ran"
            " is taken for the idle machine"
        )
    idle = [cycle for cycle in cycles if cycle.idle_before_w > 0]
    moved = max((abs(c.idle_after_w / c.idle_before_w - 1) for c in idle), default=0.0)
    if moved > _IDLE_MOVED:
        found.append(
            f"idle power moved by {moved:.0%} within a cycle: something else ran, or the machine"
            " was still cooling down"
        )
    busy = min(cycle.busy_s / cycle.load_s for cycle in cycles)
    if busy < _BUSY:
        found.append(f"only {busy:.0%} of a load window was spent in inferences")
    if min(cycle.dynamic_j for cycle in cycles) <= 0:
        found.append("in a cycle the load used no more than the idle machine: it cannot be told")
    return found


def _strongest(reasons: Sequence[Sequence[str]]) -> list[str]:
    """Of each sign of other load ("run queue 3", "steal 2 %") the one with the largest number."""
    largest: dict[str, tuple[float, str]] = {}
    for reason in (reason for part in reasons for reason in part):
        number = re.search(r"\d+(?:\.\d+)?", reason)
        sign = reason[: number.start()] if number else reason
        seen = (float(number[0]) if number else 0.0, reason)
        largest[sign] = max(largest.get(sign, seen), seen)
    return [reason for _, reason in largest.values()]
