"""Weights used as what a quantizer makes of them: the centres are learned, or what lies beneath.

learned centres ──symbols found once──► used W         Shared
learned W ──rounded to the levels──► used W            Rounded   gradients straight through
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from narrows.coding.base import Quantizer, Table, fit
from narrows.coding.quantizers import Codebook
from narrows.compress.weight_layers import WeightLayer
from narrows.compress.weight_maps import Mask, WeightMap, put_map_, straight_through
from narrows.errors import ModelError


@final
class Shared(WeightMap):
    """W = centres[symbols]: the centres are learned, which weight has which is settled.

    The gradient of a centre is the sum of its members' gradients.

    Args:
        quantizer: One whose table has centres.
        table: It was fitted to.
        matrix: The weight as (samples, components), as the quantizer is given it.
        across: Whether the matrix is the weight's transposed.
    """

    symbols: Tensor

    def __init__(
        self, quantizer: Quantizer, table: Table, matrix: NDArray[np.float32], *, across: bool
    ) -> None:
        super().__init__()
        self.quantizer, self.across = quantizer, across
        # Made once: what is not learned of the table.
        self._fixed = {name: value for name, value in table.items() if name != "centres"}
        self.centres = nn.Parameter(torch.from_numpy(np.array(table["centres"])))
        symbols = quantizer.quantize(matrix, table)
        self.register_buffer("symbols", torch.from_numpy(np.ascontiguousarray(symbols)))

    def forward(self, weight: Tensor) -> Tensor:
        """The centres in the weight's place; of the weight only shape and type matter."""
        table: dict[str, Any] = {**self._fixed, "centres": self.centres}
        values: Tensor = self.quantizer.dequantize(self.symbols, table)
        return matrix_shaped(values, weight, across=self.across).to(weight.dtype)


@final
class Rounded(WeightMap):
    """W rounded to the levels of a table that is settled; gradients go straight through.

    Args:
        quantizer: Any that has a symbol for each number.
        table: It was fitted to.
    """

    def __init__(self, quantizer: Quantizer, table: Table) -> None:
        super().__init__()
        self.quantizer, self.table = quantizer, table

    def forward(self, weight: Tensor) -> Tensor:
        """What the weight's symbols stand for."""
        with torch.no_grad():
            given = weight.detach().reshape(len(weight), -1)[None]
            symbols = self.quantizer.quantize(given, self.table)
            values = self.quantizer.dequantize(symbols, self.table)
        return straight_through(weight, values.reshape(weight.shape).to(weight.dtype))


def put_shared_(
    model: nn.Module,
    layer: WeightLayer,
    quantizer: Quantizer,
    *,
    across: bool = False,
    keep_zeros: bool = True,
) -> None:
    """Fit a codebook to a layer's weights, and let the layer use and learn its centres; in place.

    Args:
        model: The network.
        layer: Of it.
        quantizer: One whose table has centres.
        across: Whether samples are the weight's columns.
        keep_zeros: Whether weights that are zero, where others are not, are no members of a
            codebook of numbers, and stay zero.

    Raises:
        ModelError: A weight is not finite.
    """
    weight = layer.value(model).cpu()
    matrix = as_matrix(layer.name, weight, across=across)
    pruned = keep_zeros and is_pruned(weight)
    # Of numbers what is left is fitted to; vectors have zeros among their components.
    some = pruned and isinstance(quantizer, Codebook)
    table = fit(quantizer, [matrix[matrix != 0][None] if some else matrix])
    owner = model.get_submodule(layer.module)
    made = Shared(quantizer, table, matrix, across=across)
    put_map_(owner, layer.weight, made)
    original = owner.parametrizations[layer.weight].original
    made.centres.requires_grad_(original.requires_grad)
    original.requires_grad_(False)
    if pruned:
        put_map_(owner, layer.weight, Mask(weight != 0))


def is_pruned(weight: Tensor) -> bool:
    """Whether some of a weight is zero; one that is zero throughout has yet to be learned."""
    return bool(0 < int(weight.count_nonzero()) < weight.numel())


def as_matrix(name: str, weight: Tensor, *, across: bool = False) -> NDArray[np.float32]:
    """A weight (outputs, ...) as (outputs, all else), or that transposed.

    Args:
        name: Of the layer, for messages.
        weight: On the processor.
        across: Whether it is transposed.

    Raises:
        ModelError: A value is not finite.
    """
    if not bool(weight.isfinite().all()):
        msg = f"weights of {name!r} are not all finite: train again, or skip the layer"
        raise ModelError(msg)
    matrix = weight.detach().reshape(len(weight), -1).float().numpy()
    return np.ascontiguousarray(matrix.T) if across else matrix


def matrix_shaped(values: Tensor, like: Tensor, *, across: bool) -> Tensor:
    """What `as_matrix` made, in the shape of the weight."""
    return (values.T if across else values).reshape(like.shape)
