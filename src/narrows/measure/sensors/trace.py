"""Trace: joules used since a recording began, at each update of the sensor.

    power:    E += (t - t') · (P + P') / 2          trapezoid between two updates
    counter:  E += C - C', or range - C' + C        where it began again at zero

Between two updates energy grows evenly, so a window's edges fall between updates without harm.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import final

from narrows.errors import MeasureError

_SURPRISE = 4.0
_BLOCK = 10


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a recording gives.

    Args:
        times_s: When each update was seen, by the recording's clock.
        energy_j: Joules of all rails together used since the first update.
        update_s: Seconds between two updates of the sensor.
        change_s: Median of the seconds between two different values; infinite where it never
            changed.
        cpu_share: Processor time the recording took, as a share of its length.

    Example:
        >>> trace = power_trace([0.0, 1.0, 2.0], [(5.0,), (5.0,), (7.0,)], update_s=1.0)
        >>> trace.energy_j, trace.between(0.5, 1.5)
        ((0.0, 5.0, 11.0), 5.5)
    """

    times_s: tuple[float, ...]
    energy_j: tuple[float, ...]
    update_s: float
    change_s: float
    cpu_share: float = 0.0

    def between(self, start_s: float, end_s: float) -> float:
        """Joules used from `start_s` to `end_s`.

        Raises:
            MeasureError: The recording does not reach that far.
        """
        return self._at(end_s) - self._at(start_s)

    def updates(self, start_s: float, end_s: float) -> int:
        """Updates seen after `start_s` and not after `end_s`."""
        return bisect_right(self.times_s, end_s) - bisect_right(self.times_s, start_s)

    def _at(self, time_s: float) -> float:
        first, last = self.times_s[0], self.times_s[-1]
        slack_s = 2 * self.update_s  # the newest update may be one period old
        if not first - slack_s <= time_s <= last + slack_s:
            msg = (
                f"energy was asked for at {time_s:.3f} s, the recording reaches from {first:.3f} s"
                f" to {last:.3f} s: does the sensor still run, is the clock offset right?"
            )
            raise MeasureError(msg)
        after = min(max(bisect_left(self.times_s, time_s), 1), len(self.times_s) - 1)
        t0, t1 = self.times_s[after - 1], self.times_s[after]
        e0, e1 = self.energy_j[after - 1], self.energy_j[after]
        return e0 + (e1 - e0) * (time_s - t0) / (t1 - t0)


def power_trace(
    times_s: Sequence[float],
    power_w: Sequence[Sequence[float]],
    *,
    update_s: float,
    cpu_share: float = 0.0,
) -> Trace:
    """The trace of a sensor that shows watts.

    Args:
        times_s: When each update was seen, rising.
        power_w: Watts of every rail at each.
        update_s: Seconds between two updates.
        cpu_share: Processor time the recording took, as a share.

    Raises:
        MeasureError: There are fewer than two updates.
    """
    _check_count(times_s)
    sums = [sum(rails) for rails in power_w]
    total, energy_j = 0.0, [0.0]
    for (t0, t1), (p0, p1) in zip(pairwise(times_s), pairwise(sums), strict=True):
        total += (t1 - t0) * (p0 + p1) / 2
        energy_j.append(total)
    return Trace(
        times_s=tuple(times_s),
        energy_j=tuple(energy_j),
        update_s=update_s,
        change_s=_change_s(times_s, power_w),
        cpu_share=cpu_share,
    )


