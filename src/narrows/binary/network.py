"""A binary network: layers one after another, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.binary.kernels import choose_kernels
from narrows.binary.layers import FromBytes, Layer, Scores, Signs, Size
from narrows.errors import InputError, ModelError

Shape = tuple[int, ...]
# Samples at a time, which keeps what lies between two layers in the cache.
_PART: Final = 64


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinaryNetwork:
    """A network of bits: bytes in, scores out, and nothing but signs between its layers.

    Args:
        input_shape: Of one sample of bytes: (channels, height, width), or (values).
        layers: The first reads bytes, the others signs; the last answers scores at one place.

    Example:
        >>> from narrows.binary import FromBytes, Scores, Window, pack_signs
        >>> weight = pack_signs(np.array([[1, -1, 1], [1, 1, 1]]))
        >>> product = FromBytes(weight=weight, channels=3, window=Window(kernel=(1, 1)))
        >>> one = np.ones(2, np.float32)
        >>> layer = Layer(product=product, readout=Scores(gain=one, offset=-one))
        >>> run = BinaryNetwork(input_shape=(3,), layers=(layer,)).ready("numpy")
        >>> run(np.array([[10, 20, 30]], np.uint8)).tolist()
        [[19.0, 59.0]]
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Refuse layers that do not follow one another.

        Raises:
            ModelError: They do not.
        """
        if len(self.input_shape) not in (1, 3) or not all(n >= 1 for n in self.input_shape):
            msg = (
                f"an input of shape {self.input_shape}: expected (channels, height, width) or (n,)"
            )
            raise ModelError(msg)
        if not self.layers:
            msg = "a binary network of no layers: give at least one"
            raise ModelError(msg)
        size, channels = self._picture()
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            product, readout = layer.product, layer.readout
            if isinstance(product, FromBytes) != (number == 0):
                msg = f"layer {number} reads {_reads(layer)}: only the first reads bytes"
                raise ModelError(msg)
            if isinstance(readout, Scores) != (number == last):
                msg = f"layer {number} answers {_answers(layer)}: only the last answers scores"
                raise ModelError(msg)
            if product.channels != channels:
                msg = f"layer {number} reads {product.channels} channels of {channels}"
                raise ModelError(msg)
            size, channels = layer.size(size), product.outputs
        if size != (1, 1):
            msg = f"the last layer answers at {size[0]} × {size[1]} places: expected one"
            raise ModelError(msg)

    @property
    def size_bytes(self) -> int:
        """Of all weights, thresholds and factors, as they are stored."""
        return sum(array.nbytes for layer in self.layers for _, array in arrays(layer))

    def ready(self, kernels: str = "compiled") -> ReadyNetwork:
        """The network with weights laid out for the kernels that will run it.

        Args:
            kernels: "compiled" (numba, which compiles at the first run), or "numpy".

        Raises:
            ConfigError: There are no such kernels.
            MissingExtra: numba is not installed.
        """
        chosen, (size, _) = choose_kernels(kernels), self._picture()
        steps = []
        for layer in self.layers:
            steps.append(chosen.step(layer, size))
            size = layer.size(size)
        return ReadyNetwork(self, tuple(steps))

    def _picture(self) -> tuple[Size, int]:
        """Height and width, and channels, of the input."""
        if len(self.input_shape) == 1:
            return (1, 1), self.input_shape[0]
        return (self.input_shape[1], self.input_shape[2]), self.input_shape[0]


@final
class ReadyNetwork:
    """A binary network that can be called.

    Args:
        network: What it is made of.
        steps: What computes each of its layers.
    """

    def __init__(self, network: BinaryNetwork, steps: tuple[Any, ...]) -> None:
        self.network = network
        self._steps = steps

    def __call__(self, samples: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (n, outputs) of samples (n, *input_shape), bytes.

        Raises:
            InputError: They are no bytes, or of another shape.
        """
        pictures = self._pictures(samples)
        parts = []
        for place in range(0, max(1, len(pictures)), _PART):
            x: NDArray[Any] = pictures[place : place + _PART]
            for step in self._steps:
                x = step(x)
            parts.append(x.reshape(len(x), x.shape[-1]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def each(self, samples: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """What every layer answers: words (n, H, W, words), scores (n, 1, 1, outputs) at last.

        Args:
            samples: As for a call.

        Raises:
            InputError: They are no bytes, or of another shape.
        """
        x: NDArray[Any] = self._pictures(samples)
        for step in self._steps:
            x = step(x)
            yield x

    def _pictures(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, height, width, channels)."""
        shape = self.network.input_shape
        if samples.dtype != np.uint8 or samples.shape[1:] != shape or samples.ndim < 2:
            msg = (
                f"samples are {samples.dtype} {samples.shape}: expected uint8 "
                f"(n, {', '.join(map(str, shape))})"
            )
            raise InputError(msg)
        if len(shape) == 1:
            return samples.reshape(len(samples), 1, 1, *shape)
        return np.ascontiguousarray(samples.transpose(0, 2, 3, 1))


def arrays(layer: Layer) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of a layer by name."""
    yield "weight", layer.product.weight
    readout = layer.readout
    names = ("threshold", "flip") if isinstance(readout, Signs) else ("gain", "offset")
    yield from ((name, getattr(readout, name)) for name in names)


def _reads(layer: Layer) -> str:
    return "bytes" if isinstance(layer.product, FromBytes) else "signs"


def _answers(layer: Layer) -> str:
    return "scores" if isinstance(layer.readout, Scores) else "signs"
