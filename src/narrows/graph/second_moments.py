"""Means and covariances of what each weight is multiplied with, over real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError, ModelError
from narrows.graph.calibrate import small_batches
from narrows.graph.load import Model
from narrows.graph.ort import run, session
from narrows.graph.weight_matrices import WeightMatrix

Array = NDArray[Any]

_RUN_BYTES: Final = 128 << 20  # of activations at once
_SAMPLE_ROWS: Final = 160  # of each sample: windows of one picture resemble each other


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Of the inputs of one weight's sums.

    Args:
        mean: (groups, columns), float64.
        covariance: (groups, columns, columns), float64.
        count: Samples seen.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int


def input_moments(
    model: Model,
    weights: Sequence[WeightMatrix],
    samples: Iterable[Array],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Moments]:
    """Moments by the name of the weight, of those whose sums are followed.

    Args:
        model: The network, in floating point.
        weights: Of it.
        samples: Batches in the model's input layout; read once, a little at a time.
        threads: Threads inside an operator.
        progress: Called with the number of samples that are finished.

    Raises:
        InputError: There are no samples, or they do not fit the input or are not finite.
        ModelError: An activation is not finite.
    """
    followed = [weight for weight in weights if weight.data is not None]
    names = sorted({str(weight.data) for weight in followed} - {model.input.name})
    running = session(model.proto, threads=threads, outputs=names) if names else None
    per_sample = sum(model.tensors[name].size_bytes for name in names)
    sums = {weight.name: _Sums() for weight in followed}
    seen = 0
    for batch in small_batches(model, samples, max(1, _RUN_BYTES // max(1, per_sample))):
        arrays = run(running, {model.input.name: batch}, names) if running else []
        held = {model.input.name: batch, **dict(zip(names, arrays, strict=True))}
        count = batch.shape[model.input.batch_axis or 0]
        for weight in followed:
            sums[weight.name].add(weight, held[str(weight.data)], _SAMPLE_ROWS * count)
        seen += count
        progress(count)
    if not seen:
        msg = "no samples to round weights by: give some of the fit set, a few hundred are usual"
        raise InputError(msg)
    return {name: one.moments(name) for name, one in sums.items()}


@final
class _Sums:
    """Sums of products, of one weight."""

    def __init__(self) -> None:
        self._first: NDArray[np.float64] | None = None
        self._second: NDArray[np.float64] | None = None
        self._near: Array | None = None
        self._count = 0

    def add(self, weight: WeightMatrix, data: Array, most: int) -> None:
        x = weight.windows(data, most)
        # From about their mean, or squares of inputs far from zero would drown what varies.
        self._near = x.mean(1, keepdims=True) if self._near is None else self._near
        x = x - self._near
        first = x.sum(1, dtype=np.float64)
        # In float32, which is many times faster; a batch is small enough for its digits.
        second = np.matmul(x.transpose(0, 2, 1), x).astype(np.float64)
        self._first = first if self._first is None else self._first + first
        self._second = second if self._second is None else self._second + second
        self._count += x.shape[1]

    def moments(self, name: str) -> Moments:
        assert self._first is not None
        assert self._second is not None
        assert self._near is not None
        mean = self._first / self._count
        covariance = self._second / self._count - mean[:, :, None] * mean[:, None, :]
        if not np.isfinite(covariance).all():
            msg = f"inputs of {name!r} are NaN or infinite on a sample: look at the preprocessing"
            raise ModelError(msg)
        return Moments(mean=mean + self._near[:, 0], covariance=covariance, count=self._count)
