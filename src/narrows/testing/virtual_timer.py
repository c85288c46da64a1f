"""Virtual time for tests of measuring: nothing is waited for, and the truth is known.

A `VirtualTimer` says how long a call takes that begins at a given time. Driven through the real
sampling code by a `VirtualClock`, thousands of sessions cost seconds, and the median of the timer
over each session's span is what its interval should contain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.measure.contender import Clock

Drift = Literal["none", "linear", "sinusoid", "steps"]

Floats = NDArray[np.floating[Any]]

_BLOCK = 256


@final
class VirtualClock(Clock):
    """Time that passes only while something works or sleeps.

    Example:
        >>> clock = VirtualClock()
        >>> clock.work(0.002, cpu_s=0.001)
        >>> clock.wall_ns(), clock.cpu_ns()
        (2000000, 1000000)
    """

    def __init__(self) -> None:
        self._wall_ns = 0
        self._cpu_ns = 0

    def wall_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._wall_ns

    def cpu_ns(self) -> int:
        """Nanoseconds of work."""
        return self._cpu_ns

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._wall_ns += round(seconds * 1e9)

    def work(self, wall_s: float, cpu_s: float | None = None) -> None:
        """Let time pass, and processor time: as much where none is given."""
        self._wall_ns += round(wall_s * 1e9)
        self._cpu_ns += round((wall_s if cpu_s is None else cpu_s) * 1e9)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTimer:
    """How long a call takes, by the time at which it begins.

    Args:
        step_s: The time axis is cut in steps of so many seconds.
        wall_s: (n,) wall time of a call that begins in each step; after the last comes the first.
        cpu_s: (n,) its processor time.
        clock: Moved on by every call.
    """

    step_s: float
    wall_s: Floats
    cpu_s: Floats
    clock: VirtualClock

    def __call__(self) -> None:
        """One call."""
        at = int(self.clock.wall_ns() / 1e9 / self.step_s) % len(self.wall_s)
        self.clock.work(float(self.wall_s[at]), float(self.cpu_s[at]))

    def between(self, from_s: float, to_s: float, *, cpu: bool = False) -> Floats:
        """Every value of the timer between two times."""
        steps = np.arange(int(from_s / self.step_s), max(1, math.ceil(to_s / self.step_s)))
        return (self.cpu_s if cpu else self.wall_s)[steps % len(self.wall_s)]


@final
class TraceTimer:
    """Recorded calls laid out in time, one after the other.

    A call that begins at some time takes as long as the next one of the record; calls that follow
    one another without a pause are neighbours of the record.

    Args:
        wall_s: (n,) wall times of the recorded calls; after the last comes the first.
        cpu_s: (n,) their processor times.
        clock: Moved on by every call.
    """

    def __init__(self, wall_s: Floats, cpu_s: Floats, clock: VirtualClock) -> None:
        self.clock = clock
        self._wall_s, self._cpu_s = np.asarray(wall_s), np.asarray(cpu_s)
        self._ends_s = np.cumsum(self._wall_s)
        self._at = 0
        self._until_ns = -1

    def __call__(self) -> None:
        """One call."""
        now_ns = self.clock.wall_ns()
        if now_ns == self._until_ns:
            self._at = (self._at + 1) % len(self._wall_s)
        else:
            self._at = int(self._next(np.asarray(now_ns / 1e9)))
        self.clock.work(float(self._wall_s[self._at]), float(self._cpu_s[self._at]))
        self._until_ns = self.clock.wall_ns()

    def between(self, from_s: float, to_s: float, *, cpu: bool = False) -> Floats:
        """What a call takes that begins at times evenly spaced between two."""
        step_s = float(np.median(self._wall_s)) / 4
        times_s = np.arange(from_s, max(to_s, from_s + step_s), step_s)
        return np.asarray((self._cpu_s if cpu else self._wall_s)[self._next(times_s)])

    def _next(self, times_s: Floats) -> NDArray[np.intp]:
        running = np.searchsorted(self._ends_s, times_s % self._ends_s[-1], side="right")
        return np.asarray((running + 1) % len(self._wall_s))


def unsteady_timer(
    drift: Drift,
    correlation: float,
    *,
    seed: int,
    call_s: float = 2e-3,
    length_s: float = 30.0,
    noise: float = 0.03,
    depth: float = 0.08,
) -> VirtualTimer:
    """A timer with drift, autocorrelated noise and rare slow bursts.

    log(T / call_s) = drift + AR(1) noise + bursts. Bursts take 1.5 % of the time, 50 ms each on
    average, and make calls 1.6 times as long.

    Args:
        drift: "linear" (`depth` in four seconds), "sinusoid" (`depth` from crest to trough in four
            seconds, any phase), "steps" (between two levels `depth` apart, 1.5 s each on average).
        correlation: Between the noise of one step and the next, a step being `call_s` long.
        seed: Of all that is random.
        call_s: Wall time of an undisturbed call; also the step of the time axis.
        length_s: Length of the time axis.
        noise: Standard deviation of the noise.
        depth: Of the drift.
    """
    rng = np.random.default_rng((seed, 1))  # not the numbers of the schedule's seed
    steps = math.ceil(length_s / call_s)
    times_s = np.arange(steps) * call_s
    logs = _drift(drift, times_s, depth, rng) + noise * _autoregressive(correlation, steps, rng)
    logs = logs + math.log(1.6) * _telegraph(times_s, 50e-3, 3.3, rng)
    wall_s = call_s * np.exp(logs)
    return VirtualTimer(step_s=call_s, wall_s=wall_s, cpu_s=wall_s, clock=VirtualClock())


def _drift(drift: Drift, times_s: Floats, depth: float, rng: np.random.Generator) -> Floats:
    if drift == "linear":
        return depth * times_s / 4.0
    if drift == "sinusoid":
        return np.asarray(depth / 2 * np.sin(2 * np.pi * (times_s / 4.0 + rng.random())))
    if drift == "steps":
        return depth * _telegraph(times_s, 1.5, 1.5, rng)
    return np.zeros_like(times_s)


def _telegraph(times_s: Floats, high_s: float, low_s: float, rng: np.random.Generator) -> Floats:
    """1 for times of `high_s` on average, 0 for times of `low_s`, in turns."""
    turns = 8 + int(4 * times_s[-1] / (high_s + low_s))
    lengths = rng.exponential(1.0, (turns, 2)) * (low_s, high_s)
    edges = np.cumsum(lengths.ravel()) - rng.random() * (high_s + low_s)
    return (np.searchsorted(edges, times_s) % 2).astype(np.float64)


def _autoregressive(correlation: float, steps: int, rng: np.random.Generator) -> Floats:
    """x[t] = c x[t-1] + sqrt(1 - c²) e[t], of variance one; block by block, a product for each."""
    blocks = math.ceil(steps / _BLOCK) + 1
    kicks = rng.standard_normal((blocks, _BLOCK)) * math.sqrt(1 - correlation**2)
    lags = np.arange(_BLOCK)
    weights = np.tril(correlation ** np.abs(np.subtract.outer(lags, lags)).astype(np.float64))
    within = kicks @ weights.T
    last = np.empty(blocks)
    last[0] = rng.standard_normal()
    for block in range(1, blocks):
        last[block] = within[block - 1, -1] + correlation**_BLOCK * last[block - 1]
    carried = np.multiply.outer(last, correlation ** (lags + 1.0))
    return np.asarray((within + carried).ravel()[:steps])
