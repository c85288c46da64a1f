"""Layers of a binary network: a product of weights that are +1 and −1, and what is read from it.

    bytes or signs ──product──► whole numbers ──read-out──► signs, pooled or not; or scores

A linear layer is a convolution whose window is the whole picture. Everything is checked when it is
made, because the compiled kernels check nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from narrows.binary.packing import WORD, Words, words_for
from narrows.errors import ModelError

Size: TypeAlias = tuple[int, int]
ALWAYS: Final = -(2**31)
"""A threshold that every sum reaches; `NEVER` is one that none does."""
NEVER: Final = 2**31 - 1
_LONGEST: Final = 2**16
# So many bytes of 255 add up to less than NEVER.
_MOST_INPUTS: Final = 2**22


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a convolution or a pooling reads at a time.

    Args:
        kernel: Height and width.
        stride: From one window to the next.
        padding: Places around the picture, on each side.
    """

    kernel: Size
    stride: Size = (1, 1)
    padding: Size = (0, 0)

    def __post_init__(self) -> None:
        """Refuse a window that is none, or one that could lie beside the picture.

        Raises:
            ModelError: A number is out of its range.
        """
        good = all(0 <= p < k <= _LONGEST and 1 <= s <= _LONGEST for k, s, p in self._axes())
        if not good:
            msg = (
                f"no window {self}: kernel and stride are 1 to {_LONGEST}, padding below the kernel"
            )
            raise ModelError(msg)

    def places(self, size: Size) -> Size:
        """How many windows fit, down and across.

        Args:
            size: Height and width of the picture.

        Raises:
            ModelError: None fits.
        """
        height, width = (
            (n + 2 * p - k) // s + 1 for n, (k, s, p) in zip(size, self._axes(), strict=True)
        )
        if height < 1 or width < 1:
            msg = f"{self} does not fit into a picture of {size[0]} × {size[1]}"
            raise ModelError(msg)
        return height, width

    def _axes(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(zip(self.kernel, self.stride, self.padding, strict=True))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FromSigns:
    """Σ w · x over a window, with w and x of +1 and −1.

        Σ w · x = n − 2 · popcount(w XOR x),   n = channels · places of the window in the picture

    Padding is zero, as in torch: places outside the picture add nothing, so they are not counted.

    Args:
        weight: (outputs, height, width, words), packed along the channels.
        channels: Of the input.
        window: Its kernel is the weight's.
    """

    weight: Words
    channels: int
    window: Window

    def __post_init__(self) -> None:
        """Refuse a weight that does not fit, or whose filling is not zero.

        Raises:
            ModelError: So it is.
        """
        shape = (*self.window.kernel, words_for(self.channels))
        _check_words(self.weight, shape, self.channels, self.channels * _area(self.window.kernel))

    @property
    def outputs(self) -> int:
        """How many sums each window has."""
        return len(self.weight)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FromBytes:
    """Σ w · x over a window, with w of +1 and −1, and x bytes, through their eight bits.

        Σ w · x = 2 · Σ_b 2^b · popcount(w AND x_b) − Σ x,   x_b the bit b of each x

    Args:
        weight: (outputs, words), packed along height, width and channels of the window.
        channels: Of the input.
        window: What is read at a time.
        fill: The byte that stands outside the picture, which is the one that means zero.
    """

    weight: Words
    channels: int
    window: Window
    fill: int = 0

    def __post_init__(self) -> None:
        """Refuse a weight that does not fit, or whose filling is not zero.

        Raises:
            ModelError: So it is, or `fill` is no byte.
        """
        inputs = self.channels * _area(self.window.kernel)
        _check_words(self.weight, (words_for(inputs),), inputs, inputs)
        if not 0 <= self.fill <= 255:
            msg = f"fill is {self.fill}: expected a byte"
            raise ModelError(msg)

    @property
    def outputs(self) -> int:
        """How many sums each window has."""
        return len(self.weight)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signs:
    """A sign from each sum: +1 where (sum >= threshold) is not `flip`; then a maximum of them.

    That is batch normalisation and sign in one. The maximum over a window is "or" of the bits;
    where normalisation turns the order round it comes from a maximum of sums, which is "and".

    Args:
        threshold: (outputs), int32.
        flip: (outputs), bool.
        pool: Window of the maximum, without padding; None for none.
    """

    threshold: NDArray[np.int32]
    flip: NDArray[np.bool_]
    pool: Window | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not go together.

        Raises:
            ModelError: They do not, or the maximum is padded.
        """
        same = self.threshold.ndim == 1 and self.threshold.shape == self.flip.shape
        if not same or self.threshold.dtype != np.int32 or self.flip.dtype != np.bool_:
            found = f"{_kind(self.threshold)} and {_kind(self.flip)}"
            msg = f"threshold and flip are {found}: expected int32 and bool of one length"
            raise ModelError(msg)
        if self.pool is not None and self.pool.padding != (0, 0):
            msg = f"a maximum with padding {self.pool.padding}: expected none"
            raise ModelError(msg)

    @property
    def outputs(self) -> int:
        """How many sums it reads of each window."""
        return len(self.threshold)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """A number from each sum: gain · sum + offset.

    Args:
        gain: (outputs), float32.
        offset: (outputs), float32.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse arrays that do not go together.

        Raises:
            ModelError: They do not.
        """
        same = self.gain.ndim == 1 and self.gain.shape == self.offset.shape
        if not same or {self.gain.dtype, self.offset.dtype} != {np.dtype(np.float32)}:
            found = f"{_kind(self.gain)} and {_kind(self.offset)}"
            msg = f"gain and offset are {found}: expected float32 of one length"
            raise ModelError(msg)

    @property
    def outputs(self) -> int:
        """How many sums it reads of each window."""
        return len(self.gain)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A product and what is read from it.

    Args:
        product: From bytes in the first layer of a network, from signs in the others.
        readout: Scores in the last layer, signs in the others.
    """

    product: FromBytes | FromSigns
    readout: Signs | Scores

    def __post_init__(self) -> None:
        """Refuse two that do not go together.

        Raises:
            ModelError: They have different numbers of outputs.
        """
        if self.product.outputs != self.readout.outputs:
            msg = (
                f"a product of {self.product.outputs} outputs with {self.readout.outputs} to read: "
                "expected as many"
            )
            raise ModelError(msg)

    def size(self, picture: Size) -> Size:
        """Height and width of what it answers.

        Args:
            picture: Height and width of what it is given.

        Raises:
            ModelError: A window does not fit.
        """
        places = self.product.window.places(picture)
        pool = self.readout.pool if isinstance(self.readout, Signs) else None
        return places if pool is None else pool.places(places)


def _area(kernel: Size) -> int:
    return kernel[0] * kernel[1]


def _kind(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.shape}"


def _check_words(weight: Words, shape: tuple[int, ...], count: int, inputs: int) -> None:
    """See that a weight is words of a shape, and that the bits after `count` in each row are 0."""
    fits = weight.ndim > 1 and len(weight) > 0 and weight.shape[1:] == shape
    if not fits or weight.dtype != np.uint64:
        msg = (
            f"a weight is {_kind(weight)}: expected uint64 (outputs, {', '.join(map(str, shape))})"
        )
        raise ModelError(msg)
    if not 0 < inputs < _MOST_INPUTS:
        msg = f"a window of {inputs} values: expected 1 to {_MOST_INPUTS - 1}"
        raise ModelError(msg)
    left = count % WORD
    if left and (weight[..., -1] >> np.uint64(left)).any():
        msg = f"a weight of {count} values has bits after the last: expected zeros"
        raise ModelError(msg)
