"""Sensors of energy and power, and the search for those of a machine.

    powercap   counters of processor packages and memory (RAPL)
    hwmon      power monitors of boards and hats: INA3221, INA219, INA226, INA238, INA260, ...
    nvml       NVIDIA GPUs
    meter      an external meter's file
    replay     a recorded trace

The first three are looked for, the others are named by a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from narrows.errors import MeasureError
from narrows.measure.sensors.base import NoEnergy, PolledSensor, Recording, Sensor
from narrows.measure.sensors.hwmon import HwmonSensor, find_hwmon
from narrows.measure.sensors.meter_csv import MeterCsv
from narrows.measure.sensors.nvml import NvmlSensor, find_nvml
from narrows.measure.sensors.powercap import PowercapSensor, find_powercap
from narrows.measure.sensors.replay import Replay

__all__ = [
    "FoundSensors",
    "HwmonSensor",
    "MeterCsv",
    "NoEnergy",
    "NvmlSensor",
    "PolledSensor",
    "PowercapSensor",
    "Recording",
    "Replay",
    "Sensor",
    "find_sensors",
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSensors:
    """What a machine has.

    Args:
        sensors: The best first: a board's own power monitor, then the processor's counters, GPUs.
        reasons: For every kind that is missing, why.
    """

    sensors: tuple[PolledSensor, ...]
    reasons: tuple[str, ...]

    def pick(self, title: str | None = None) -> PolledSensor | NoEnergy:
        """The sensor of this title, or the first.

        Args:
            title: "powercap", "hwmon:ina3221", "nvml:0"; None: the best.

        Returns:
            The sensor; where there is none at all, the reasons.

        Raises:
            MeasureError: There are sensors, but not that one; or one was asked for and there is
                none.
        """
        listed = ", ".join(sensor.title for sensor in self.sensors)
        reasons = "; ".join(self.reasons)
        for sensor in self.sensors:
            if title in (None, sensor.title):
                return sensor
        if title is not None:
            msg = f"no sensor {title!r} here: found {listed or 'none'} ({reasons})"
            raise MeasureError(msg)
        return NoEnergy(reason=f"this machine has no sensor of energy that can be read: {reasons}")


def find_sensors(root: Path = Path("/"), *, rails: Sequence[str] | None = None) -> FoundSensors:
    """Look for sensors of energy and power.

    Args:
        root: Where sys/ is; another place in tests and containers.
        rails: Rails to sum, where the choice of the sensor is not wanted.

    Raises:
        MeasureError: No sensor has these rails, or they contain each other.

    Example:
        >>> found = find_sensors(Path("/nonexistent"))
        >>> [reason for reason in found.reasons if "powercap" in reason]
        ['powercap: there is no /nonexistent/sys/class/powercap']
    """
    sensors: list[PolledSensor] = []
    reasons: list[str] = []
    powercap = find_powercap(root, rails)
    hwmon, why_no_hwmon = find_hwmon(root, rails)
    gpus, why_no_gpu = find_nvml() if root == Path("/") and rails is None else ((), "")
    boards = [sensor for sensor in hwmon if sensor.chip.startswith("ina")]
    sensors += boards
    if isinstance(powercap, NoEnergy):
        reasons.append(powercap.reason)
    else:
        sensors.append(powercap)
    sensors += [sensor for sensor in hwmon if sensor not in boards]
    sensors += gpus
    reasons += [reason for reason in (why_no_hwmon, why_no_gpu) if reason]
    if rails is not None and not sensors:
        msg = f"cannot sum the rails {', '.join(rails)}: {'; '.join(reasons)}"
        raise MeasureError(msg)
    return FoundSensors(sensors=tuple(sensors), reasons=tuple(reasons))
