"""Weights rounded column by column, each error made good by the columns that follow.

Of W with inputs of covariance S, the outputs' squared error is tr(E S E'), E = W - W'. With the
factor U of S^-1 = U' U, U upper triangular:

    column j:  q = round(w_j / step_j),  e = (w_j - q · step_j) / U_jj,  w_k -= e · U_jk  for k > j

so that what is left is the sum of (w_j - q · step_j)² / U_jj², of errors that are independent.
Least bits at a sum of weighted squares take steps in proportion to the root of the inverse weight,
which is U_jj: columns that the others cannot make good for get the finer steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import ConfigError, ModelError

Array = NDArray[np.float64]

_BLOCK: Final = 64
_ADDED: Final = (1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance, to each; the least that does
_LARGEST_SYMBOL: Final = 2**24
_EIGHTHS: Final = 8
_FARTHEST: Final = 120  # eighths of an octave that a level may be from its mean


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounding:
    """How the weights of one matrix are rounded.

    Args:
        factor: U of each group, (groups, columns, columns).
        scale: Of all steps, relative to those of other matrices.
        rows: Level of each row (all groups' rows), in eighths of an octave.
        columns: Level of each column.
    """

    factor: Array
    scale: float
    rows: NDArray[np.int8]
    columns: NDArray[np.int8]


def rounding(covariance: Array, rows: int, *, shrinkage: float, spread: float) -> Rounding:
    """The rounding for inputs of a covariance.

    Args:
        covariance: (groups, columns, columns); columns that never vary are taken to vary a little.
        rows: Of each group.
        shrinkage: Share (0–1) of the covariances that is taken away: few samples make them up.
        spread: Power of U_jj that steps follow; 1 is right where covariances are exact, 0 gives all
            columns one step.
    """
    groups, size, _ = covariance.shape
    variance = np.einsum("gcc->gc", covariance).copy()
    mean = np.maximum(variance.mean(1, keepdims=True), 1e-30)
    shrunk = covariance * (1 - shrinkage)
    diagonal = np.arange(size)
    factor = None
    for added in _ADDED:
        shrunk[:, diagonal, diagonal] = variance + added * mean
        try:
            factor = np.linalg.cholesky(np.linalg.inv(shrunk)).transpose(0, 2, 1)
        except np.linalg.LinAlgError:
            continue
        break
    if factor is None:
        msg = "covariances of inputs are of no data: take more samples, or leave the weight out"
        raise ModelError(msg)
    own = np.einsum("gcc->gc", factor)
    level = np.log2(own) * spread
    middle = float(level.mean())
    # Columns of different groups have nothing in common; rows follow their group.
    by_group = np.repeat(level.mean(1) - middle, rows)
    by_column = level[0] - middle if groups == 1 else np.zeros(size)
    return Rounding(
        factor=factor,
        scale=2.0**middle,
        rows=_levels(by_group, size),
        columns=_levels(by_column, rows),
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Price:
    """What bits are worth: a symbol is the cheapest of the nearest, the next one to zero and zero.

        min over q of  v_j (w_j / step_j - q)² + λ · bits(q),   v_j = (step_j / U_jj)² over its mean

    Args:
        rate: λ, squares of a step for a bit; 0.1155 where a bit more everywhere halves all steps.
        classes: Of each weight, (groups, rows, columns).
        bits: Of the symbols -n … n in each class, (classes, 2n + 1).
    """

    rate: float
    classes: NDArray[np.int16]
    bits: Array

    def chosen(self, scaled: Array, column: int, value: Array) -> Array:
        """Symbols of a column.

        Args:
            scaled: Weights in steps, (groups, rows).
            column: Which.
            value: v of each group, (groups, 1).
        """
        nearest = np.floor(scaled + 0.5)
        tried = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
        middle = self.bits.shape[1] // 2
        places = tried.clip(-middle, middle).astype(np.int64) + middle
        bits = self.bits[self.classes[:, :, column], places]
        costs = value * (scaled - tried) ** 2 + self.rate * bits
        return np.asarray(np.take_along_axis(tried, costs.argmin(0)[None], 0)[0])


def round_columns(
    weights: Array,
    factor: Array,
    row_steps: NDArray[Any],
    column_steps: NDArray[Any],
    price: Price | None = None,
) -> NDArray[np.int32]:
    """Symbols of weights, errors made good on the way.

    Args:
        weights: (groups, rows, columns); what is zero stays zero, for it was pruned.
        factor: U, (groups, columns, columns).
        row_steps: (groups, rows).
        column_steps: (columns,); the step of a weight is the product of its row's and its column's.
        price: Of bits; None rounds to the nearest.

    Returns:
        Integers of the shape of the weights.

    Raises:
        ConfigError: A step is so fine that float32 has not all its multiples.
    """
    own = np.log(column_steps) - np.log(np.einsum("gcc->gc", factor))
    values = np.exp(2 * (own - own.mean()))
    left, kept = weights.astype(np.float64, copy=True), weights != 0
    symbols = np.empty(weights.shape, np.int32)
    size = weights.shape[2]
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        errors = np.empty((*weights.shape[:2], last - first))
        for j in range(first, last):
            step = row_steps * column_steps[j]
            value = left[:, :, j]
            scaled = value / step
            if not np.abs(scaled).max(initial=0) < _LARGEST_SYMBOL:
                msg = (
                    f"a step of {step.min():.3g} is too fine: its multiples pass {_LARGEST_SYMBOL}"
                )
                raise ConfigError(msg)
            if price is None:
                symbols[:, :, j] = np.floor(scaled + 0.5)
            else:
                symbols[:, :, j] = price.chosen(scaled, j, values[:, j, None])
            symbols[:, :, j] *= kept[:, :, j]
            error = (value - symbols[:, :, j] * step) / factor[:, j, j, None]
            left[:, :, j:last] -= error[:, :, None] * factor[:, None, j, j:last]
            errors[:, :, j - first] = error
        if last < size:
            left[:, :, last:] -= np.matmul(errors, factor[:, first:last, last:])
    return symbols


def _levels(octaves: Array, weights: int) -> NDArray[np.int8]:
    """Octaves as levels in eighths, each of so many weights; of few weights they are coarser.

    Steps that are off by up to d / 2 octaves cost each weight about 0.058 d² bits, and a level that
    is d apart from the next log2(d) fewer: least at d = sqrt(12.5 / weights).
    """
    best = np.log2(_EIGHTHS * np.sqrt(12.5 / max(1, weights)))
    apart = 2 ** int(np.clip(np.rint(best), 0, np.log2(_EIGHTHS)))
    levels = np.rint(octaves * (_EIGHTHS / apart)) * apart
    return np.asarray(levels.clip(-_FARTHEST, _FARTHEST), np.int8)
