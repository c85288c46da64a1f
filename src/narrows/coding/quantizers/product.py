"""Product quantization: vectors in pieces, each piece one of a few from a codebook of its place."""

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
class Product(Quantizer):
    """Cut the components of each sample into pieces and keep the nearest centre of each piece.

        x = [x¹ | x² | … | xˢ],   q^i = argmin_j ‖x^i - c_j^i‖²

    Of a matrix of weights the samples are its rows, and the pieces groups of its columns. The last
    piece is shorter where the length does not divide the components. Symbols of a batch (n,
    components, positions...) are (n, pieces, positions...). The fitter keeps all numbers that it is
    given.

    Args:
        levels: k, centres of each piece, 2 to 65 536; no more than there are samples.
        length: Components of a piece.
        seed: Of where k-means begins.

    Example:
        >>> pairs = Product(levels=2, length=2)
        >>> x = np.array([[0, 0, 5, 5], [8, 9, 5, 5], [8, 9, 1, 1]], np.float32)
        >>> fitter = pairs.fitter((4,))
        >>> fitter.add(x)
        >>> symbols = pairs.quantize(x, fitter.table())
        >>> symbols.shape, pairs.dequantize(symbols, fitter.table()).tolist() == x.tolist()
        ((3, 2), True)

    Reference:
        Gong, Liu, Yang, Bourdev, "Compressing Deep Convolutional Networks using Vector
        Quantization", 2014, arXiv 1412.6115, section 3.3; Jégou, Douze, Schmid, "Product
        Quantization for Nearest Neighbor Search", TPAMI 33(1), 2011.
    """

    name: ClassVar[str] = "product"

    levels: int = 16
    length: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no codebook.

        Raises:
            CodecError: A value is out of its range.
        """
        check_whole(levels=self.levels, length=self.length)
        if not 2 <= self.levels <= MOST_LEVELS or self.length < 1:
            msg = (
                f"levels {self.levels} and length {self.length} asked for: expected 2 to "
                f"{MOST_LEVELS}, and 1 or more"
            )
            raise CodecError(msg)

    @property
    def promises(self) -> frozenset[Promise]:
        """What was quantized stays."""
        return frozenset({"once"})

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return KeepingFitter(rows_of, self._table)

    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, components, positions...) to int32 symbols (n, pieces, positions...).

        Raises:
            CodecError: A value is not finite, or the table is of another number of components.
        """
        check_finite(x)
        rows, components = rows_of(x), int(table["components"])
        if rows.shape[1] != components:
            msg = f"a table for {components} components does not fit an array {tuple(x.shape)}"
            raise CodecError(msg)
        return batch_of(nearest(_pieces(rows, self.length), table["centres"]), x.shape)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols (n, pieces, positions...) to float32 (n, components, positions...).

        Raises:
            CodecError: A symbol is not in the table, or the table has another number of pieces.
        """
        xp, centres = namespace(symbols), table["centres"]
        pieces, levels, length = centres.shape
        rows = rows_of(symbols)
        if rows.shape[1] != pieces:
            msg = f"a table of {pieces} pieces does not fit symbols {tuple(symbols.shape)}"
            raise CodecError(msg)
        if not bool(xp.all((rows >= 0) & (rows < levels))):
            msg = f"there are symbols that are not in a table of {levels}: take the right table"
            raise CodecError(msg)
        first = levels * xp.arange(pieces, dtype=xp.int64, device=symbols.device)
        flat = xp.astype(rows, xp.int64) + first[None, :]
        found = entries(centres.reshape((pieces * levels, length)), flat)
        whole = xp.reshape(found, (rows.shape[0], pieces * length))
        return batch_of(whole[:, : int(table["components"])], symbols.shape)

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights: log2 k a piece of a row, and k centres of each piece.

        Example:
            >>> whole = 32 * 4096 * 4096
            >>> round(whole / Product(levels=16, length=4).weight_bits(4096, 4096), 1)
            28.4
        """
        levels, pieces = min(self.levels, rows), -(-columns // self.length)
        return rows * pieces * math.log2(levels) + 32 * levels * columns

    def _table(self, rows: NDArray[np.float32]) -> Table:
        """Centres (pieces, levels, length), and the number of components."""
        pieces = _pieces(rows, self.length).transpose(1, 0, 2)
        centres = vector_centres(pieces, min(self.levels, len(rows)), seed=self.seed)
        return {
            "centres": centres.astype(np.float32),
            "components": np.asarray(rows.shape[1], np.int32),
        }


def _pieces(rows: Any, length: int) -> Any:
    """(n, components) to (n, pieces, length), the last one filled up with zeros."""
    xp = namespace(rows)
    count, components = rows.shape
    if missing := -components % length:
        zeros = xp.zeros((count, missing), dtype=rows.dtype, device=rows.device)
        rows = xp.concat([rows, zeros], axis=1)
    return xp.reshape(rows, (count, rows.shape[1] // length, length))
