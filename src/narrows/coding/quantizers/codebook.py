"""A codebook: a few values, placed by k-means, that all numbers share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Promise, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import check_finite, check_whole, entries, namespace
from narrows.coding.quantizers.keeping import KeepingFitter
from narrows.coding.quantizers.kmeans import Start, line_centres
from narrows.errors import CodecError

MOST_LEVELS: Final = 2**16
_STARTS: Final = ("linear", "density", "random")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Codebook(Quantizer):
    """Each number is the place of the nearest of k centres, which are those of k-means on a line.

        q = argmin_j |x - c_j| - argmin_j |c_j|,   min over c of Σ (x - c_q)²

    Places are counted from the centre that was nearest to zero when they were placed, so that small
    numbers are small symbols, as coders have it. One codebook is for all components together. Ties
    go to the lower centre. The fitter keeps all numbers that it is given.

    Args:
        levels: k, 2 to 65 536. Where fewer numbers differ there are fewer centres.
        start: Where k-means begins: "linear" spreads centres evenly from the least number to the
            greatest, "density" evenly over the numbers, "random" takes some of the numbers.
        reserve_zero: One level is zero and stands for numbers that are zero and no others, which
            share the k - 1 centres that are left: what was pruned stays so, and is no cluster.
        seed: Of a random start.

    Example:
        >>> shared = Codebook(levels=3, reserve_zero=True)
        >>> x = np.array([[0.0, 0.9, 1.1, -2.0, 0.0]], np.float32)
        >>> fitter = shared.fitter((5,))
        >>> fitter.add(x)
        >>> symbols = shared.quantize(x, fitter.table())
        >>> symbols.tolist(), shared.dequantize(symbols, fitter.table()).tolist()
        ([[0, 1, 1, -1, 0]], [[0.0, 1.0, 1.0, -2.0, 0.0]])

    Reference:
        Gong, Liu, Yang, Bourdev, "Compressing Deep Convolutional Networks using Vector
        Quantization", 2014, arXiv 1412.6115, section 3.2; Han, Mao, Dally, "Deep Compression", ICLR
        2016, arXiv 1510.00149, section 3, for the starts. Departs from the papers: a centre without
        numbers divides the cluster of the largest squared error.
    """

    name: ClassVar[str] = "codebook"

    levels: int = 16
    start: Start = "linear"
    reserve_zero: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no codebook.

        Raises:
            CodecError: A value is out of its range.
        """
        check_whole(levels=self.levels)
        if not 2 <= self.levels <= MOST_LEVELS or self.start not in _STARTS:
            msg = (
                f"levels {self.levels} and start {self.start!r} asked for: expected 2 to "
                f"{MOST_LEVELS}, and one of {', '.join(_STARTS)}"
            )
            raise CodecError(msg)

    @property
    def promises(self) -> frozenset[Promise]:
        """With a level for zero, numbers beside it may have centres of the other sign."""
        return frozenset({"once", "zero"} if self.reserve_zero else {"once", "order"})

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return KeepingFitter(np.ravel, self._table)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, ...) to int32 symbols of the same shape.

        Raises:
            CodecError: A value is not finite.
        """
        xp = namespace(x)
        check_finite(x)
        centres, zero = np.asarray(table["centres"]), int(table["zero"])
        taken = np.delete(centres, zero) if self.reserve_zero else centres
        edges = xp.asarray(_edges(taken, str(x.dtype)), device=x.device)
        flat = xp.reshape(x, (-1,))
        places = xp.searchsorted(edges, flat, side="left") - zero
        if self.reserve_zero:
            places = xp.where(places >= 0, places + 1, places)
            places = xp.where(flat == 0, xp.zeros_like(places), places)
        return xp.reshape(xp.astype(places, xp.int32), x.shape)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols of any shape to their centres, float32.

        Raises:
            CodecError: A symbol is not in the table.
        """
        return entries(table["centres"], symbols + int(table["zero"]))

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights: log2 k each, and k centres of 32.

        Example:
            >>> 32 * 16 / Codebook(levels=4).weight_bits(4, 4)
            3.2
        """
        levels = min(self.levels, rows * columns)
        return rows * columns * math.log2(levels) + 32 * levels

    def _table(self, values: NDArray[np.float32]) -> Table:
        """The centres, ascending, and the place of the one nearest to zero."""
        if not self.reserve_zero:
            return codebook_table(self._placed(values, self.levels))
        others = values[values != 0]
        if not others.size:
            return codebook_table(np.zeros(1, np.float32))
        centres = self._placed(others, self.levels - 1)
        # The mean of numbers of both signs may be zero, which is taken.
        least = others[np.abs(others).argmin()]
        return codebook_table(np.append(np.where(centres, centres, least), np.float32(0)))

    def _placed(self, values: NDArray[np.float32], levels: int) -> NDArray[np.float32]:
        return line_centres(values, levels, start=self.start, seed=self.seed).astype(np.float32)


def codebook_table(centres: NDArray[np.float32]) -> Table:
    """The table of some centres in any order.

    Args:
        centres: (levels,).
    """
    ascending = np.unique(centres)
    return {"centres": ascending, "zero": np.array(np.abs(ascending).argmin(), np.int32)}


def _edges(centres: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Where one centre's numbers end, in the type of the numbers: x is beyond where x > edge."""
    wide = centres.astype(np.float64)
    middles = (wide[:-1] + wide[1:]) / 2
    if "float64" in dtype:
        return middles
    # Rounded down, so that a float32 is beyond the edge where it is beyond the middle.
    narrow = middles.astype(np.float32)
    return np.where(narrow > middles, np.nextafter(narrow, np.float32(-np.inf)), narrow)
