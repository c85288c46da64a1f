"""ONNX → ONNX with weights on grids that entropy coding makes small; arithmetic stays in float.

    samples ──► covariances of what each weight meets ──► steps by column ──► compensated rounding
                                                          biases shifted, and rounded finely

Nothing is trained. The model runs as before, in floating point; the grids say which integers its
weights stand for, and a packed file holds those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.coding.coders.symbol_costs import symbol_costs
from narrows.coding.quantizers import Scaled, Uniform
from narrows.coding.quantizers.scaled import scales
from narrows.errors import ConfigError, ModelError
from narrows.graph.compensate import Price, Rounding, round_columns, rounding
from narrows.graph.load import Model
from narrows.graph.second_moments import Moments
from narrows.graph.weight_matrices import WeightMatrix, initial_values
from narrows.packed import Grid

Array = NDArray[Any]

_LEAST_DENSITY: Final = 0.3  # with fewer weights there are few to make an error good by
_BIAS_SHARE: Final = 0.02  # of the outputs' error that the rounding of biases may add


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How the weights of a model are rounded, apart from how coarsely.

    Args:
        shrinkage: Share (0–1) of the covariances that is taken away, for they are of few samples.
        spread: How far steps follow what the other columns can make good for, 0–1. Matrices of
            which most was pruned have one step.
        shift_biases: Whether biases take up the mean of the error, where there are biases.
        rate: What a bit is worth, in squares of a step: a weight becomes a cheaper symbol where
            that costs less than its bits; 0 takes the nearest. See `Price`.

    Reference:
        Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", ICLR 2023, arXiv 2210.17323, for rounding with
        the error made good. Departs from the paper: steps differ by column, as the reverse
        water-filling of independent errors wants for entropy coded integers; means are taken out
        of the covariances and put into the biases; covariances are shrunk.
    """

    shrinkage: float = 0.25
    spread: float = 0.9
    shift_biases: bool = True
    rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        for name in ("shrinkage", "spread", "rate"):
            if not 0 <= getattr(self, name) <= 1:
                msg = f"{name} is {getattr(self, name)}: expected a number from 0 to 1"
                raise ConfigError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundedModel:
    """A model whose weights lie on grids.

    Args:
        proto: It, in floating point.
        grids: By the name of the initializer.
        symbols: Of the weights and biases on grids, by the same names.
    """

    proto: onnx.ModelProto
    grids: Mapping[str, Grid]
    symbols: Mapping[str, NDArray[np.int32]]


