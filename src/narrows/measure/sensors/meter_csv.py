"""An external meter that writes its own file, by its own clock, while the measured program runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from narrows.errors import MeasureError
from narrows.measure.contender import Clock
from narrows.measure.sensors.base import Recording, Sensor
from narrows.measure.sensors.meter_table import check_meter_table, read_meter_table
from narrows.measure.sensors.trace import Trace

_CLOCK_SLACK_S = 0.05


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeterCsv(Sensor):
    """A meter's file, read when the run is over; `meter_table` has its format.

    t = t_meter + offset_s + drift · (t_meter - first t_meter), in seconds since 1970 by the clock
    of the measured machine.

    Args:
        path: The file; it need not exist before the run ends.
        offset_s: Seconds to add to the meter's time: 0 where both clocks follow one time server,
            the time of the meter's zero where it counts from its start.
        drift: Seconds the meter's clock loses in each of its seconds: 20e-6 for 20 ppm.
    """

    name: ClassVar[str] = "meter"
    path: Path
    offset_s: float = 0.0
    drift: float = 0.0

    @property
    def title(self) -> str:
        """The file."""
        return f"{self.name}:{self.path}"

    @property
    def rails(self) -> tuple[str, ...]:
        """What the meter is connected to."""
        return ("meter",)

    def record(self, clock: Clock) -> Recording:
        """Note how the machine's clocks stand; the meter must be running by itself.

        Raises:
            MeasureError: The file is there, and it is not what a meter writes.
        """
        if self.path.exists():
            check_meter_table(self.path)
        return _MeterRecording(self, clock)


@final
class _MeterRecording(Recording):
    def __init__(self, meter: MeterCsv, clock: Clock) -> None:
        self.update_s = None
        self._meter = meter
        self._clock = clock
        self._behind_s = self._now_behind_s()

    def check(self) -> None:
        """Nothing is known before the end."""

    def stop(self) -> Trace:
        """Read the file."""
        moved_s = self._now_behind_s() - self._behind_s
        if abs(moved_s) > _CLOCK_SLACK_S:
            msg = (
                f"the machine's clock was set by {moved_s:+.3f} s during the run, so the meter's"
                " times cannot be placed: let it settle and measure again"
            )
            raise MeasureError(msg)
        meter = self._meter
        table = read_meter_table(meter.path)
        first_s = table.times_s[0]
        shift_s = meter.offset_s - self._behind_s
        return table.trace([t + shift_s + meter.drift * (t - first_s) for t in table.times_s])

    def close(self) -> None:
        """Nothing was started."""

    def _now_behind_s(self) -> float:
        """Seconds since 1970 when the run's clock showed zero."""
        return time.time() - self._clock.wall_ns() / 1e9
