"""<IL, FL> of each kind of number in fixed-point training, settled or from what was seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from narrows.coding.quantizers import FixedPoint
from narrows.coding.quantizers.fixed_point import MOST_FRACTION_BITS
from narrows.errors import CodecError, ConfigError, ModelError

Format = tuple[int, int] | int
Rounding = Literal["nearest", "stochastic"]
_KINDS = ("weights", "biases", "activations", "gradients")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPointFormats:
    """How numbers are held: <IL, FL> as two numbers for all layers, or WL as one.

    Of a word of WL bits the point is placed for each layer's weights and biases, for what each call
    answers and for its gradients, so that the largest magnitude seen fits and `headroom` bits are
    left, as far as `FixedPoint` reaches: steps are from 2^-100 to 2^100. It is seen in the network
    to begin with, so that should be a trained one.

    Args:
        weights: Of layers; updates are rounded to their steps.
        biases: None for the format of weights.
        activations: Inputs and what layers answer.
        gradients: Of answers, of weights, and the velocity that momentum keeps.
        headroom: Bits before the point beyond those that what was seen needs.

    Raises:
        ConfigError: It is no format.

    Example:
        >>> narrow = FixedPointFormats(weights=(2, 14), activations=16, gradients=(2, 14))
    """

    weights: Format = (2, 14)
    biases: Format | None = None
    activations: Format = (6, 10)
    gradients: Format = (2, 14)
    headroom: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no format."""
        for kind in _KINDS:
            try:
                self.grid(kind, seen=1.0, rounding="nearest")
            except CodecError as error:
                msg = f"{kind}: {error}"
                raise ConfigError(msg) from None
        if not 0 <= self.headroom <= 8:
            msg = f"headroom is {self.headroom}: expected 0 to 8 bits"
            raise ConfigError(msg)

    def grid(self, kind: str, *, seen: float, rounding: Rounding) -> FixedPoint:
        """The grid of some numbers.

        Args:
            kind: "weights", "biases", "activations" or "gradients".
            seen: Their largest magnitude; it matters where the point is to be placed.
            rounding: "nearest" or "stochastic".

        Raises:
            ModelError: What was seen is not finite.

        Example:
            >>> formats = FixedPointFormats(activations=16, headroom=1)
            >>> grid = formats.grid("activations", seen=5.5, rounding="nearest")
            >>> grid.integer_bits, grid.fraction_bits
            (5, 11)
        """
        found: Format = getattr(self, kind) if getattr(self, kind) is not None else self.weights
        if isinstance(found, int):
            if not math.isfinite(seen):
                msg = f"{kind}: the largest magnitude seen is {seen}, for which no point can be "
                raise ModelError(msg + "placed: look for what is not finite in network and data")
            before = integer_bits(seen) + self.headroom
            before = min(max(before, found - MOST_FRACTION_BITS), found + MOST_FRACTION_BITS)
            found = (before, found - before)
        return FixedPoint(integer_bits=found[0], fraction_bits=found[1], rounding=rounding)

    @property
    def is_placed(self) -> bool:
        """Whether any point is placed for what is seen."""
        return any(isinstance(getattr(self, kind), int) for kind in _KINDS)

    def word_bits(self, kind: str) -> int:
        """WL of a kind."""
        return self.grid(kind, seen=1.0, rounding="nearest").word_bits


def integer_bits(largest: float) -> int:
    """The fewest bits before the point, the sign among them, whose range holds a magnitude.

    Example:
        >>> [integer_bits(largest) for largest in (0.0, 0.3, 0.5, 0.99, 1.0, 5.5)]
        [1, 0, 1, 1, 2, 4]
    """
    return 1 if largest == 0 else math.floor(math.log2(largest)) + 2


def larger(one: float, other: float) -> float:
    """The greater magnitude; NaN where one is.

    Example:
        >>> larger(1.0, 2.0), larger(0.0, float("nan")), larger(float("nan"), 1.0)
        (2.0, nan, nan)
    """
    return one if math.isnan(one) or one > other else other


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Largest magnitudes, by the name of a call or of a parameter.

    Args:
        answers: Of calls.
        errors: Of the gradients of their answers, each sample's own.
        weights: Of parameters.
        gradients: Of their gradients, the mean over samples.
    """

    answers: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    gradients: Mapping[str, float] = field(default_factory=dict)
