"""A recorded trace played again, so that an analysis can be repeated or tried without a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from narrows.measure.contender import Clock
from narrows.measure.sensors.base import Recording, Sensor
from narrows.measure.sensors.meter_table import MeterTable, read_meter_table
from narrows.measure.sensors.trace import Trace


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Sensor):
    """A meter's table whose first row is now. Its joules are those of the recorded run.

    Args:
        path: The table, in the format of `meter_table`.
    """

    name: ClassVar[str] = "replay"
    path: Path

    @property
    def title(self) -> str:
        """The file, so that no record hides that it is a replay."""
        return f"{self.name}:{self.path}"

    @property
    def rails(self) -> tuple[str, ...]:
        """What was recorded."""
        return ("replay",)

    def record(self, clock: Clock) -> Recording:
        """Begin to play."""
        return _Replaying(read_meter_table(self.path), clock.wall_ns() / 1e9)


@final
class _Replaying(Recording):
    def __init__(self, table: MeterTable, started_s: float) -> None:
        self.update_s = table.update_s
        self._table = table
        self._shift_s = started_s - table.times_s[0]

    def check(self) -> None:
        """It was read whole at the beginning."""

    def stop(self) -> Trace:
        """All of the table."""
        return self._table.trace([time_s + self._shift_s for time_s in self._table.times_s])

    def close(self) -> None:
        """Nothing was started."""
