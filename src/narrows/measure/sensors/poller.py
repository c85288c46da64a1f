"""Poller: reads a sensor often enough to see each of its updates, and keeps what is new.

    poll:    |  |  |  |  |  |  |  |      twice in each update period
    value:   a  a  b  b  b  b  b  c
    kept:    a     b     b'       c      b' : an update that brought the same watts again

Several rails update one after another within a period: their changes are one update. A power
sensor whose value stays the same is taken to have updated when a period and a quarter has passed,
if it was read meanwhile. A counter that stays the same has not updated: nothing is kept.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, median
from typing import final

from narrows.errors import MeasureError
from narrows.measure.sensors.base import PolledSensor
from narrows.measure.sensors.trace import Trace, counter_trace, power_trace

_POLLS_PER_UPDATE = 2
_QUICK_POLL_S = 250e-6
_ENOUGH_CHANGES = 200
_SEARCH_S = 5.0
_SEARCH_CHANGES = 10
_UNKNOWN_S = 0.1


@final
class Poller:
    """Keeps the updates of one sensor.

    Args:
        sensor: What is read.
        wall_ns: Monotonic nanoseconds.
        update_s: Seconds between two updates of the sensor.
    """

    def __init__(self, sensor: PolledSensor, wall_ns: Callable[[], int], update_s: float) -> None:
        self.update_s = update_s
        self._sensor = sensor
        self._wall_ns = wall_ns
        self._power = sensor.kind == "power"
        self._least_gap_s = 0.75 * update_s if len(sensor.rails) > 1 else 0.0
        self._times_s = array("d")
        self._values = array("d")
        self._last: tuple[float, ...] = ()
        self._due_s = wall_ns() / 1e9

    def poll(self) -> float:
        """Read once.

        Returns:
            Seconds until the next reading is due, never below zero.

        Raises:
            MeasureError: The sensor has gone or tells nonsense.
        """
        before_ns = self._wall_ns()
        values = self._sensor.read()
        after_ns = self._wall_ns()
        now_s = (before_ns + after_ns) / 2e9
        since_s = now_s - self._times_s[-1] if self._times_s else math.inf
        if values != self._last:
            if since_s >= self._least_gap_s:
                self._keep(now_s, values)
        elif self._power and since_s >= 1.25 * self.update_s:
            # after a pause in the readings one update is known of, not all that there were
            self._keep(max(self._times_s[-1], now_s - 2 * self.update_s) + self.update_s, values)
        poll_s = self.update_s / _POLLS_PER_UPDATE
        self._due_s += poll_s
        wait_s = self._due_s - after_ns / 1e9
        if wait_s < -poll_s:  # the machine was busy: go on from here
            self._due_s, wait_s = after_ns / 1e9, 0.0
        return max(0.0, wait_s)

    def trace(self, *, cpu_share: float = 0.0) -> Trace:
        """What was kept.

        Args:
            cpu_share: Processor time the polling took, as a share.

        Raises:
            MeasureError: Too little was kept, or a counter cannot be followed.
        """
        return make_trace(
            self._sensor, self._times_s, self._values, update_s=self.update_s, cpu_share=cpu_share
        )

    def kept(self) -> tuple[array[float], array[float]]:
        """Times of the updates in seconds, and the values of all rails at each, in one row."""
        return self._times_s, self._values

    def _keep(self, time_s: float, values: tuple[float, ...]) -> None:
        self._times_s.append(time_s)
        self._values.extend(values)
        self._last = values


def make_trace(
    sensor: PolledSensor,
    times_s: array[float],
    values: array[float],
    *,
    update_s: float,
    cpu_share: float,
) -> Trace:
    """The trace of what a poller kept.

    Args:
        sensor: What was read.
        times_s: Times of the updates.
        values: Values of all rails at each, one after another.
        update_s: Seconds between two updates.
        cpu_share: Processor time the polling took, as a share.
    """
    width = len(sensor.rails)
    rows = [tuple(values[i : i + width]) for i in range(0, len(values), width)]
    if sensor.kind == "power":
        return power_trace(times_s, rows, update_s=update_s, cpu_share=cpu_share)
    return counter_trace(
        times_s,
        rows,
        ranges_j=sensor.ranges_j,
        rails=sensor.rails,
        update_s=update_s,
        cpu_share=cpu_share,
    )


def find_update_s(
    sensor: PolledSensor, wall_ns: Callable[[], int], sleep: Callable[[float], None]
) -> float:
    """Seconds between two updates, as stated or else seen by reading quickly.

    Reads until 200 values of a rail differed from the one before, or for as long as five seconds,
    or one where ten have by then. The mean is taken over the gaps near their median: an update that
    was missed makes a gap of two.

    Args:
        sensor: What is read.
        wall_ns: Monotonic nanoseconds.
        sleep: Waits for some seconds.

    Returns:
        The period; 0.1 s for a power sensor that showed the same watts all the time.

    Raises:
        MeasureError: A counter stood still.
    """
    if sensor.update_s is not None:
        return sensor.update_s
    started_s = wall_ns() / 1e9
    last = sensor.read()
    by_rail: list[list[float]] = [[] for _ in last]
    changes = by_rail[0]
    while len(changes) < _ENOUGH_CHANGES:
        now_s = wall_ns() / 1e9
        waited_s = now_s - started_s
        if waited_s > _SEARCH_S or (waited_s > 1.0 and len(changes) >= _SEARCH_CHANGES):
            break
        values = sensor.read()
        for rail, (new, old) in enumerate(zip(values, last, strict=True)):
            if new != old:
                by_rail[rail].append(now_s)
        last = values
        changes = max(by_rail, key=len)
        sleep(_QUICK_POLL_S)
    gaps_s = [b - a for a, b in pairwise(changes)]
    if gaps_s:
        middle_s = median(gaps_s)
        return fmean(gap_s for gap_s in gaps_s if 0.5 * middle_s <= gap_s <= 1.5 * middle_s)
    if sensor.kind == "power":
        return _UNKNOWN_S
    msg = (
        f"the counter of {sensor.title} ({', '.join(sensor.rails)}) showed"
        f" {'one value' if not changes else 'two values'} in {_SEARCH_S:.0f} s:"
        " it does not update; choose another sensor"
    )
    raise MeasureError(msg)
