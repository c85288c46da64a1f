"""Motion recordings to spectra of short intervals, as DeepSense reads them.

    recording    each sensor at its own, irregular times
      ─► stretches of intervals of τ seconds, without gaps, all sensors interpolated to a few points
      ─► spectrum of each interval   (sensors · bins · axes · 2 numbers)
      ─► windows of T intervals      (T, sensors · bins · axes · 2), the last ones filled with zeros

`narrows.zoo.activity_files` reads recordings, `narrows.zoo.activity_tasks` divides windows into the
sets of a task.

Reference:
    Yao, Hu, Zhao, Zhang, Abdelzaher, "DeepSense", WWW 2017, arXiv 1611.01942, section 3, and the
    preprocessing in the authors' repository HHAR-Data-Process. The two disagree: see `PRESETS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import ConfigError, InputError

Floats = NDArray[np.float32]
GRAVITY: Final = 9.80665
"""Standard gravity in metres per second squared."""
_ROUNDING: Final = 1e-6


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What one device recorded in one go.

    Args:
        times_s: Of each sensor: when its samples were taken, in seconds (n,); equal for all
            sensors up to their own irregularity, from any origin.
        values: Of each sensor: its samples (n, axes).
        labels: Class number of each sample of the first sensor (n,).
        subject: Who carried the device.
        device: Which device.
        session: Recordings of one subject and session were taken together, by several devices.
            Sessions are numbered in their order in time.

    Raises:
        InputError: Lengths differ, or a value is not finite.
    """

    times_s: tuple[NDArray[np.float64], ...]
    values: tuple[Floats, ...]
    labels: NDArray[np.int64]
    subject: str
    device: str
    session: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be interpolated."""
        shapes = [(len(t), *v.shape) for t, v in zip(self.times_s, self.values, strict=False)]
        same = len(self.times_s) == len(self.values) > 0 and len(self.labels) == shapes[0][0]
        if not same or any(len(shape) != 3 or shape[0] != shape[1] for shape in shapes):
            msg = f"recording of {self.subject!r}: {len(self.times_s)} sensors with times and "
            msg += f"values of {shapes} and {len(self.labels)} labels: expected one time for each "
            raise InputError(msg + "row of values (n, axes), one label for each of the first")
        parts: tuple[NDArray[Any], ...] = (*self.times_s, *self.values)
        if not all(np.isfinite(part).all() for part in parts):
            msg = f"recording of {self.subject!r} by {self.device!r} has values that are not finite"
            raise InputError(msg + ": clean the data")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """How recordings are cut and transformed.

    Args:
        interval_s: τ, the length of an interval.
        intervals: T, of a window.
        points: Each interval is interpolated to; as many frequencies come out, the upper half of
            them conjugates of the lower one.
        inclusive: Whether the last point is the end of the interval (points τ / (points - 1)
            apart), or the first of the next one would be (τ / points apart).
        form: "complex" (real and imaginary part) or "polar" (magnitude and phase).
        stride: Intervals from the beginning of a window to that of the next.
        least: Intervals a window has at least; those that it lacks are zeros.
        gap_s: Where a sensor was silent this long, a stretch ends.
        scales: Each sensor's values are divided by.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> PRESETS["code"].interval_s * PRESETS["code"].intervals
        10.0
    """

    interval_s: float
    intervals: int = 20
    points: int = 10
    inclusive: bool = False
    form: Literal["complex", "polar"] = "complex"
    stride: int = 5
    least: int = 5
    gap_s: float = 2.0
    scales: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse what gives no windows."""
        if self.form not in ("complex", "polar"):
            msg = f"form is {self.form!r}: expected 'complex' or 'polar'"
            raise ConfigError(msg)
        found: dict[str, float] = {"points": self.points - 1, "stride": self.stride}
        found |= {"interval_s": self.interval_s, "gap_s": self.gap_s, "least": self.least}
        found |= {"intervals": self.intervals - self.least + 1}
        found |= {"scales": min(self.scales, default=0)}
        if low := [name for name, value in found.items() if not value > 0]:
            msg = f"{low[0]} is {getattr(self, low[0])}: expected a positive number, points from 2 "
            raise ConfigError(msg + "and intervals from least")


