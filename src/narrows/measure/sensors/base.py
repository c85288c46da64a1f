"""Sensor: anything that tells how much energy a machine has used, and what one recording gives.

    Sensor ── record() ──► Recording ── stop() ──► Trace ── energy_j(from, to) ──► joules
      └─ PolledSensor: read() at its own update rate, in a process of its own

A sensor has rails, and only those are summed. A rail that contains another ("package-0" contains
"core", a board's input contains its processor) never stands beside it: the same joule would count
twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from narrows.errors import MeasureError
from narrows.measure.contender import Clock

if TYPE_CHECKING:
    from narrows.measure.sensors.trace import Trace

Kind = Literal["energy", "power"]


class Recording(ABC):
    """A sensor that is being watched.

    Args:
        update_s: Seconds between two updates of the sensor; None: known only once it has ended.
    """

    update_s: float | None

    @abstractmethod
    def check(self) -> None:
        """Raise what went wrong, as soon as it is known.

        Raises:
            MeasureError: The sensor has gone or tells nonsense.
        """

    @abstractmethod
    def stop(self) -> Trace:
        """End the recording; to stop twice gives the same.

        Raises:
            MeasureError: The sensor has gone or told nonsense.
        """

    @abstractmethod
    def close(self) -> None:
        """End the recording and drop what it saw; after `stop` there is nothing left to do."""


class Sensor(ABC):
    """One way to learn the energy that is used.

    Its fields are its configuration, so that it can be written down and made again elsewhere.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def title(self) -> str:
        """Which one of its kind, for people and for `FoundSensors.pick`: "hwmon:ina3221"."""

    @property
    @abstractmethod
    def rails(self) -> tuple[str, ...]:
        """The rails that are summed, in the order of `PolledSensor.read`."""

    @abstractmethod
    def record(self, clock: Clock) -> Recording:
        """Begin to watch it.

        Args:
            clock: Whose time the recording is in.

        Raises:
            MeasureError: It cannot be read.
        """


class PolledSensor(Sensor):
    """A sensor that shows its newest value whenever it is read."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What it shows: joules counted since some time, or watts."""

    @property
    @abstractmethod
    def update_s(self) -> float | None:
        """Seconds between two updates as the hardware states them; None: it states none."""

    @property
    @abstractmethod
    def ranges_j(self) -> tuple[float | None, ...]:
        """For each rail where its counter begins again at zero; None: it does not."""

    @abstractmethod
    def read(self) -> tuple[float, ...]:
        """Joules or watts of every rail now.

        Raises:
            MeasureError: It has gone or tells nonsense.
        """

    def record(self, clock: Clock) -> Recording:
        """Begin to poll it in a process of its own; `clock` must be the system's."""
        from narrows.measure.sensors.sampler import ProcessRecording

        return ProcessRecording(self)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoEnergy:
    """There is no energy figure, and this is why. It is never a guess and never zero.

    Args:
        reason: What was looked for, what was found and what to do.

    Example:
        >>> NoEnergy(reason="powercap: there is no /sys/class/powercap").energy_j is None
        True
    """

    reason: str

    @property
    def energy_j(self) -> None:
        """Nothing was measured."""
        return


def choose_rails(
    known: Sequence[str],
    contains: Mapping[str, Sequence[str]],
    wanted: Sequence[str] | None,
    default: Sequence[str],
) -> tuple[str, ...]:
    """The rails to sum.

    Args:
        known: Every rail there is.
        contains: Rail → the rails whose energy is part of its own.
        wanted: What was asked for; None: the default.
        default: What is summed where nothing was asked for.

    Raises:
        MeasureError: A wanted rail is not there, or one contains another.

    Example:
        >>> choose_rails(["package-0", "core"], {"package-0": ["core"]}, ["core"], ["package-0"])
        ('core',)
    """
    chosen = tuple(default if wanted is None else wanted)
    listed = ", ".join(known)
    if not chosen or len(set(chosen)) < len(chosen):
        msg = f"cannot sum the rails {chosen}: name each once, out of {listed}"
        raise MeasureError(msg)
    for rail in chosen:
        if rail not in known:
            msg = f"there is no rail {rail!r}: there are {listed}"
            raise MeasureError(msg)
        for part in contains.get(rail, ()):
            if part in chosen:
                msg = (
                    f"{rail!r} contains {part!r}: summed, its energy would count twice;"
                    " choose one of them"
                )
                raise MeasureError(msg)
    return chosen
