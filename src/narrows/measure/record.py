"""Measurement: raw samples, unit, interval and environment of one quantity.

Consecutive calls are far from independent (autocorrelation 0.9 was measured), so an interval over
calls is wrong half the time. Samples therefore come in *rounds* at random times of a session; the
estimate is the median of all calls, and how much the rounds disagree about it makes its interval
(`narrows.measure.order_statistics`), and how much the processes do, where there were several
(`narrows.measure.process_level`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.environment import Environment
from narrows.measure.order_statistics import coverage_of_rounds, median_of_rounds
from narrows.measure.process_level import interval_of_both
from narrows.measure.student import t_interval

LEAST_COVERAGE = 0.9
"""Intervals of fewer samples tell nothing apart."""

_P99_SAMPLES = 1000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Samples of one quantity.

    Args:
        name: What was measured, its unit in the name: "latency_s", "size_bytes".
        unit: "s", "B", "J", ...
        samples: Every raw value, in the order it was taken.
        environment: Where.
        round_sizes: How many of the samples belong to each round; empty: each is its own round.
        cpu_samples: CPU time of each sample in seconds where it was taken beside wall time.
        contended_rounds: For each round whether something else held the processor,
        round_reasons: and what showed it.
        round_starts_s: When each round began, in seconds since the session did.
        round_processes: Which process made each round's calls, counted from zero.
        settled: For each process whether its warm-up settled.
        session_s: How long the session was.
        target: Half-width that was asked for, as a share of the estimate, or None.
        reached: Whether it was reached, or None where none was asked for.
        rule: "rounds", or "paper": the samples are consecutive calls, the interval is Student's of
            their mean.

    Raises:
        MeasureError: No samples, or round sizes that do not add up.

    Example:
        >>> from narrows.measure.environment import environment
        >>> tuple_of_sizes = Measurement(
        ...     name="size_bytes", unit="B", samples=(4096.0,), environment=environment()
        ... )
        >>> tuple_of_sizes.median, tuple_of_sizes.interval
        (4096.0, (4096.0, 4096.0))
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    environment: Environment
    round_sizes: tuple[int, ...] = ()
    cpu_samples: tuple[float, ...] = ()
    contended_rounds: tuple[bool, ...] = ()
    round_reasons: tuple[tuple[str, ...], ...] = ()
    round_starts_s: tuple[float, ...] = ()
    round_processes: tuple[int, ...] = ()
    settled: tuple[bool, ...] = ()
    session_s: float = 0.0
    target: float | None = None
    reached: bool | None = None
    rule: Literal["rounds", "paper"] = "rounds"

    def __post_init__(self) -> None:
        if not self.samples:
            msg = f"cannot make {self.name!r} of no samples: measure at least once"
            raise MeasureError(msg)
        if self.round_sizes and sum(self.round_sizes) != len(self.samples):
            msg = (
                f"{self.name!r}: rounds of {self.round_sizes} samples, but there are"
                f" {len(self.samples)}: give every round its size"
            )
            raise MeasureError(msg)
        if self.round_processes and len(self.round_processes) != len(self.rounds):
            msg = (
                f"{self.name!r}: {len(self.round_processes)} processes for {len(self.rounds)}"
                " rounds: give each round the number of its process"
            )
            raise MeasureError(msg)
        if self.cpu_samples and len(self.cpu_samples) != len(self.samples):
            msg = (
                f"{self.name!r}: {len(self.cpu_samples)} CPU times for"
                f" {len(self.samples)} samples: give one each"
            )
            raise MeasureError(msg)

    @property
    def rounds(self) -> tuple[tuple[float, ...], ...]:
        """Samples of every round; each sample is its own round where no sizes were given."""
        edges = np.cumsum(self.round_sizes or (1,) * len(self.samples)).tolist()
        starts = [0, *edges[:-1]]
        return tuple(self.samples[a:b] for a, b in zip(starts, edges, strict=True))

    @property
    def round_medians(self) -> tuple[float, ...]:
        """Median of every round, in order."""
        if not self.round_sizes:
            return self.samples
        return tuple(float(np.median(part)) for part in self.rounds)

    @property
    def median(self) -> float:
        """Median of all samples, every round of the same weight however many it has."""
        return median_of_rounds(self.rounds)

    @property
    def mean(self) -> float:
        """Mean over all samples."""
        return float(self._array.mean())

    @property
    def estimate(self) -> float:
        """What `interval` is about: the median, or by the paper's rule the mean."""
        return self.mean if self.rule == "paper" else self.median

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the median by how the rounds disagree; at least 95 % from six rounds on.

        Below that the widest there is, the smallest and the largest sample, and `coverage` says
        what it is worth. Where several processes made the rounds it is no narrower than how these
        disagree. By the paper's rule Student's interval of the mean.
        """
        if self.rule == "paper":
            return t_interval(self.samples)
        return interval_of_both(self.rounds, self.round_processes)

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the estimate."""
        low, high = self.interval
        return (high - low) / 2 / self.estimate if self.estimate else 0.0

    @property
    def coverage(self) -> float:
        """Nominal coverage of `interval`, between 0 and 1."""
        return 0.95 if self.rule == "paper" else coverage_of_rounds(len(self.rounds))

    @property
    def p50(self) -> float:
        """50th percentile of all samples."""
        return float(np.quantile(self._array, 0.5))

    @property
    def p90(self) -> float:
        """90th percentile of all samples."""
        return float(np.quantile(self._array, 0.9))

    @property
    def p99(self) -> float | None:
        """99th percentile of all samples, or None: it takes 1 000 samples to say anything."""
        return float(np.quantile(self._array, 0.99)) if len(self.samples) >= _P99_SAMPLES else None

    @property
    def contended(self) -> bool:
        """Whether more than half of the rounds shared the processor; then trust `cpu` alone."""
        return 2 * sum(self.contended_rounds) > len(self.contended_rounds)

    @property
    def telling(self) -> bool:
        """Whether the interval may tell it from something else: enough rounds, not contended."""
        return self.coverage >= LEAST_COVERAGE and not self.contended

    @property
    def cpu(self) -> Measurement:
        """The same calls by the CPU time of this process, which other load hardly moves.

        Raises:
            MeasureError: CPU time was not taken.
        """
        if not self.cpu_samples:
            msg = f"{self.name!r} has no CPU times: measure it with narrows.measure.latency"
            raise MeasureError(msg)
        return Measurement(
            name=f"cpu_{self.name}",
            unit=self.unit,
            samples=self.cpu_samples,
            environment=self.environment,
            round_sizes=self.round_sizes,
            round_starts_s=self.round_starts_s,
            round_processes=self.round_processes,
            session_s=self.session_s,
            rule=self.rule,
        )

    @property
    def _array(self) -> NDArray[np.float64]:
        return np.asarray(self.samples, dtype=np.float64)


def check_comparable(first: Measurement, second: Measurement) -> None:
    """Refuse to compare what was measured in two environments.

    Raises:
        MeasureError: The units or the environments differ.
    """
    if first.unit != second.unit:
        msg = (
            f"cannot compare {first.name!r} in {first.unit} with {second.name!r} in {second.unit}:"
            " measure the same quantity"
        )
        raise MeasureError(msg)
    one, two = first.environment, second.environment
    if one.key != two.key:
        msg = (
            f"cannot compare {first.name!r} ({one.cpu_model}, {one.threads} threads,"
            f" onnxruntime {one.onnxruntime}) with {second.name!r} ({two.cpu_model},"
            f" {two.threads} threads, onnxruntime {two.onnxruntime}):"
            " measure both in one environment"
        )
        raise MeasureError(msg)
