"""Measurement: raw samples, unit, interval and environment of one quantity.

Consecutive calls are far from independent (autocorrelation 0.9 was measured), so an interval over
calls is wrong half the time. Samples therefore come in *rounds* spread over the session; the
estimate is the median of the round medians and its interval is made of their order statistics,
which assumes no distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.environment import Environment

_P99_SAMPLES = 1000
_LEVEL = 0.95


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
        contended_rounds: For each round whether something else held the processor.

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
        if self.cpu_samples and len(self.cpu_samples) != len(self.samples):
            msg = (
                f"{self.name!r}: {len(self.cpu_samples)} CPU times for"
                f" {len(self.samples)} samples: give one each"
            )
            raise MeasureError(msg)

    @property
    def round_medians(self) -> tuple[float, ...]:
        """Median of every round, in order."""
        if not self.round_sizes:
            return self.samples
        edges = np.cumsum(self.round_sizes)[:-1]
        return tuple(float(np.median(part)) for part in np.split(self._array, edges))

    @property
    def median(self) -> float:
        """Median of the round medians: the estimate."""
        return float(np.median(self.round_medians))

    @property
    def mean(self) -> float:
        """Mean over all samples."""
        return float(self._array.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the median by order statistics of the round medians.

        At least 95 % where there are six rounds or more; below that the widest there is, the
        smallest and the largest, and `coverage` says what it is worth.
        """
        return order_interval(self.round_medians)

    @property
    def coverage(self) -> float:
        """Nominal coverage of `interval`, between 0 and 1."""
        count = len(self.round_medians)
        return _coverage(count, _rank(count))

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


def order_interval(values: tuple[float, ...]) -> tuple[float, float]:
    """Distribution-free interval of the median: the k-th smallest and the k-th largest value.

    Example:
        >>> order_interval(tuple(float(i) for i in range(1, 11)))
        (2.0, 9.0)
    """
    ranked = sorted(values)
    k = _rank(len(ranked))
    return ranked[k - 1], ranked[len(ranked) - k]


def _rank(count: int) -> int:
    """Largest k whose interval still covers 95 %; 1 where none does."""
    k = 1
    while 2 * (k + 1) <= count and _coverage(count, k + 1) >= _LEVEL:
        k += 1
    return k


def _coverage(count: int, k: int) -> float:
    """P(k-th smallest < median < k-th largest) for independent rounds: 1 - 2 P(Bin(n, ½) < k)."""
    below: int = sum(math.comb(count, i) for i in range(k))
    return max(0.0, 1.0 - 2.0 * below / float(2**count))
