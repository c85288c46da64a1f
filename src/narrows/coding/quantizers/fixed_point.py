"""Fixed point: a grid of equal steps that is settled beforehand, as arithmetic units have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, final

from numpy.typing import NDArray

from narrows.coding.base import PROMISES, Fitter, Promise, Quantizer, Shape, Table
from narrows.coding.quantizers.broadcast import check_finite, check_samples, namespace
from narrows.errors import CodecError

MOST_BITS: Final = 24
"""Of a word: float32 has all numbers of such a grid."""
MOST_FRACTION_BITS: Final = 100
"""After the point, or of zeros before it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint(Quantizer):
    """Numbers <IL, FL>: IL bits before the point, the sign among them, and FL after it.

    ε = 2^-FL,  range [-2^(IL-1), 2^(IL-1) - ε],  ⌊x⌋ the largest multiple of ε that is at most x

        nearest     ⌊x⌋ where x <= ⌊x⌋ + ε/2, else ⌊x⌋ + ε
        stochastic  ⌊x⌋ + ε with probability (x - ⌊x⌋) / ε, else ⌊x⌋

    Ties go down. What stochastic rounding gives is x on average; what lies outside of the range
    becomes its end. Symbols are multiples of ε, and the settings say all: the table is empty.

    Args:
        integer_bits: IL; below 1 the range is narrower than [-1, 1).
        fraction_bits: FL; below 0 the step is larger than 1. IL + FL is 2 to 24.
        rounding: "nearest", or "stochastic", which takes noise.

    Example:
        >>> grid = FixedPoint(integer_bits=3, fraction_bits=1)
        >>> import numpy as np
        >>> x = np.array([0.25, 0.3, -0.25, 3.9, -9.0])
        >>> grid.convert(x).tolist()
        [0.0, 0.5, -0.5, 3.5, -4.0]
        >>> drawn = FixedPoint(integer_bits=3, fraction_bits=1, rounding="stochastic")
        >>> drawn.convert(np.array([0.3, 0.3]), noise=np.array([0.59, 0.61])).tolist()
        [0.5, 0.0]

    Reference:
        Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep Learning with Limited Numerical Precision",
        ICML 2015, arXiv 1502.02551, section 3.
    """

    name: ClassVar[str] = "fixed_point"

    integer_bits: int = 8
    fraction_bits: int = 8
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def __post_init__(self) -> None:
        """Refuse what is no grid.

        Raises:
            CodecError: A value is out of its range.
        """
        if not 2 <= self.word_bits <= MOST_BITS or abs(self.fraction_bits) > MOST_FRACTION_BITS:
            msg = (
                f"<{self.integer_bits}, {self.fraction_bits}> asked for: the bits together must be "
                f"2 to {MOST_BITS}, those of the fraction at most {MOST_FRACTION_BITS}"
            )
            raise CodecError(msg)
        if self.rounding not in ("nearest", "stochastic"):
            msg = f"rounding is {self.rounding!r}: expected 'nearest' or 'stochastic'"
            raise CodecError(msg)

    @property
    def promises(self) -> frozenset[Promise]:
        """Draws have no order."""
        return PROMISES - {"order"} if self.stochastic else PROMISES

    @property
    def stochastic(self) -> bool:
        """Whether it draws."""
        return self.rounding == "stochastic"

    @property
    def word_bits(self) -> int:
        """WL = IL + FL."""
        return self.integer_bits + self.fraction_bits

    @property
    def step(self) -> float:
        """ε."""
        return 2.0**-self.fraction_bits

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest number."""
        half = 2.0 ** (self.integer_bits - 1)
        return -half, half - self.step

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter that has nothing to fit."""
        return _NothingToFit()

    def convert(self, x: Any, *, noise: Any = None) -> Any:
        """The paper's Convert: numbers of any shape to those of the grid, of the same type.

        Args:
            x: Floating point, not NaN.
            noise: Uniform in [0, 1), of x's shape and array library; for stochastic rounding.

        Raises:
            CodecError: Stochastic rounding was given no noise, or noise of another shape.
        """
        made = self._multiples(x, noise) * self.step
        return namespace(x).astype(made, x.dtype) if _is_short(x) else made

    def quantize(self, x: Any, table: Table, *, noise: Any = None) -> Any:
        """Batch (n, ...) to int32 symbols of the same shape.

        Args:
            x: Batch.
            table: Empty.
            noise: As `convert` takes it.

        Raises:
            CodecError: A value is not finite, or the noise does not fit.
        """
        check_finite(x)
        xp = namespace(x)
        return xp.astype(self._multiples(x, noise), xp.int32)

    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Symbols to float32 of the same shape."""
        xp = namespace(symbols)
        return xp.astype(symbols, xp.float32) * self.step

    def weight_bits(self, rows: int, columns: int) -> float:
        """Bits of a matrix of weights."""
        return float(self.word_bits * rows * columns)

    def _multiples(self, x: Any, noise: Any) -> Any:
        """How many steps each number becomes, in x's type, or in float32 if that is shorter."""
        xp = namespace(x)
        x = xp.astype(x, xp.float32) if _is_short(x) else x
        # The ends lie on the grid, so that nothing within them is rounded out of the range.
        scaled = xp.clip(x, *self.ends) * 2.0**self.fraction_bits
        if not self.stochastic:
            above = xp.ceil(scaled)
            # Not `where`, which takes several times as long in torch.
            return above - xp.astype(above - scaled >= 0.5, above.dtype)
        if noise is None or noise.shape != x.shape:
            found = "none" if noise is None else f"{tuple(noise.shape)}"
            msg = (
                f"stochastic rounding of {tuple(x.shape)} takes noise of that shape, {found} given"
            )
            raise CodecError(msg)
        below = xp.floor(scaled)
        return below + xp.astype(noise < scaled - below, below.dtype)


def _is_short(x: Any) -> bool:
    """Whether the type of a batch does not hold all multiples, as float16 does not."""
    xp = namespace(x)
    floating = xp.isdtype(x.dtype, "real floating")
    return bool(floating and xp.finfo(x.dtype).bits < xp.finfo(xp.float32).bits)


class _NothingToFit:
    """The settings say all."""

    __slots__ = ()

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch.

        Raises:
            CodecError: A value of it is not finite.
        """
        check_samples(batch)

    def table(self) -> Table:
        """Nothing."""
        return {}
