"""Scaled quantizer: a step for each row and each column of a matrix, all powers of two apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import check_finite, namespace
from narrows.errors import CodecError, CorruptData

# 2^(k/8) in float32, written out so that every machine has the same.
_ROOTS: Final = np.array(
    [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], np.float32
)
_LARGEST_SYMBOL: Final = 2**24  # exact in float32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Quantizer):
    """A uniform grid whose step differs by row and by column, in eighths of an octave.

    q = round(x / (row · column)),   x' = q · row · column
    row_i = step · 2^(rows_i / 8),   column_j = 2^(columns_j / 8)

    Ties round up. Two levels of 8 bits cost little beside a matrix; a method that knows how much
    the error of each row and column matters sets them (`CompensatedRounding`). As fitted here they
    are all 0, and the grid is `Uniform`'s without a dead zone.

    Args:
        step: Of the rows with level 0.

    Example:
        >>> grid = Scaled(step=0.5)
        >>> levels = {"rows": np.array([0, 8], np.int8), "columns": np.array([0, -8], np.int8)}
        >>> table = {"step": np.array(0.5, np.float32), **levels}
        >>> symbols = grid.quantize(np.array([[[1.1, 1.1], [1.1, 1.1]]], np.float32), table)
        >>> symbols.tolist(), grid.dequantize(symbols, table).tolist()
        ([[[2, 4], [1, 2]]], [[[1.0, 1.0], [1.0, 1.0]]])
    """

    name: ClassVar[str] = "scaled"

    step: float = 1.0

    def __post_init__(self) -> None:
        if not 1e-20 <= self.step <= 1e20:
            msg = f"step must be from 1e-20 to 1e20, {self.step} given; e.g. Scaled(step=0.01)"
            raise CodecError(msg)

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples (rows, columns...); it needs none."""
        return _ScaledFitter(self.step, shape)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, rows, columns...) to int32 symbols of the same shape.

        Raises:
            CodecError: A value is not finite, or the table does not fit.
        """
        xp = namespace(x)
        check_finite(x)
        row, column = _scales(table, x, x.dtype)
        scaled = x / (row * column)
        floor = xp.floor(scaled)
        q = xp.where(scaled - floor >= 0.5, floor + 1, floor)
        return xp.astype(xp.clip(q, -_LARGEST_SYMBOL, _LARGEST_SYMBOL), xp.int32)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols (n, rows, columns...) to float32 of the same shape.

        Raises:
            CodecError: The table does not fit.
        """
        xp = namespace(symbols)
        row, column = _scales(table, symbols, xp.float32)
        return xp.astype(symbols, xp.float32) * row * column


def scales(step: NDArray[np.float32], levels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Step · 2^(levels / 8), the same bits on every machine."""
    eighths = levels.astype(np.int64)
    roots = step.astype(np.float32) * _ROOTS[eighths % 8]
    return np.asarray(np.ldexp(roots, eighths // 8), np.float32)


def _scales(table: Table, x: Any, dtype: Any) -> tuple[Any, Any]:
    """Of rows and of columns, ready to broadcast beside a batch."""
    xp = namespace(x)
    shape = tuple(x.shape[1:])
    if not shape:
        msg = f"an array {tuple(x.shape)} has no rows: expected (n, rows, columns...)"
        raise CodecError(msg)
    sides = []
    one, step = np.ones((), np.float32), np.asarray(table["step"])
    if step.shape != () or step.dtype != np.float32 or not 0 < float(step) < np.inf:
        msg = f"the step of a scaled grid is {step!r}: expected one positive number in float32"
        raise CorruptData(msg)
    wanted = (("rows", step, (-1,) + (1,) * len(shape[1:])), ("columns", one, (1, *shape[1:])))
    for key, unit, broadcast in wanted:
        levels = np.asarray(table[key])
        size = shape[0] if key == "rows" else int(np.prod(shape[1:]))
        if levels.dtype != np.int8 or levels.shape != (size,):
            msg = (
                f"{key} of a scaled grid are {levels.dtype} {levels.shape}: expected int8 ({size},)"
            )
            raise CorruptData(msg)
        values = scales(unit, levels).reshape(broadcast)
        sides.append(xp.asarray(values, dtype=dtype, device=x.device))
    return sides[0], sides[1]


class _ScaledFitter:
    """Knows the shape."""

    __slots__ = ("_shape", "_step")

    def __init__(self, step: float, shape: Shape) -> None:
        self._step, self._shape = step, shape

    def add(self, batch: NDArray[Any]) -> None:
        """Nothing is learned from samples."""

    def table(self) -> Table:
        """The step, and levels of 0."""
        columns = int(np.prod(self._shape[1:]))
        return {
            "step": np.asarray(self._step, np.float32),
            "rows": np.zeros(self._shape[0], np.int8),
            "columns": np.zeros(columns, np.int8),
        }
