"""Residual quantization: whole vectors as sums, each stage coding what the one before left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Promise, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import check_finite, check_whole, entries, namespace
from narrows.coding.quantizers.codebook import MOST_LEVELS
from narrows.coding.quantizers.keeping import KeepingFitter
from narrows.coding.quantizers.kmeans import vector_centres
from narrows.coding.quantizers.vectors import batch_of, nearest, rows_of
from narrows.errors import CodecError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Residual(Quantizer):
    """Each sample is a sum of centres, one of each stage; a stage has the residuals before it.

        r¹ = x,   q^i = argmin_j ‖r^i - c_j^i‖²,   r^(i+1) = r^i - c_q^i,   x ≈ c¹ + … + cᵗ

    Of a matrix of weights the samples are its rows. Symbols of a batch (n, components,
    positions...) are (n, stages, positions...). The fitter keeps all numbers that it is given. It
    takes the nearest centre stage by stage, so what was quantized may become another sum.

    Args:
        levels: k, centres of each stage, 2 to 65 536; no more than there are samples.
        stages: t.
        seed: Of where k-means begins.

    Example:
        >>> sums = Residual(levels=2, stages=2)
        >>> x = np.array([[0, 0], [0, 1], [9, 9], [9, 10]], np.float32)
        >>> fitter = sums.fitter((2,))
        >>> fitter.add(x)
        >>> sums.dequantize(sums.quantize(x, fitter.table()), fitter.table()).tolist()
        [[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 10.0]]

    Reference:
        Gong, Liu, Yang, Bourdev, "Compressing Deep Convolutional Networks using Vector
        Quantization", 2014, arXiv 1412.6115, section 3.4; Chen, Guan, Wang, "Approximate Nearest
        Neighbor Search by Residual Vector Quantization", Sensors 10(12), 2010.
    """

    name: ClassVar[str] = "residual"

    levels: int = 16
    stages: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no codebook.

        Raises:
            CodecError: A value is out of its range.
        """
        check_whole(levels=self.levels, stages=self.stages)
        if not 2 <= self.levels <= MOST_LEVELS or self.stages < 1:
            msg = (
                f"levels {self.levels} and stages {self.stages} asked for: expected 2 to "
                f"{MOST_LEVELS}, and 1 or more"
            )
            raise CodecError(msg)

    @property
    def promises(self) -> frozenset[Promise]:
        """None."""
        return frozenset()

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return KeepingFitter(rows_of, self._table)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, components, positions...) to int32 symbols (n, stages, positions...).

        Raises:
            CodecError: A value is not finite, or the table is of another number of components.
        """
        check_finite(x)
        left, centres = rows_of(x), table["centres"]
        if left.shape[1] != centres.shape[2]:
            msg = f"a table for {centres.shape[2]} components does not fit {tuple(x.shape)}"
            raise CodecError(msg)
        xp, found = namespace(x), []
        for stage in centres:
            found.append(nearest(left[:, None, :], stage[None])[:, 0])
            left = left - xp.astype(entries(stage, found[-1]), left.dtype)
        return batch_of(xp.stack(found, axis=1), x.shape)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols (n, stages, positions...) to float32 (n, components, positions...).

        Raises:
            CodecError: A symbol is not in the table, or the table has another number of stages.
        """
        rows, centres = rows_of(symbols), table["centres"]
        if rows.shape[1] != centres.shape[0]:
            msg = f"a table of {centres.shape[0]} stages does not fit {tuple(symbols.shape)}"
            raise CodecError(msg)
        total = entries(centres[0], rows[:, 0])
        for number in range(1, centres.shape[0]):
            total = total + entries(centres[number], rows[:, number])
        return batch_of(total, symbols.shape)

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights: log2 k a stage of a row, and k centres of each stage.

        Example:
            >>> whole = 32 * 4096 * 4096
            >>> round(whole / Residual(levels=256, stages=2).weight_bits(4096, 4096), 1)
            8.0
        """
        levels = min(self.levels, rows)
        return self.stages * (rows * math.log2(levels) + 32 * levels * columns)

    def _table(self, left: NDArray[np.float32]) -> Table:
        """Centres (stages, levels, components)."""
        levels, stages = min(self.levels, len(left)), []
        for number in range(self.stages):
            centres = vector_centres(left[None], levels, seed=self.seed + number)[0]
            stages.append(centres.astype(np.float32))
            left = left - stages[-1][nearest(left[:, None], stages[-1][None])[:, 0]]
        return {"centres": np.stack(stages)}