PRESETS: Final = MappingProxyType(
    {
        "paper": Spectra(interval_s=0.25, form="polar"),
        "code": Spectra(interval_s=0.5, inclusive=True),
    }
)
"""DeepSense's: "paper" (0.25 s, magnitude and phase) and "code" (0.5 s, real and imaginary part).

Of "paper" the points, the stride and the shortest window are the code's: the paper does not say.
"""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Windows of many recordings.

    Args:
        x: (n, intervals, sensors · bins · axes · 2) float32; in an interval by sensor, frequency,
            axis and then the two parts of a number.
        labels: The label most points of each window have (n,).
        recordings: The recording each was cut from, as a number (n,).
        start_s: When each begins, by its recording's clock (n,).
        stop_s: When it ends (n,).
    """

    x: Floats
    labels: NDArray[np.int64]
    recordings: NDArray[np.int64]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.x)


def windows(recordings: Sequence[Recording], how: Spectra) -> Windows:
    """All windows of some recordings, in their order.

    Samples are put into the order of their times, of several at one time the mean counts, and all
    points are interpolated between the samples before and after them. Departs from the authors'
    code, which pairs samples of the sensors, starts an interval at one of them and knows nothing
    outside of it, moves times away from their values when it sorts them, and loses the last stretch
    of every recording.

    Args:
        recordings: With the same sensors and axes.
        how: They are cut.

    Raises:
        InputError: No recording is long enough for a window, or one has other sensors.

    Example:
        >>> times, still = np.arange(0, 12, 0.01), np.ones((1200, 3), np.float32)
        >>> walk = Recording(
        ...     times_s=(times, times), values=(still, still),
        ...     labels=np.zeros(1200, np.int64), subject="a", device="phone",
        ... )
        >>> windows([walk], PRESETS["code"]).x.shape
        (4, 20, 120)
    """
    parts = [part for number, each in enumerate(recordings) for part in _pieces(number, each, how)]
    if len({part.x.shape[1:] for part in parts}) != 1:
        shapes = sorted({part.x.shape[1:] for part in parts})
        msg = f"{len(recordings)} recordings give windows of shapes {shapes}: expected one; "
        raise InputError(msg + "take longer recordings, or those of the same sensors")
    names = ("x", "labels", "recordings", "start_s", "stop_s")
    return Windows(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _pieces(number: int, recording: Recording, how: Spectra) -> Iterator[Windows]:
    """The windows of each stretch of a recording that is long enough for one."""
    if len(how.scales) != len(recording.values):
        msg = f"recording of {recording.subject!r} has {len(recording.values)} sensors: "
        raise InputError(f"{msg}expected {len(how.scales)}, as many as scales")
    sensors = [
        _ordered(times, values / np.float32(scale))
        for times, values, scale in zip(
            recording.times_s, recording.values, how.scales, strict=True
        )
    ]
    order = np.argsort(recording.times_s[0], kind="stable")
    times, labels = recording.times_s[0][order], recording.labels[order]
    for start_s, stop_s in _stretches([times for times, _ in sensors], how.gap_s):
        count = math.floor((stop_s - start_s) / how.interval_s + _ROUNDING)
        if count < how.least:
            continue
        offsets = np.linspace(0, how.interval_s, how.points, endpoint=how.inclusive)
        begins_s = start_s + how.interval_s * np.arange(count)
        grid = begins_s[:, None] + offsets
        spectra = np.concatenate([_spectra(grid, *sensor, how.form) for sensor in sensors], 1)
        # Intervals that are not there are the zeros after the last one.
        firsts = np.arange(0, count - how.least + 1, how.stride)
        places = np.minimum(firsts[:, None] + np.arange(how.intervals), count)
        seen = labels[np.searchsorted(times, grid, side="right").clip(min=1) - 1]
        votes = (seen[..., None] == np.arange(labels.max() + 1)).sum(1)
        yield Windows(
            x=_with_zeros(spectra)[places],
            labels=_with_zeros(votes)[places].sum(1).argmax(1),
            recordings=np.full(len(firsts), number),
            start_s=begins_s[firsts],
            stop_s=begins_s[places.clip(max=count - 1)[:, -1]] + how.interval_s,
        )


def _ordered(times: NDArray[np.float64], values: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Samples by rising time, one for each; of several at the same time their mean."""
    order = np.argsort(times, kind="stable")
    unique, firsts, counts = np.unique(times[order], return_index=True, return_counts=True)
    means = (np.add.reduceat(values[order], firsts) / counts[:, None]).astype(np.float32)
    return unique, means


def _stretches(
    times: Sequence[NDArray[np.float64]], gap_s: float
) -> list[tuple[np.float64, np.float64]]:
    """From when to when all sensors were heard, without a gap in any."""
    common = [(np.float64(-np.inf), np.float64(np.inf))]
    for each in times:
        breaks = np.flatnonzero(np.diff(each) >= gap_s)
        starts, stops = each[np.r_[0, breaks + 1]], each[np.r_[breaks, -1]]
        common = [
            (max(start, first), min(stop, last))
            for start, stop in zip(starts, stops, strict=True)
            for first, last in common
            if max(start, first) < min(stop, last)
        ]
    return common


def _spectra(
    grid: NDArray[np.float64], times: NDArray[np.float64], values: Floats, form: str
) -> Floats:
    """One sensor's part of each interval, (intervals, bins · axes · 2)."""
    points = np.stack([np.interp(grid, times, axis) for axis in values.T], -1)
    found = np.fft.fft(points, axis=1)
    pairs = (found.real, found.imag) if form == "complex" else (np.abs(found), np.angle(found))
    return np.stack(pairs, -1).reshape(len(grid), -1).astype(np.float32)


def _with_zeros(rows: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros_like(rows[:1])])
