"""The values that weights can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Quantizer, Table
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

    def values(self, symbols: NDArray[np.int32]) -> NDArray[np.float32]:
        """What symbols stand for."""
        found: NDArray[np.float32] = self.quantizer.dequantize(symbols[None], self.table)[0]
        return found
