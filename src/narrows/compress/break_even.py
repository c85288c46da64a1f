"""From which density on a sparse product is slower than a dense one: measured, not assumed.

A sparse product needs an index for every number and reads what it multiplies out of order, so that
it is slower than a dense one until few enough numbers are left. How few depends on the weight's
shape, the library and the machine, and is measured there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from narrows.errors import ConfigError
from narrows.measure.contender import Run
from narrows.measure.latency import Schedule, compare

Product = Callable[[Tensor], Run]

DENSITIES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of a sparse product over that of the dense one, in the same rounds.

    Args:
        density: Share (0–1) of numbers that are not zero.
        value: Below one the sparse one is faster.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    density: float
    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """From which density on a sparse product is not faster any more.

    Args:
        rows: Of the weight that was measured.
        columns: Of it.
        ratios: By rising density.
    """

    rows: int
    columns: int
    ratios: tuple[Ratio, ...]

    @property
    def density(self) -> float:
        """Where the ratio is one, between the densities that were measured.

        0 where the sparse product was slower at each, and the highest one measured where it was
        faster at each.
        """
        return self._where([ratio.value for ratio in self.ratios])

    @property
    def low(self) -> float:
        """Below it the sparse product is faster for certain: the upper ends are below one."""
        return self._where([ratio.high for ratio in self.ratios])

    @property
    def high(self) -> float:
        """Above it the sparse product is slower for certain, as far as was measured."""
        return self._where([ratio.low for ratio in self.ratios])

    def _where(self, values: Sequence[float]) -> float:
        """The first density at which values rise to one, on a double logarithmic line."""
        before: tuple[float, float] | None = None
        for ratio, value in zip(self.ratios, values, strict=True):
            here = (math.log(ratio.density), math.log(value))
            if value >= 1:
                if before is None:
                    return 0.0
                share = -before[1] / (here[1] - before[1])
                return math.exp(before[0] + share * (here[0] - before[0]))
            before = here
        return self.ratios[-1].density


def measure_break_even(
    rows: int,
    columns: int,
    *,
    dense: Product | None = None,
    sparse: Product | None = None,
    densities: Sequence[float] = DENSITIES,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> BreakEven:
    """Time dense and sparse products of a weight and a vector, and find where they are equal.

    Non-zeros lie at random places, as unstructured pruning leaves them. At every density both are
    timed in the same rounds.

    Args:
        rows: Outputs.
        columns: Inputs.
        dense: From a weight to what is timed; by default torch's product.
        sparse: The other; by default torch's of a CSR weight with indices of 32 bits.
        densities: Rising, above 0 and up to 1.
        schedule: How long each density is measured.
        seed: Of weights and places.

    Raises:
        ConfigError: The densities are no rising shares.

    Example:
        >>> quick = Schedule(rounds=6, round_s=0.001, session_s=0, target=None)
        >>> found = measure_break_even(64, 64, densities=(0.05, 0.5), schedule=quick)
        >>> 0 <= found.low <= found.density <= found.high <= 0.5
        True
    """
    if not densities or list(densities) != sorted(set(densities)) or not densities[0] > 0:
        msg = f"densities are {tuple(densities)}: expected rising shares above 0 and up to 1"
        raise ConfigError(msg)
    if densities[-1] > 1:
        msg = f"densities go up to {densities[-1]}: expected shares above 0 and up to 1"
        raise ConfigError(msg)
    ratios = []
    for density in densities:
        weight = sparse_weight(rows, columns, density, seed)
        runs = {"dense": (dense or dense_product)(weight), "csr": (sparse or csr_product)(weight)}
        found = compare(runs, schedule=schedule).ratio("csr", "dense")
        low, high = found.interval
        ratios.append(Ratio(density=density, value=found.estimate, low=low, high=high))
    return BreakEven(rows=rows, columns=columns, ratios=tuple(ratios))


def sparse_weight(rows: int, columns: int, density: float, seed: int = 0) -> Tensor:
    """A random weight (rows, columns) with so many non-zeros, at random places.

    Args:
        rows: Outputs.
        columns: Inputs.
        density: Share (0–1) of numbers that are not zero.
        seed: Of both.
    """
    generator = torch.Generator().manual_seed(seed)
    count = rows * columns
    made = torch.zeros(count)
    places = torch.randperm(count, generator=generator)[: max(1, round(density * count))]
    made[places] = torch.randn(len(places), generator=generator)
    return made.reshape(rows, columns)


def dense_product(weight: Tensor) -> Run:
    """Torch's product of a dense weight and a vector, to be timed."""
    vector = _vector(weight)
    return lambda: weight @ vector


def csr_product(weight: Tensor) -> Run:
    """Torch's product of a CSR weight, of indices of 32 bits, and a vector, to be timed."""
    vector = _vector(weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        made = weight.to_sparse_csr()
        short = torch.sparse_csr_tensor(
            made.crow_indices().int(),
            made.col_indices().int(),
            made.values(),
            made.shape,
            check_invariants=True,
        )
    return lambda: short @ vector


def _vector(weight: Tensor) -> Tensor:
    return torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
