"""The range of every activation over real samples, for 8-bit integers; nothing is kept but counts.

samples ──network──► activations ──► least and largest value, and a histogram where one is needed
method   range
minmax      all values that were seen
percentile  all but one in ten thousand at either end
mse         the one whose rounding and clipping lose the least squared error
entropy     the one whose quantized distribution diverges least from the true one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError, ModelError
from narrows.graph.load import Model
from narrows.graph.ort import run, session
from narrows.task import Task

Method = Literal["minmax", "percentile", "mse", "entropy"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
Range = tuple[float, float]
Array = NDArray[Any]

_RUN_BYTES: Final = 256 << 20  # of activations at once
_BINS: Final = 8192
_FARTHEST: Final = 2**31  # bins from zero, so that their numbers stay exact
_LEVELS: Final = 256
_TAIL: Final = 1e-4
_CANDIDATES: Final = 100


@final
class Histogram:
    """Counts of values in bins whose width is a power of two that grows with the range.

    Bins lie at whole multiples of the width, so the counts depend on the values alone, not on
    their order or how they were divided into batches.

    Example:
        >>> counted = Histogram(bins=4)
        >>> counted.add(np.array([0.5, 1.0, 2.5, 0.0])); counted.add(np.array([7.0]))
        >>> counted.width, counted.counts.tolist(), counted.centres.tolist()
        (2.0, [2, 1, 0, 1], [1.0, 3.0, 5.0, 7.0])
    """

    def __init__(self, *, bins: int = _BINS) -> None:
        self._bins = bins
        self._exponent = -126
        self._first = 0
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def width(self) -> float:
        """Of a bin."""
        return 2.0**self._exponent

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of the bins."""
        places = self._first + np.arange(len(self.counts), dtype=np.float64)
        found: NDArray[np.float64] = (places + 0.5) * self.width
        return found

    def add(self, values: Array) -> None:
        """Count finite values; zeros, which every range holds exactly, are left out."""
        values = values[values != 0]
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        while self._span(low, high) > self._bins or max(-low, high) > _FARTHEST * self.width:
            self._widen()
        scaled = np.floor(values.reshape(-1) / np.asarray(self.width, np.float64)).astype(np.int64)
        first, last = int(scaled.min()), int(scaled.max())
        if len(self.counts):
            first = min(first, self._first)
            last = max(last, self._first + len(self.counts) - 1)
        counts = np.bincount(scaled - first, minlength=last - first + 1)
        start = self._first - first
        counts[start : start + len(self.counts)] += self.counts
        self._first, self.counts = first, counts

    def _span(self, low: float, high: float) -> float:
        first, last = np.floor(low / self.width), np.floor(high / self.width)
        if len(self.counts):
            first = min(first, self._first)
            last = max(last, self._first + len(self.counts) - 1)
        return float(last - first + 1)

    def _widen(self) -> None:
        if len(self.counts):
            places = (self._first + np.arange(len(self.counts))) // 2
            self._first = int(places[0])
            merged = np.zeros(int(places[-1]) - self._first + 1, np.int64)
            np.add.at(merged, places - self._first, self.counts)
            self.counts = merged
        self._exponent += 1


