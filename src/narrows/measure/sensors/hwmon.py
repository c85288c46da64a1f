"""Linux hwmon: power and energy of the rails of a board, from whatever chip watches them.

    /sys/class/hwmon/hwmon3/name                  ina3221, ina226, ina238, power_meter, ...
                           energy1_input          microjoules counted      first choice
                           power1_input           microwatts               second
                           in1_input, curr1_input millivolts, milliamperes third: their product
                           in1_label              "VDD_IN"
                           update_interval        milliseconds

A chip's channels are its rails, named by their labels. All chips of one name are one sensor, as on
boards of the Jetson family, where two INA3221 share the rails. Only rails that stand side by side
are summed: where one carries the board's input ("VDD_IN") it stands alone.

The INA3221 has traps. Its inputs 4 to 6 are voltages over the shunts, and input 7 and current 4
are sums of channels; none of them is a rail, so only channels 1 to 3 are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

from narrows.errors import MeasureError
from narrows.measure.sensors.base import Kind, PolledSensor, choose_rails
from narrows.measure.sensors.sysfs import line_or_none, number_or_none, read_number

_CLASS = Path("sys/class/hwmon")
_CHANNELS = {"ina3221": ("1", "2", "3")}
# Only a board's power monitors have a voltage and a current of one number that belong together;
# in a converter's or a battery's they may be of its two sides.
_PRODUCTS = re.compile(r"ina\d")
_TOTALS = re.compile(r"vdd_in|pom_5v_in|vin|vdd_total|total|pin|input|psys", re.IGNORECASE)
_SOCKET, _CORE = "esocket", "ecore"  # labels of amd_energy

Quantity = Literal["energy", "power", "average", "product"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One rail of a chip.

    Args:
        label: What it is called.
        quantity: What its files hold.
        files: One file, or voltage and current.
        update_ms: The chip's update interval; 0: not stated.
    """

    label: str
    quantity: Quantity
    files: tuple[str, ...]
    update_ms: int = 0

    def read(self) -> float:
        """Joules or watts now."""
        if self.quantity == "product":
            voltage_mv, current_ma = (read_number(file) for file in self.files)
            return voltage_mv * current_ma / 1e6
        return read_number(self.files[0]) / 1e6


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HwmonSensor(PolledSensor):
    """Rails of all chips of one name. `find_hwmon` makes one.

    Args:
        chip: The chip's name as its driver gives it.
        channels: The rails that are summed; all count joules, or all show watts.

    Reference:
        Linux kernel documentation, Documentation/hwmon/sysfs-interface.rst and ina3221.rst.
    """

    name: ClassVar[str] = "hwmon"
    chip: str
    channels: tuple[Channel, ...]

    @property
    def title(self) -> str:
        """The chip."""
        return f"{self.name}:{self.chip}"

    @property
    def rails(self) -> tuple[str, ...]:
        """Labels of the channels."""
        return tuple(channel.label for channel in self.channels)

    @property
    def kind(self) -> Kind:
        """Whether the channels count or show power."""
        return "energy" if self.channels[0].quantity == "energy" else "power"

    @property
    def update_s(self) -> float | None:
        """The slowest `update_interval` of its chips."""
        slowest_ms = max(channel.update_ms for channel in self.channels)
        return slowest_ms / 1e3 if slowest_ms else None

    @property
    def ranges_j(self) -> tuple[float | None, ...]:
        """Counters of hwmon are 64 bit wide by its rules: they do not begin again."""
        return (None,) * len(self.channels)

    def read(self) -> tuple[float, ...]:
        """Joules or watts of every rail."""
        return tuple(channel.read() for channel in self.channels)