@final
class WeightRounder:
    """Rounds the weights of one model, as coarsely as is asked for, again and again.

    Args:
        model: In floating point; left as it is.
        weights: Which to round.
        moments: Of their inputs; weights without are rounded as if their inputs were independent.
        settings: How.

    Raises:
        ModelError: A weight is not finite.
    """

    def __init__(
        self,
        model: Model,
        weights: Sequence[WeightMatrix],
        moments: Mapping[str, Moments],
        settings: RoundSettings = RoundSettings(),
    ) -> None:
        self._model, self._weights, self._moments = model, weights, moments
        self._settings = settings
        self._values = initial_values(model)
        self._roundings = {weight.name: self._rounding(weight) for weight in weights}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the weights, without biases."""
        return tuple(weight.name for weight in self._weights)

    def rounded(
        self,
        step: float,
        *,
        relative: Mapping[str, float] | None = None,
        only: Sequence[str] | None = None,
    ) -> RoundedModel:
        """The model rounded with a step.

        Args:
            step: For weights whose inputs vary by one; twice the step saves one bit a weight.
            relative: What the step of single weights is multiplied by.
            only: Names of the weights to round; None rounds all.
        """
        if not 0 < step < np.inf:
            msg = f"step is {step}: expected a number above 0"
            raise ConfigError(msg)
        values: dict[str, Array] = {}
        grids: dict[str, Grid] = {}
        symbols: dict[str, NDArray[np.int32]] = {}
        for weight in self._weights:
            if only is None or weight.name in only:
                own = step * (relative or {}).get(weight.name, 1.0)
                for name, grid, found in self._round(weight, own):
                    grids[name], symbols[name] = grid, found
                    values[name] = grid.values(found)
        return RoundedModel(
            proto=with_values(self._model.proto, values), grids=grids, symbols=symbols
        )

    def _rounding(self, weight: WeightMatrix) -> Rounding:
        matrix = weight.matrix(self._values[weight.name])
        if not np.isfinite(matrix).all():
            msg = f"weight {weight.name!r} has values that are NaN or infinite"
            raise ModelError(msg)
        settings = self._settings
        dense = np.count_nonzero(matrix) >= _LEAST_DENSITY * matrix.size
        return rounding(
            self._covariance(weight, matrix.shape),
            matrix.shape[1],
            shrinkage=settings.shrinkage,
            spread=settings.spread if dense else 0.0,
        )

    def _covariance(self, weight: WeightMatrix, shape: tuple[int, ...]) -> Array:
        moments = self._moments.get(weight.name)
        if moments is None:
            groups, _, columns = shape
            return np.broadcast_to(np.eye(columns), (groups, columns, columns))
        if self._shifts(weight):
            return moments.covariance
        # Without a bias to put it into, the mean's error counts as any other.
        return moments.covariance + moments.mean[:, :, None] * moments.mean[:, None, :]

    def _shifts(self, weight: WeightMatrix) -> bool:
        return (
            self._settings.shift_biases and weight.bias is not None and weight.name in self._moments
        )

    def _round(
        self, weight: WeightMatrix, step: float
    ) -> list[tuple[str, Grid, NDArray[np.int32]]]:
        """Grids and symbols of a weight, and of its bias where that is shifted."""
        how = self._roundings[weight.name]
        matrix = weight.matrix(self._values[weight.name]).astype(np.float64)
        one = np.asarray(step * how.scale, np.float32)
        row_steps = scales(one, how.rows).reshape(matrix.shape[:2])
        column_steps = scales(np.ones((), np.float32), how.columns)
        given = (matrix, how.factor, row_steps, column_steps)
        symbols = round_columns(*given)
        if self._settings.rate:
            # What bits cost is told by the symbols of a first pass.
            classes, bits = symbol_costs(weight.values(symbols))
            price = Price(rate=self._settings.rate, classes=weight.matrix(classes), bits=bits)
            symbols = round_columns(*given, price)
        first, second = (how.columns, how.rows) if weight.transposed else (how.rows, how.columns)
        grid = Grid(
            quantizer=Scaled(),
            table={"step": one, "rows": first, "columns": second},
        )
        found = [(weight.name, grid, weight.values(symbols))]
        if self._shifts(weight):
            error = matrix - weight.matrix(grid.values(found[0][2])).astype(np.float64)
            found.append(self._bias(weight, error))
        return found

    def _bias(self, weight: WeightMatrix, error: Array) -> tuple[str, Grid, NDArray[np.int32]]:
        """The bias that takes up the mean of an error, on a fine grid."""
        moments, name = self._moments[weight.name], str(weight.bias)
        shift = np.einsum("grc,gc->gr", error, moments.mean).reshape(-1)
        spread = np.einsum("grc,gcd,grd->gr", error, moments.covariance, error, optimize=True)
        values = self._values[name].reshape(-1) + shift
        largest = float(np.abs(values).max()) or 1.0
        step = max(np.sqrt(12 * _BIAS_SHARE * float(np.median(spread))), largest * 2.0**-20)
        quantizer = Uniform()  # whose table has the step
        table = Uniform(step=float(np.float32(step))).fitter(values.shape).table()
        shape = self._values[name].shape
        found = quantizer.quantize(values.astype(np.float32).reshape(1, *shape), table)[0]
        return name, Grid(quantizer=quantizer, table=table), found


def with_values(proto: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy with other initializers of the same shapes."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return made
