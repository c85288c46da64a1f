"""Affine quantizer: a scale and a zero point, as int8 inference uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import (
    beside,
    check_finite,
    namespace,
    narrowed,
)
from narrows.errors import CodecError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Quantizer):
    """Spread the symbols of a few bits evenly from the least to the greatest value seen.

    q = clip(round(x / scale) + zero_point, -2**(bits - 1), 2**(bits - 1) - 1)
    x' = (q - zero_point) * scale

    The range is stretched to hold zero, and zero is a symbol. Ties round up: the fraction is
    compared with a half. What lies outside the fitted range is clipped.

    Args:
        bits: Width of one symbol, 2 to 8.
        granularity: One scale for the whole "tensor", or one for each "channel".

    Example:
        >>> int8 = Affine()
        >>> x = np.array([[-1.0, 0.0, 3.0]], np.float32)
        >>> fitter = int8.fitter((3,))
        >>> fitter.add(x)
        >>> int8.quantize(x, fitter.table()).tolist()
        [[-128, -64, 127]]

    Reference:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and Training of
        Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 2.1.
    """

    name: ClassVar[str] = "affine"

    bits: int = 8
    granularity: Literal["tensor", "channel"] = "tensor"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or self.granularity not in ("tensor", "channel"):
            msg = (
                f"bits must be 2 to 8 and granularity 'tensor' or 'channel', {self.bits} and "
                f"{self.granularity!r} given; e.g. Affine(bits=8, granularity='channel')"
            )
            raise CodecError(msg)

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return _AffineFitter(self, shape)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, channels, positions...) to int32 symbols of the same shape.

        Raises:
            CodecError: A value is not finite, or the table does not fit.
        """
        xp = namespace(x)
        check_finite(x)
        scale = beside(table["scale"], x, x.dtype)
        zero_point = beside(table["zero_point"], x, x.dtype)
        scaled = x / scale
        floor = xp.floor(scaled)
        q = xp.where(scaled - floor >= 0.5, floor + 1, floor) + zero_point
        half = 2 ** (self.bits - 1)
        return xp.astype(xp.clip(q, float(-half), float(half - 1)), xp.int32)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols (n, channels, positions...) to float32 of the same shape.

        Raises:
            CodecError: The table does not fit.
        """
        xp = namespace(symbols)
        q = xp.astype(symbols, xp.float32)
        zero_point = beside(table["zero_point"], q, xp.float32)
        return (q - zero_point) * beside(table["scale"], q, xp.float32)

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights: the symbols, and a scale and a zero point, or one a row.

        Example:
            >>> Affine(bits=4, granularity="channel").weight_bits(10, 100) / 1000
            4.36
        """
        scales = rows if self.granularity == "channel" else 1
        return float(self.bits * rows * columns + scales * (32 + self.bits))


class _AffineFitter:
    """Keeps the least and the greatest value, of all or of each channel."""

    __slots__ = ("_high", "_low", "_quantizer")

    def __init__(self, quantizer: Affine, shape: Shape) -> None:
        self._quantizer = quantizer
        kept = shape[:1] if quantizer.granularity == "channel" else ()
        self._low = np.zeros(kept, np.float64)
        self._high = np.zeros(kept, np.float64)

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch (n, channels, positions...).

        Raises:
            CodecError: A value of it is not finite in float32, which the scale is in.
        """
        narrowed(batch)
        if batch.shape[0] == 0:
            return
        others = tuple(axis for axis in range(batch.ndim) if self._low.ndim == 0 or axis != 1)
        self._low = np.minimum(self._low, batch.min(others))
        self._high = np.maximum(self._high, batch.max(others))

    def table(self) -> Table:
        """The scale (float32) and the zero point (int32): one each, or one per channel."""
        levels = 2**self._quantizer.bits - 1
        scale = ((self._high - self._low) / levels).astype(np.float32)
        scale = np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)
        half = 2 ** (self._quantizer.bits - 1)
        zero_point = np.clip(np.rint(-half - self._low / scale), -half, half - 1)
        return {"scale": scale, "zero_point": zero_point.astype(np.int32)}
