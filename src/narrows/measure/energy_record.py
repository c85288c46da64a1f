"""What a measurement of energy gives: cycle by cycle, total and dynamic, beside the latency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from narrows.measure.record import Measurement


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCycle:
    """One load window between two idle ones.

    Args:
        started_s: When its load began, in seconds since the recording did.
        load_s: Length of the load window.
        busy_s: Time inside inferences in it.
        inferences: How many there were.
        total_j: Joules used in the load window.
        dynamic_j: Joules above idle in the load window and its margins.
        idle_before_w: Mean power of the idle window before.
        idle_after_w: Mean power of the idle window after.
        idle_shares: Share of the machine's processors that was idle in these two; empty where the
            system does not tell.
        updates_seen: For the three windows in order, updates of the sensor that were seen,
        updates_expected: and how many there were by its period.
    """

    started_s: float
    load_s: float
    busy_s: float
    inferences: int
    total_j: float
    dynamic_j: float
    idle_before_w: float
    idle_after_w: float
    idle_shares: tuple[float, ...]
    updates_seen: tuple[int, ...]
    updates_expected: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRecord:
    """Energy of one inference, and all that it rests on.

    Args:
        sensor: Title of the sensor.
        rails: The rails that were summed.
        update_s: Seconds between two updates of the sensor.
        change_s: Median seconds between two different values.
        margin_s: How long before and after a load what was used counted as its own.
        sampler_cpu_share: Share of one core that reading the sensor took.
        cycles: At least five.
        latency: Wall and CPU time of the same inferences, one round for each cycle.
        warnings: What a reader must know before using the figures.
    """

    FORMAT: ClassVar[int] = 1
    sensor: str
    rails: tuple[str, ...]
    update_s: float
    change_s: float
    margin_s: float
    sampler_cpu_share: float
    cycles: tuple[EnergyCycle, ...]
    latency: Measurement
    warnings: tuple[str, ...] = ()

    @property
    def total_j(self) -> Measurement:
        """Joules of one inference, everything the rails carry included."""
        return self._per_cycle("total_j", "J", (c.total_j / c.inferences for c in self.cycles))

    @property
    def dynamic_j(self) -> Measurement:
        """Joules of one inference above those of the idle machine."""
        return self._per_cycle("dynamic_j", "J", (c.dynamic_j / c.inferences for c in self.cycles))

    @property
    def idle_power_w(self) -> Measurement:
        """Power of the idle machine, the mean of the windows before and after each load."""
        means = ((c.idle_before_w + c.idle_after_w) / 2 for c in self.cycles)
        return self._per_cycle("idle_power_w", "W", means)

    @property
    def load_power_w(self) -> Measurement:
        """Power under load."""
        return self._per_cycle("load_power_w", "W", (c.total_j / c.load_s for c in self.cycles))

    @property
    def inferences(self) -> int:
        """Inferences of all cycles."""
        return sum(cycle.inferences for cycle in self.cycles)

    @property
    def updates_seen(self) -> int:
        """Updates of the sensor that were seen in all windows."""
        return sum(sum(cycle.updates_seen) for cycle in self.cycles)

    @property
    def updates_expected(self) -> float:
        """Updates there were in all windows by the sensor's period."""
        return sum(sum(cycle.updates_expected) for cycle in self.cycles)

    def _per_cycle(self, name: str, unit: str, values: Iterable[float]) -> Measurement:
        return Measurement(
            name=name, unit=unit, samples=tuple(values), environment=self.latency.environment
        )
