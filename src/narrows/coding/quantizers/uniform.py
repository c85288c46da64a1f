"""Uniform quantizer with a dead zone, on NumPy arrays and torch tensors alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import beside, check_finite, namespace
from narrows.errors import CodecError

LARGEST_SYMBOL = 2**30
"""Symbols are clipped here; exact in float32, far from the end of int32."""
_LEAST_STEP = 1e-20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(Quantizer):
    """Divide by a step and round the magnitude up from a threshold on.

    q = sign(y) * floor(|y| / step + 1 - threshold)
    y' = sign(q) * (|q| - shift) * step

    The fraction of |y| / step is compared with the threshold, so a tie (a fraction equal to it)
    goes away from zero and no addition rounds: 0.49999997 stays 0. A threshold of 0.5 is plain
    rounding; a larger one is a dead zone of 2 * threshold steps. One step for all components is
    reverse water-filling, the right choice for the components of a PCA.

    Args:
        step: Width of a bin, one for all components or one each; the knob of the rate.
        threshold: From which fraction on a magnitude is rounded up, in (0, 1).
        shift: How far reconstruction points move towards zero, in steps; below 1 - threshold, so
            that they stay in their bins.
        fit_shift: Fit the shift of each component, so that a symbol stands for the mean of what
            becomes it (all symbols of a component share one shift; below zero it is held at zero).

    Example:
        >>> grid = Uniform(step=0.5, threshold=0.6)
        >>> table = grid.fitter((1,)).table()
        >>> symbols = grid.quantize(np.array([[0.29], [0.31], [-0.8]], np.float32), table)
        >>> symbols.ravel().tolist()
        [0, 1, -2]
        >>> grid.dequantize(symbols, table).ravel().tolist()
        [0.0, 0.5, -1.0]

    Reference:
        Sullivan, "Efficient Scalar Quantization of Exponential and Laplacian Random Variables",
        IEEE Transactions on Information Theory 42(5), 1996: uniform thresholds with a dead zone
        and shifted reconstruction points.
    """

    name: ClassVar[str] = "uniform"

    step: float | tuple[float, ...] = 1.0
    threshold: float = 0.5
    shift: float = 0.0
    fit_shift: bool = False

    def __post_init__(self) -> None:
        steps = self.step if isinstance(self.step, tuple) else (self.step,)
        if not steps or not all(_LEAST_STEP <= step <= 1 / _LEAST_STEP for step in steps):
            msg = (
                f"steps must be from {_LEAST_STEP} to {1 / _LEAST_STEP}, {self.step} given; "
                "e.g. Uniform(step=0.5)"
            )
            raise CodecError(msg)
        if not 0 < self.threshold < 1 or not 0 <= self.shift <= _most_shift(self.threshold):
            msg = (
                f"threshold must be in (0, 1) and shift in [0, 1 - threshold), {self.threshold} "
                f"and {self.shift} given; 0.5 and 0 are plain rounding"
            )
            raise CodecError(msg)

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape; only `fit_shift` needs samples.

        Raises:
            CodecError: The number of steps is not the number of components.
        """
        steps = np.asarray(self.step, np.float32)
        if steps.ndim and steps.shape != shape[:1]:
            msg = (
                f"{steps.size} steps given for {shape[0] if shape else 0} components; "
                "give one for all, or one each"
            )
            raise CodecError(msg)
        return _UniformFitter(self, shape, steps)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, components, positions...) to int32 symbols of the same shape.

        Raises:
            CodecError: A value is not finite, or the table does not fit.
        """
        xp = namespace(x)
        check_finite(x)
        step = beside(table["step"], x, x.dtype)
        threshold = beside(table["threshold"], x, x.dtype)
        magnitude = xp.minimum(xp.abs(x), step * float(LARGEST_SYMBOL)) / step
        floor = xp.floor(magnitude)
        levels = xp.where(magnitude - floor >= threshold, floor + 1, floor)
        return xp.astype(xp.sign(x) * levels, xp.int32)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols (n, components, positions...) to float32 of the same shape.

        Raises:
            CodecError: The table does not fit.
        """
        xp = namespace(symbols)
        q = xp.astype(symbols, xp.float32)
        step, shift = (beside(table[name], q, xp.float32) for name in ("step", "shift"))
        return xp.sign(q) * (xp.abs(q) - shift) * step


def _most_shift(threshold: float) -> float:
    """Just below what would put reconstruction points on the edges of their bins."""
    return (1 - threshold) * (1 - 2**-10)


class _UniformFitter:
    """Sums, per component, by how much the magnitudes stay below their symbols."""

    __slots__ = ("_count", "_deficit", "_quantizer", "_table")

    def __init__(self, quantizer: Uniform, shape: Shape, steps: NDArray[np.float32]) -> None:
        self._quantizer = quantizer
        self._table = {
            "step": steps,
            "threshold": np.asarray(quantizer.threshold, np.float32),
            "shift": np.asarray(quantizer.shift, np.float32),
        }
        self._deficit = np.zeros(shape[:1], np.float64)
        self._count = np.zeros(shape[:1], np.int64)

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch (n, components, positions...)."""
        if not self._quantizer.fit_shift:
            return
        symbols = np.abs(self._quantizer.quantize(batch, self._table))
        steps = beside(self._table["step"], batch, np.float64)
        deficit = np.where(symbols > 0, symbols - np.abs(batch) / steps, 0.0)
        others = (0, *range(2, batch.ndim))
        self._deficit += deficit.sum(others)
        self._count += (symbols > 0).sum(others)

    def table(self) -> Table:
        """Step, threshold and shift: one each, or one per component."""
        if not self._quantizer.fit_shift:
            return dict(self._table)
        most = _most_shift(self._quantizer.threshold)
        shift = (self._deficit / np.maximum(self._count, 1)).clip(0, most)
        return {**self._table, "shift": shift.astype(np.float32)}
