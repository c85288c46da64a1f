"""Layers of a binary network run by compiled kernels.

64 outputs are a panel: their weights lie side by side, word by word, so that one word of the input
meets 64 weights in eight vectors of eight words, and what is read from a panel is one word of
signs.

    weights (outputs, ..., words)  →  panels (outputs / 64, ..., words, 64)
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.binary import counting
from narrows.binary.kernels import Kernels, Step, flip_words, pooled, scores, windows
from narrows.binary.layers import ALWAYS, NEVER, FromBytes, FromSigns, Layer, Scores, Signs, Size
from narrows.binary.packing import WORD, Words, words_for

_LINE_BYTES: Final = 64
_LONG: Final = np.iinfo(np.int64)


@final
class CompiledKernels(Kernels):
    """Kernels that numba compiles, on one thread."""

    name: ClassVar[str] = "compiled"

    def step(self, layer: Layer, size: Size) -> Step:
        """What computes a layer."""
        product = layer.product
        if isinstance(product, FromBytes):
            return _byte_step(product, layer.readout)
        return _sign_step(product, layer.readout, size)


def _sign_step(product: FromSigns, readout: Signs | Scores, size: Size) -> Step:
    panels, window = _panels(product.weight), product.window
    places, moves = window.places(size), (*window.stride, *window.padding)

    def score(x: NDArray[Any]) -> NDArray[Any]:
        assert isinstance(readout, Scores)
        sums = np.empty((len(x), *places, len(panels) * WORD), np.int32)
        counting.sign_sums(np.ascontiguousarray(x), panels, moves, product.channels, sums)
        return scores(sums[..., : product.outputs], readout)

    if isinstance(readout, Scores):
        return score
    thresholds, flips = _thresholds(readout), flip_words(readout)

    def sign(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(x), *places, len(panels)), np.uint64)
        source = np.ascontiguousarray(x)
        counting.sign_bits(source, panels, moves, product.channels, thresholds, flips, out)
        return pooled(out, readout)

    return sign


def _byte_step(product: FromBytes, readout: Signs | Scores) -> Step:
    panels, words = _panels(product.weight), product.weight.shape[1]

    def score(x: NDArray[Any]) -> NDArray[Any]:
        assert isinstance(readout, Scores)
        seen = windows(x, product)
        sums = np.empty((*seen.shape[:3], len(panels) * WORD), np.int32)
        counting.byte_sums(*_planes(seen, words), panels, sums.reshape(-1, sums.shape[-1]))
        return scores(sums[..., : product.outputs], readout)

    if isinstance(readout, Scores):
        return score
    thresholds, flips = _thresholds(readout), flip_words(readout)

    def sign(x: NDArray[Any]) -> NDArray[Any]:
        seen = windows(x, product)
        out = np.empty((*seen.shape[:3], len(panels)), np.uint64)
        flat = out.reshape(-1, len(panels))
        counting.byte_bits(*_planes(seen, words), panels, thresholds, flips, flat)
        return pooled(out, readout)

    return sign


def _planes(seen: NDArray[np.uint8], words: int) -> tuple[Words, NDArray[np.int64]]:
    """Bit planes of windows (n, 8, words), and the sum of each window's bytes (n)."""
    count = seen.shape[0] * seen.shape[1] * seen.shape[2]
    whole = np.zeros((count, words * WORD), np.uint8)
    whole[:, : seen.shape[-1]] = seen.reshape(count, seen.shape[-1])
    planes, totals = np.zeros((count, 8, words), np.uint64), np.empty(count, np.int64)
    counting.split(whole, planes, totals)
    return planes, totals


def _panels(weight: Words) -> Words:
    """Weights (outputs, ...) as panels (outputs / 64, ..., 64), at the start of a cache line."""
    count = words_for(len(weight))
    shape = (count, *weight.shape[1:], WORD)
    size_bytes = count * WORD * weight[0].nbytes
    room = np.zeros(size_bytes + _LINE_BYTES, np.uint8)
    start = -room.ctypes.data % _LINE_BYTES
    panels = room[start : start + size_bytes].view(np.uint64).reshape(shape)
    for number in range(count):
        rows = weight[number * WORD : (number + 1) * WORD]
        panels[number, ..., : len(rows)] = np.moveaxis(rows, 0, -1)
    return panels


def _thresholds(readout: Signs) -> NDArray[np.int64]:
    """Of whole panels: sums of what is no output never reach theirs."""
    found = readout.threshold
    made = np.full(words_for(len(found)) * WORD, _LONG.max)
    made[: len(found)] = np.select(
        [found == NEVER, found == ALWAYS], [_LONG.max, _LONG.min], found.astype(np.int64)
    )
    return made
