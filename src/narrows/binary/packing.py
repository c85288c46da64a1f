"""Signs and bytes as bits, 64 to a word, along the last axis.

    +1 → 1, −1 → 0; the first value is the lowest bit; a last word is filled up with zeros

The filling is the same in both operands of a product, so that it differs nowhere and no count sees
it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError

WORD: Final = 64
Words = NDArray[np.uint64]


def words_for(bits: int) -> int:
    """How many words hold so many bits."""
    return -(-bits // WORD)


def pack_signs(values: NDArray[Any]) -> Words:
    """The signs of numbers (..., n) as words (..., ceil(n / 64)); zero counts as +1.

    Example:
        >>> pack_signs(np.array([1.0, -2.0, 0.0, -0.5, 3.0])).tolist()
        [21]
    """
    return pack_bits(np.asarray(values) >= 0)


def unpack_signs(words: Words, count: int) -> NDArray[np.int8]:
    """What `pack_signs` packed, as +1 and −1: (..., count).

    Args:
        words: (..., ceil(count / 64)).
        count: How many bits count.

    Raises:
        InputError: There are not so many words.

    Example:
        >>> unpack_signs(np.array([21], np.uint64), 5).tolist()
        [1, -1, 1, -1, 1]
    """
    if words.ndim < 1 or words.shape[-1] != words_for(count):
        msg = f"{count} bits take {words_for(count)} words: the array has shape {words.shape}"
        raise InputError(msg)
    flat = np.ascontiguousarray(words, "<u8").view(np.uint8)
    bits = np.unpackbits(flat, axis=-1, count=count, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)


def pack_planes(values: NDArray[np.uint8]) -> Words:
    """The eight bits of bytes (..., n), each a plane of words: (..., 8, ceil(n / 64)).

    Example:
        >>> pack_planes(np.array([1, 3, 128], np.uint8))[:, 0].tolist()
        [3, 2, 0, 0, 0, 0, 0, 4]
    """
    bits = np.unpackbits(values[..., None], axis=-1, bitorder="little")
    return pack_bits(bits.swapaxes(-1, -2))


def pack_bits(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Booleans, or zeros and ones (..., n), as words (..., ceil(n / 64))."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    shape = (*packed.shape[:-1], 8 * words_for(bits.shape[-1]))
    if packed.shape != shape:
        whole = np.zeros(shape, np.uint8)
        whole[..., : packed.shape[-1]] = packed
        packed = whole
    words: Words = np.ascontiguousarray(packed).view("<u8").astype(np.uint64, copy=False)
    return words