def activation_ranges(
    model: Model,
    names: Sequence[str],
    samples: Iterable[Array],
    *,
    method: Method = "minmax",
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Range]:
    """Least and largest value to represent of each tensor.

    Args:
        model: The network, in floating point.
        names: Which tensors; the input may be among them.
        samples: Batches in the model's input layout; read once, a little at a time.
        method: How a range follows from the values.
        threads: Threads inside an operator.
        progress: Called with the number of samples that are finished.

    Raises:
        InputError: There are no samples, or they do not fit the input or are not finite.
        ModelError: An activation is not finite; the method is unknown.
    """
    if method not in METHODS:
        msg = f"no calibration method {method!r}: give one of {', '.join(METHODS)}"
        raise ModelError(msg)
    watched = {name: _Watched(name, counted=method != "minmax") for name in names}
    inner = [name for name in names if name != model.input.name]
    running = session(model.proto, threads=threads, outputs=inner or None)
    per_sample = sum(model.tensors[name].size_bytes for name in inner)
    seen = 0
    for batch in small_batches(model, samples, max(1, _RUN_BYTES // max(1, per_sample))):
        arrays = run(running, {model.input.name: batch}, inner) if inner else []
        for name, array in (*zip(inner, arrays, strict=True), (model.input.name, batch)):
            if name in watched:
                watched[name].add(array)
        count = batch.shape[model.input.batch_axis or 0]
        seen += count
        progress(count)
    if not seen:
        msg = "calibration got no samples: give some of the fit set, a hundred are usual"
        raise InputError(msg)
    return {name: one.range(method) for name, one in watched.items()}


def small_batches(model: Model, samples: Iterable[Array], most: int) -> Iterator[Array]:
    """Checked batches of at most so many samples."""
    given = model.input
    axis = given.batch_axis or 0
    for samples_in in samples:
        batch = np.asarray(samples_in)
        shape = (*batch.shape[:axis], *batch.shape[axis + 1 :])
        if batch.ndim <= axis or shape != given.shape:
            msg = (
                f"calibration got a batch of shape {batch.shape}; the input {given.name!r} takes "
                f"samples of shape {given.shape}, one entry for each on axis {axis}"
            )
            raise InputError(msg)
        if batch.dtype.kind == "f" and not np.isfinite(batch).all():
            msg = "calibration got samples with values that are NaN or infinite: leave them out"
            raise InputError(msg)
        for start in range(0, batch.shape[axis], most):
            part = batch.take(range(start, min(start + most, batch.shape[axis])), axis)
            yield np.ascontiguousarray(part, given.dtype)


class _Watched:
    """What is kept of one tensor."""

    def __init__(self, name: str, *, counted: bool) -> None:
        self._name = name
        self._low, self._high = np.inf, -np.inf
        self._histogram = Histogram() if counted else None

    def add(self, array: Array) -> None:
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        if not np.isfinite([low, high]).all():
            msg = (
                f"tensor {self._name!r} is NaN or infinite on a calibration sample: look at the "
                "preprocessing and at the model's weights"
            )
            raise ModelError(msg)
        self._low, self._high = min(self._low, low), max(self._high, high)
        if self._histogram is not None:
            self._histogram.add(array)

    def range(self, method: Method) -> Range:
        low, high = self._low, self._high
        if self._histogram is None or not len(self._histogram.counts):
            return low, high
        counts, centres = self._histogram.counts, np.clip(self._histogram.centres, low, high)
        if method == "percentile":
            return _percentile(counts, centres, (low, high))
        lost = _squared_error if method == "mse" else _divergence
        # Below it a level would be narrower than a bin, and rounding could not be seen.
        smallest = min(0.5, _LEVELS * self._histogram.width / (max(high, 0.0) - min(low, 0.0)))
        shares = np.geomspace(1.0, smallest, _CANDIDATES)
        candidates = [(low * share, high * share) for share in shares]
        return min(candidates, key=lambda found: lost(counts, centres, *found))


def _percentile(counts: NDArray[np.int64], centres: NDArray[np.float64], whole: Range) -> Range:
    shares = np.cumsum(counts) / counts.sum()
    low, high = whole
    if low < 0:
        low = float(centres[np.searchsorted(shares, _TAIL)])
    if high > 0:
        place = min(int(np.searchsorted(shares, 1 - _TAIL)), len(centres) - 1)
        high = float(centres[place])
    return max(low, whole[0]), min(high, whole[1])


def _levels(centres: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The level each value is rounded to, 0 … 255 between low and high."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (_LEVELS - 1)
    found: NDArray[np.float64] = np.clip(np.rint((centres - low) / step), 0, _LEVELS - 1)
    return found


def _squared_error(
    counts: NDArray[np.int64], centres: NDArray[np.float64], low: float, high: float
) -> float:
    start, end = min(low, 0.0), max(high, 0.0)
    restored = start + _levels(centres, low, high) * (end - start) / (_LEVELS - 1)
    return float((counts * (centres - restored) ** 2).sum())


def _divergence(
    counts: NDArray[np.int64], centres: NDArray[np.float64], low: float, high: float
) -> float:
    """KL(what was seen, clipped || the same spread evenly over the bins of each level)."""
    levels = _levels(centres, low, high).astype(np.int64)
    inside = (centres >= min(low, 0.0)) & (centres <= max(high, 0.0))
    # What is clipped lies in the last bin inside, which the quantized distribution does not know.
    clipped = np.where(inside, counts, 0).astype(np.float64)
    places = np.flatnonzero(inside)
    if not len(places):
        return math.inf
    clipped[places[0]] += counts[: places[0]].sum()
    clipped[places[-1]] += counts[places[-1] + 1 :].sum()
    filled = inside & (counts > 0)
    held = np.bincount(levels[filled], counts[filled], minlength=_LEVELS)
    bins = np.bincount(levels[filled], minlength=_LEVELS)
    spread = np.where(filled, (held / np.maximum(bins, 1))[levels], 0.0)
    true, found = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    both = true > 0
    return float((true[both] * np.log(true[both] / np.maximum(found[both], 1e-12))).sum())


def fit_batches(task: Task, model: Model, count: int) -> Iterator[Array]:
    """Calibration samples of a task: `count` of its fit set, spread over it, one at a time.

    Args:
        task: With the model's preprocessing.
        model: Whose input layout they are given in.
        count: How many at most.

    Yields:
        Batches of one.
    """
    total, axis = len(task.fit), model.input.batch_axis or 0
    taken = min(count, total)
    for place in range(taken):
        row = place * total // taken
        inputs, _ = task.inputs(task.fit, row, row + 1)
        yield np.moveaxis(inputs, 0, axis)
