"""One bit a number: its sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Promise, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import (
    beside,
    check_finite,
    namespace,
    narrowed,
)
from narrows.errors import CodecError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sign(Quantizer):
    """Keep the sign, and the same magnitude α for all.

        q = 1 where x >= 0, else -1           x' = α q
        stochastic:  q = 1 with probability clip((x / α + 1) / 2, 0, 1), else -1

    Zero is positive. What is drawn is x on average where |x| <= α.

    Args:
        scale: "none": α = 1. "mean": α is the mean of |x|, the best in squared error.
        stochastic: Whether signs are drawn; `quantize` then takes noise.

    Example:
        >>> signs = Sign(scale="mean")
        >>> x = np.array([[0.5, -1.5, 0.0, 2.0]], np.float32)
        >>> fitter = signs.fitter((4,))
        >>> fitter.add(x)
        >>> signs.dequantize(signs.quantize(x, fitter.table()), fitter.table()).tolist()
        [[1.0, -1.0, 1.0, 1.0]]

    Reference:
        Courbariaux, Bengio, David, "BinaryConnect", NIPS 2015, arXiv 1511.00363, section 2.2; the
        mean: Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net", ECCV 2016, arXiv 1603.05279, section
        3.1, here one for all.
    """

    name: ClassVar[str] = "sign"

    scale: Literal["none", "mean"] = "mean"
    stochastic: bool = False

    def __post_init__(self) -> None:
        """Refuse a scale that there is not.

        Raises:
            CodecError: It is neither "none" nor "mean".
        """
        if self.scale not in ("none", "mean"):
            msg = f"scale is {self.scale!r}: expected 'none' or 'mean'"
            raise CodecError(msg)

    @property
    def promises(self) -> frozenset[Promise]:
        """Zero becomes a sign, and draws have no order."""
        return frozenset({"once"} if self.stochastic else {"once", "order"})

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return _SignFitter(self)

    def quantize(self, x: Any, table: Table, *, noise: Any = None) -> Any:
        """Batch (n, ...) to int32 symbols of the same shape, -1 and 1.

        Args:
            x: Batch.
            table: With α.
            noise: Uniform in [0, 1), of x's shape and array library, where signs are drawn.

        Raises:
            CodecError: A value is not finite, or the noise does not fit.
        """
        check_finite(x)
        xp = namespace(x)
        positive = self._drawn(x, table, noise) if self.stochastic else x >= 0
        return 2 * xp.astype(positive, xp.int32) - 1

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols to float32 of the same shape."""
        xp = namespace(symbols)
        q = xp.astype(symbols, xp.float32)
        return q * beside(table["scale"], q, xp.float32)

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights: one each, and α."""
        return rows * columns + 32.0 * (self.scale == "mean")

    def _drawn(self, x: Any, table: Table, noise: Any) -> Any:
        if noise is None or noise.shape != x.shape:
            found = "none" if noise is None else f"{tuple(noise.shape)}"
            msg = f"drawing signs of {tuple(x.shape)} takes noise of that shape, {found} given"
            raise CodecError(msg)
        scale = beside(np.where(table["scale"] > 0, table["scale"], 1.0), x, x.dtype)
        return noise < (x / scale + 1) / 2


class _SignFitter:
    """Sums magnitudes."""

    __slots__ = ("_count", "_quantizer", "_total")

    def __init__(self, quantizer: Sign) -> None:
        self._quantizer, self._total, self._count = quantizer, 0.0, 0

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch (n, ...).

        Raises:
            CodecError: A value of it is not finite in float32, which the scale is in.
        """
        narrowed(batch)
        self._total += float(np.abs(batch).sum(dtype=np.float64))
        self._count += batch.size

    def table(self) -> Table:
        """The scale, float32."""
        mean = self._total / max(1, self._count)
        return {"scale": np.asarray(mean if self._quantizer.scale == "mean" else 1.0, np.float32)}