def find_hwmon(
    root: Path, rails: Sequence[str] | None = None
) -> tuple[tuple[HwmonSensor, ...], str]:
    """The sensors of this machine, and why there is not one more.

    Args:
        root: Where sys/ is.
        rails: Rails to sum, of the one sensor that has the first; None: each sensor's own choice.

    Raises:
        MeasureError: Rails asked for contain each other, or the sensor has not all of them.
    """
    folder = root / _CLASS
    if not folder.is_dir():
        return (), f"hwmon: there is no {folder}"
    found: list[HwmonSensor] = []
    reasons: list[str] = []
    for chip, channels in _chips(folder).items():
        named = {channel.label: channel for channel in channels}
        if rails is not None and rails[0] not in named:
            reasons.append(f"hwmon: {chip} has no rail {rails[0]!r}: it has {', '.join(named)}")
            continue
        try:
            for channel in channels:
                channel.read()
        except MeasureError as error:
            reasons.append(f"hwmon: {error}")
            continue
        contains = _contains(named)
        inner = {part for parts in contains.values() for part in parts}
        default = [label for label in named if label not in inner]
        chosen = choose_rails(list(named), contains, rails, default)
        found.append(HwmonSensor(chip=chip, channels=tuple(named[label] for label in chosen)))
    if not found and not reasons:
        count = len(list(folder.iterdir()))
        reasons.append(f"hwmon: none of the {count} chips in {folder} shows power or energy")
    return tuple(found), "; ".join(reasons)


def _chips(folder: Path) -> dict[str, list[Channel]]:
    """Chip name → its channels, those of all chips of that name together.

    Where any counts energy those that do are taken alone: joules and watts do not add up.
    """
    chips: dict[str, list[Channel]] = {}
    for place in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        chip = line_or_none(place / "name") or place.name
        for channel in _channels(place, chip):
            chips.setdefault(chip, []).append(channel)
    return {chip: _distinct(_of_one_kind(channels)) for chip, channels in chips.items()}


def _channels(place: Path, chip: str) -> Iterable[Channel]:
    files = {path.name for path in place.iterdir()}
    update_ms = number_or_none(place / "update_interval") or 0
    allowed = _CHANNELS.get(chip)
    numbers = sorted(
        {m[1] for name in files if (m := re.fullmatch(r"(?:energy|power|curr)(\d+)_\w+", name))},
        key=int,
    )
    for number in numbers:
        if allowed is not None and number not in allowed:
            continue
        if line_or_none(place / f"in{number}_enable") == "0":
            continue
        label = _label(place, number, chip)
        quantity, names = _best(files, number, chip)
        if quantity is None or label.upper() == "NC":
            continue
        average_ms = number_or_none(place / f"power{number}_average_interval") or 0
        yield Channel(
            label=label,
            quantity=quantity,
            files=tuple(str(place / name) for name in names),
            update_ms=(average_ms if quantity == "average" else 0) or update_ms,
        )


def _best(files: set[str], number: str, chip: str) -> tuple[Quantity | None, tuple[str, ...]]:
    """The most direct of what a channel offers."""
    if f"energy{number}_input" in files:
        return "energy", (f"energy{number}_input",)
    if f"power{number}_input" in files:
        return "power", (f"power{number}_input",)
    if f"power{number}_average" in files:
        return "average", (f"power{number}_average",)
    pair = (f"in{number}_input", f"curr{number}_input")
    if _PRODUCTS.match(chip) and files.issuperset(pair):
        return "product", pair
    return None, ()


def _label(place: Path, number: str, chip: str) -> str:
    for kind in ("energy", "power", "in", "curr"):
        label = line_or_none(place / f"{kind}{number}_label")
        if label is not None:
            return label
    return f"{chip} {number}"


def _of_one_kind(channels: list[Channel]) -> list[Channel]:
    counting = [channel for channel in channels if channel.quantity == "energy"]
    return counting or channels


def _distinct(channels: list[Channel]) -> list[Channel]:
    """Labels made different where two channels share one."""
    labels = [channel.label for channel in channels]
    return [
        channel
        if labels.count(channel.label) == 1
        else Channel(
            label=f"{channel.label} ({Path(channel.files[0]).parent.name})",
            quantity=channel.quantity,
            files=channel.files,
            update_ms=channel.update_ms,
        )
        for channel in channels
    ]


def _contains(named: dict[str, Channel]) -> dict[str, list[str]]:
    """Rails that hold others: the board's input all of them, a socket its cores."""
    parts: dict[str, list[str]] = {}
    for label in named:
        others = [other for other in named if other != label]
        if _TOTALS.fullmatch(label):
            parts[label] = others
        elif label.lower().startswith(_SOCKET):
            parts[label] = [other for other in others if other.lower().startswith(_CORE)]
    return parts
