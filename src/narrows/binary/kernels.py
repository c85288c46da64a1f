"""Kernels: what computes the layers of a binary network. The plain ones are NumPy's own.

    numpy      needs nothing else; np.bitwise_count over whole arrays
    compiled   numba, of the extra `binary`; counts stay in vector registers

Both answer the same bits. A kernel turns a layer into a step once, when a network is made ready:
weights may be laid out anew then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.binary.layers import FromBytes, FromSigns, Layer, Scores, Signs, Size, Window
from narrows.binary.packing import Words, pack_bits, pack_planes
from narrows.errors import ConfigError, MissingExtra

Step = Callable[[NDArray[Any]], NDArray[Any]]
"""From a batch of pictures to the next: bytes (n, H, W, channels) or words (n, H, W, words)."""
Sums = NDArray[np.int32]


class Kernels(ABC):
    """A way to compute layers."""

    name: ClassVar[str]

    @abstractmethod
    def step(self, layer: Layer, size: Size) -> Step:
        """What computes a layer.

        Args:
            layer: The layer.
            size: Height and width of its input.
        """


@final
class NumpyKernels(Kernels):
    """NumPy alone: counts of bits, one place of the window after another."""

    name: ClassVar[str] = "numpy"

    def step(self, layer: Layer, size: Size) -> Step:
        """What computes a layer."""
        product, readout = layer.product, layer.readout
        weight = outputs_last(product.weight)

        def one(x: NDArray[Any]) -> NDArray[Any]:
            if isinstance(product, FromBytes):
                sums = byte_sums(x, product, weight)
            else:
                sums = sign_sums(x, product, weight)
            if isinstance(readout, Scores):
                return scores(sums, readout)
            return pooled(pack_bits((sums >= readout.threshold) != readout.flip), readout)

        # One picture at a time, whose differing bits fit into the cache.
        return lambda x: np.concatenate(
            [one(x[place : place + 1]) for place in range(max(1, len(x)))]
        )


def choose_kernels(name: str) -> Kernels:
    """Kernels by name.

    Raises:
        ConfigError: There are none of this name.
        MissingExtra: numba is not installed.

    Example:
        >>> choose_kernels("numpy").name
        'numpy'
    """
    if name == "numpy":
        return NumpyKernels()
    if name != "compiled":
        msg = f"no kernels {name!r}: choose compiled or numpy"
        raise ConfigError(msg)
    try:
        from narrows.binary.compiled import CompiledKernels
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        what = "the compiled kernels of binary networks (kernels='numpy' does without)"
        raise MissingExtra(what, "binary") from None
    return CompiledKernels()


def outputs_last(weight: Words) -> Words:
    """Weights (outputs, ...) as (..., outputs), so that one word meets those of all outputs."""
    return np.ascontiguousarray(np.moveaxis(weight, 0, -1))


def sign_sums(x: Words, product: FromSigns, weight: Words) -> Sums:
    """Σ w · x of every window: (n, places down, places across, outputs).

    Args:
        x: Signs (n, H, W, words).
        product: What they are multiplied by.
        weight: Its weights, outputs last.
    """
    window, size = product.window, (x.shape[1], x.shape[2])
    sums = np.zeros((len(x), *window.places(size), product.outputs), np.int32)
    for row, column in np.ndindex(*window.kernel):
        down, above = _inside(window, size, 0, row)
        across, left = _inside(window, size, 1, column)
        part = sums[:, down, across]
        part += product.channels
        for word, weights in enumerate(weight[row, column]):
            differing = np.bitwise_count(x[:, above, left, word, None] ^ weights)
            part -= 2 * differing.astype(np.int32)
    return sums


def byte_sums(x: NDArray[np.uint8], product: FromBytes, weight: Words) -> Sums:
    """Σ w · x of every window: (n, places down, places across, outputs).

    Args:
        x: Bytes (n, H, W, channels).
        product: What they are multiplied by.
        weight: Its weights, outputs last.
    """
    found = windows(x, product)
    planes = pack_planes(found)
    sums = np.zeros((*found.shape[:3], product.outputs), np.int32)
    sums -= found.sum(-1, dtype=np.int32)[..., None]
    for bit in range(8):
        for word, weights in enumerate(weight):
            common = np.bitwise_count(planes[..., bit, word, None] & weights)
            sums += common.astype(np.int32) << (bit + 1)
    return sums


def windows(x: NDArray[np.uint8], product: FromBytes) -> NDArray[np.uint8]:
    """What each window holds: (n, places down, places across, inputs).

    Args:
        x: Bytes (n, H, W, channels).
        product: What reads them; it knows what stands outside the picture.
    """
    window = product.window
    places = window.places((x.shape[1], x.shape[2]))
    shape = (len(x), *places, window.kernel[0] * window.kernel[1] * product.channels)
    if window.kernel == x.shape[1:3] and window.padding == (0, 0):
        return x.reshape(shape)
    (down, across), (tall, wide) = window.padding, window.stride
    margin = ((0, 0), (down, down), (across, across), (0, 0))
    padded = np.pad(x, margin, constant_values=product.fill)
    seen = np.lib.stride_tricks.sliding_window_view(padded, window.kernel, (1, 2))
    return seen[:, ::tall, ::wide].transpose(0, 1, 2, 4, 5, 3).reshape(shape)


def scores(sums: Sums, readout: Scores) -> NDArray[np.float32]:
    """A number from each sum."""
    found: NDArray[np.float32] = readout.gain * sums.astype(np.float32) + readout.offset
    return found


def pooled(signs: Words, readout: Signs) -> Words:
    """The maximum over windows, or the minimum where signs are flipped: (n, H, W, words).

    Args:
        signs: Before, (n, H, W, words).
        readout: With its window; without one they stay as they are.
    """
    if readout.pool is None:
        return signs
    size, flips = (signs.shape[1], signs.shape[2]), flip_words(readout)
    down, across = readout.pool.places(size)
    tall, wide = readout.pool.stride
    # x ^ flip, "or", ^ flip: the minimum is the maximum of what is turned round.
    found = np.zeros((len(signs), down, across, signs.shape[-1]), np.uint64)
    for row, column in np.ndindex(*readout.pool.kernel):
        found |= signs[:, row::tall, column::wide][:, :down, :across] ^ flips
    return found ^ flips


def flip_words(readout: Signs) -> Words:
    """Where signs are flipped, as words."""
    return pack_bits(readout.flip)


def _inside(window: Window, size: Size, axis: int, offset: int) -> tuple[slice, slice]:
    """Windows whose place at an offset lies in the picture, and these places, along an axis."""
    length, stride = size[axis], window.stride[axis]
    begin = offset - window.padding[axis]
    first = -(-max(0, -begin) // stride)
    last = min(window.places(size)[axis] - 1, (length - 1 - begin) // stride)
    start = begin + first * stride
    count = max(0, last - first + 1)
    return slice(first, first + count), slice(
        start, start + max(0, (count - 1) * stride + 1), stride
    )