def counter_trace(
    times_s: Sequence[float],
    counted_j: Sequence[Sequence[float]],
    *,
    ranges_j: Sequence[float | None],
    rails: Sequence[str],
    update_s: float,
    cpu_share: float = 0.0,
) -> Trace:
    """The trace of a sensor that counts joules and begins again at zero.

    A counter that went round more than once between two updates cannot be told from one that did
    not, so a gap in which it might have is refused.

    Args:
        times_s: When each update was seen, rising.
        counted_j: What the counter of every rail showed.
        ranges_j: For each rail where it begins again; None: never.
        rails: Their names, for messages.
        update_s: Seconds between two updates.
        cpu_share: Processor time the recording took, as a share.

    Raises:
        MeasureError: There are fewer than two updates, a counter fell though it does not wrap, or
            may have wrapped more than once.
    """
    _check_count(times_s)
    sums = [0.0] * len(times_s)
    for rail, name in enumerate(rails):
        grown = _unwrapped(times_s, [row[rail] for row in counted_j], ranges_j[rail], name)
        sums = [a + b for a, b in zip(sums, grown, strict=True)]
    return Trace(
        times_s=tuple(times_s),
        energy_j=tuple(sums),
        update_s=update_s,
        change_s=_change_s(times_s, counted_j),
        cpu_share=cpu_share,
    )


def _unwrapped(
    times_s: Sequence[float], counted_j: Sequence[float], range_j: float | None, rail: str
) -> list[float]:
    """Joules since the first update."""
    steps: list[float] = []
    for (t0, t1), (c0, c1) in zip(pairwise(times_s), pairwise(counted_j), strict=True):
        step = c1 - c0
        if step < 0:
            if range_j is None or c0 > range_j:
                msg = (
                    f"the counter of {rail!r} fell from {c0:.6g} J to {c1:.6g} J in"
                    f" {t1 - t0:.3g} s, which it cannot: was its driver loaded again?"
                )
                raise MeasureError(msg)
            step += range_j
        steps.append(step)
    if range_j is not None:
        _check_wraps(times_s, steps, range_j, rail)
    total, grown = 0.0, [0.0]
    for step in steps:
        total += step
        grown.append(total)
    return grown


def _check_wraps(
    times_s: Sequence[float], steps: Sequence[float], range_j: float, rail: str
) -> None:
    """Refuse where a counter may have gone round twice, or was set back.

    The most it can have grown in a gap is judged by the power over ten updates together, the
    second highest, four times over: single gaps are as uneven as the reading, and one may be the
    very one in doubt. A counter that was set back looks like one that nearly went round in no time.
    """
    gaps_s = [t1 - t0 for t0, t1 in pairwise(times_s)]
    blocks = range(0, len(steps), _BLOCK)
    powers_w = sorted(sum(steps[i : i + _BLOCK]) / sum(gaps_s[i : i + _BLOCK]) for i in blocks)
    high_w = _SURPRISE * powers_w[-2 if len(powers_w) > 1 else -1]
    for time_s, gap_s, step in zip(times_s, gaps_s, steps, strict=False):
        if high_w * gap_s >= range_j:
            msg = (
                f"the counter of {rail!r} begins again every {range_j:.6g} J and was not seen for"
                f" {gap_s:.3g} s from {time_s:.3f} s on, at up to {high_w:.3g} W: it may have gone"
                " round more than once; keep the machine free enough to read it in time"
            )
            raise MeasureError(msg)
        if step > range_j / 2 and step > high_w * max(gap_s, median(gaps_s)):
            msg = (
                f"the counter of {rail!r} jumped by {step:.6g} J in {gap_s:.3g} s at"
                f" {time_s:.3f} s: it was set back, or its driver was loaded again; measure anew"
            )
            raise MeasureError(msg)


def _change_s(times_s: Sequence[float], rows: Sequence[Sequence[float]]) -> float:
    """Median time between two different values."""
    changed = [time_s for time_s, (a, b) in zip(times_s[1:], pairwise(rows), strict=True) if a != b]
    return median(b - a for a, b in pairwise(changed)) if len(changed) > 1 else float("inf")


def _check_count(times_s: Sequence[float]) -> None:
    if len(times_s) < 2:
        msg = (
            f"the sensor gave {len(times_s)} updates: energy needs two at least;"
            " measure longer, or find out whether it updates"
        )
        raise MeasureError(msg)
