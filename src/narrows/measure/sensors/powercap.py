"""Linux powercap: the energy counters of processor packages and memory (RAPL).

    /sys/class/powercap/intel-rapl:0/{name, energy_uj, max_energy_range_uj}    package-0
    /sys/class/powercap/intel-rapl:0:0/...                                     core, in package-0
    /sys/class/powercap/intel-rapl:0:1/...                                     dram, beside it

Processors of AMD show theirs under the same names. The memory's zone lies below its package in the
tree though the package's counter does not hold it; core and uncore are part of the package. psys
is the whole platform, what that is being up to the maker of the board, so it is summed only where
there is nothing else or where it is asked for. Zones of intel-rapl-mmio are a second view of the
same package and count only where it is the one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from narrows.errors import MeasureError
from narrows.measure.sensors.base import Kind, NoEnergy, PolledSensor, choose_rails
from narrows.measure.sensors.sysfs import line_or_none, number_or_none, read_number

_CLASS = Path("sys/class/powercap")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PowercapSensor(PolledSensor):
    """Counters of some zones. `find_powercap` makes one.

    Args:
        zones: Folder of each zone.
        labels: Its name: "package-0", "dram-1".
        ranges_uj: Where its counter begins again, in microjoules.

    Reference:
        Linux kernel documentation, Documentation/power/powercap/powercap.rst: `energy_uj` and
        `max_energy_range_uj`.
    """

    name: ClassVar[str] = "powercap"
    zones: tuple[Path, ...]
    labels: tuple[str, ...]
    ranges_uj: tuple[int, ...]

    @property
    def title(self) -> str:
        """There is one of its kind."""
        return self.name

    @property
    def rails(self) -> tuple[str, ...]:
        """The zones that are summed."""
        return self.labels

    @property
    def kind(self) -> Kind:
        """It counts."""
        return "energy"

    @property
    def update_s(self) -> float | None:
        """The tree does not state it (about a millisecond): it is found by reading."""
        return None

    @property
    def ranges_j(self) -> tuple[float | None, ...]:
        """Where the counters begin again."""
        return tuple(range_uj / 1e6 for range_uj in self.ranges_uj)

    def read(self) -> tuple[float, ...]:
        """Joules counted by every zone."""
        return tuple(read_number(f"{zone}/energy_uj") / 1e6 for zone in self.zones)


def find_powercap(root: Path, rails: Sequence[str] | None = None) -> PowercapSensor | NoEnergy:
    """The zones of this machine.

    Args:
        root: Where sys/ is.
        rails: Zones to sum; None: packages and memory, or psys where there is no package.

    Raises:
        MeasureError: Rails asked for contain each other, or the first is there and another not.
    """
    folder = root / _CLASS
    if not folder.is_dir():
        return NoEnergy(reason=f"powercap: there is no {folder}")
    zones = _zones(folder)
    if not zones:
        return NoEnergy(reason=f"powercap: {folder} holds no zone with an energy counter")
    if rails is not None and rails[0] not in zones:
        return NoEnergy(reason=f"powercap: no zone {rails[0]!r}: there are {', '.join(zones)}")
    packages = [label for label in zones if label.startswith("package")]
    memory = [label for label in zones if label.startswith("dram")]
    default = [*packages, *memory] or [label for label in zones if label == "psys"] or list(zones)
    chosen = choose_rails(list(zones), _contains(zones), rails, default)
    try:
        for label in chosen:
            read_number(f"{zones[label]}/energy_uj")
    except MeasureError as error:
        advice = f" (for all of them: sudo chmod a+r {folder}/*/energy_uj; until the next start)"
        return NoEnergy(reason=f"powercap: {error}{advice if 'permission' in str(error) else ''}")
    ranges = {label: number_or_none(zones[label] / "max_energy_range_uj") for label in chosen}
    for label, range_uj in ranges.items():
        if not range_uj:
            where = zones[label] / "max_energy_range_uj"
            return NoEnergy(reason=f"powercap: {where} does not tell where the counter wraps")
    return PowercapSensor(
        zones=tuple(zones[label] for label in chosen),
        labels=chosen,
        ranges_uj=tuple(range_uj for range_uj in ranges.values() if range_uj),
    )


def _zones(folder: Path) -> dict[str, Path]:
    """Label → folder of every zone that counts; a name that comes twice gets its package's."""
    found: dict[str, Path] = {}
    tops: dict[str, str] = {}
    # intel-rapl-mmio comes before intel-rapl, which takes its place where both have a zone
    for zone in sorted(folder.iterdir(), key=lambda path: path.name):
        kind, *numbers = zone.name.split(":")
        label = line_or_none(zone / "name")
        if not numbers or label is None or not (zone / "energy_uj").exists():
            continue
        if len(numbers) == 1:
            tops[zone.name] = label
        else:
            above = tops.get(f"{kind}:{numbers[0]}", "")
            label = f"{label}-{above.removeprefix('package-') or numbers[0]}"
        found[label] = zone
    return found


def _contains(zones: dict[str, Path]) -> dict[str, list[str]]:
    """Which zones are part of which: psys of all, a package of its core and uncore."""
    parts: dict[str, list[str]] = {}
    for label, zone in zones.items():
        below = [
            other
            for other, path in zones.items()
            if path.name.startswith(f"{zone.name}:") and not other.startswith("dram")
        ]
        everything = [other for other in zones if other != label]
        parts[label] = everything if label == "psys" else below
    return parts
