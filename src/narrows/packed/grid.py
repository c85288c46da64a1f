"""The values that weights can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Quantizer, Table
from narrows.coding.quantizers import Codebook, Product, Residual
from narrows.errors import CodecError


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The values that the weights of a tensor can have: a quantizer and its table."""

    quantizer: Quantizer
    table: Table

    def symbols(self, values: NDArray[np.float32]) -> NDArray[np.int32]:
        """The symbols of a tensor that lies on the grid.

        Raises:
            CodecError: It does not.
        """
        found: NDArray[np.int32] = self.quantizer.quantize(values[None], self.table)[0]
        if not np.array_equal(self.values(found), values):
            msg = (
                f"a tensor {values.shape} does not lie on its {self.quantizer.name!r} grid any "
                "more: quantize it again, or pack it as floats"
            )
            raise CodecError(msg)
        return found

    def check_fits(self, symbols: tuple[int, ...], values: tuple[int, ...]) -> None:
        """See that symbols of a shape stand for values of another, before memory is taken for them.

        Raises:
            CodecError: They do not, or the table is none of the quantizer's.
        """
        quantizer, expected, good = self.quantizer, values, True
        if isinstance(quantizer, Codebook | Product | Residual):
            centres = self.table["centres"]
            axes = 1 if isinstance(quantizer, Codebook) else 3
            good = centres.dtype == np.float32 and centres.ndim == axes and values != ()
        if good and isinstance(quantizer, Product):
            pieces = -(-values[0] // quantizer.length)
            expected = (pieces, *values[1:])
            good = centres.shape[::2] == (pieces, quantizer.length)
            good &= int(self.table["components"]) == values[0]
        elif good and isinstance(quantizer, Residual):
            expected = (centres.shape[0], *values[1:])
            good = centres.shape[2] == values[0]
        if not good or symbols != expected:
            msg = f"a table of {quantizer.name!r} does not make {values} of symbols {symbols}"
            raise CodecError(msg)

    def values(self, symbols: NDArray[np.int32]) -> NDArray[np.float32]:
        """What symbols stand for."""
        found: NDArray[np.float32] = self.quantizer.dequantize(symbols[None], self.table)[0]
        return found
