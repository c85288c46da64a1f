"""Integers of given widths to a string of bits and back, most significant bit first.

Both directions are vectorised over 32-bit words, so that a thousand codes of different widths cost
microseconds. Reading never looks past the end of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import CorruptData

_WORD_MASK = np.uint64(0xFFFFFFFF)


def pack_bits(values: NDArray[Any], widths: NDArray[Any]) -> bytes:
    """Write each value with its width, one after the other; the last byte is filled with zeros.

    Args:
        values: Integers (n,), each in [0, 2**width).
        widths: Integers (n,) from 0 to 32.

    Returns:
        ceil(sum(widths) / 8) bytes.

    Example:
        >>> pack_bits(np.array([1, 0, 5]), np.array([1, 2, 3])).hex()
        '94'
    """
    widths = widths.astype(np.int64)
    ends = np.cumsum(widths)
    total = int(ends[-1]) if ends.size else 0
    if total == 0:
        return b""
    starts = ends - widths
    # The value stands in a 64-bit window that begins at its first word.
    shift = (64 - (starts & 31) - widths).clip(max=63).astype(np.uint64)
    window = values.astype(np.uint64) << shift
    word = starts >> 5
    n_words = (total + 31) // 32 + 1
    # The bits of different values do not overlap, so a sum is an "or"; below 2**32 it is exact.
    high = np.bincount(word, weights=window >> np.uint64(32), minlength=n_words)
    low = np.bincount(word + 1, weights=window & _WORD_MASK, minlength=n_words)[:n_words]
    high[: low.size] += low
    return high.astype(">u4").tobytes()[: (total + 7) // 8]


def unpack_bits(
    data: bytes | memoryview, start_bit: int, widths: NDArray[Any]
) -> NDArray[np.int64]:
    """Read one value per width, beginning at a bit.

    Args:
        data: What `pack_bits` wrote.
        start_bit: The first bit to read.
        widths: Integers (n,) from 0 to 32.

    Returns:
        Values (n,), each in [0, 2**width).

    Raises:
        CorruptData: The data ends before the last value.
    """
    widths = widths.astype(np.int64)
    ends = np.cumsum(widths)
    total = int(ends[-1]) if ends.size else 0
    end_bit = start_bit + total
    if end_bit > 8 * len(data):
        msg = f"payload ends early: {end_bit} bits expected, {8 * len(data)} found; send it again"
        raise CorruptData(msg)
    if total == 0:
        return np.zeros(widths.shape, np.int64)
    first = start_bit >> 3
    part = bytes(data[first : (end_bit + 7) >> 3])
    part += bytes(8 + -len(part) % 4)
    words = np.frombuffer(part, ">u4").astype(np.uint64)
    starts = ends - widths + (start_bit & 7)
    word = starts >> 5
    window = (words[word] << np.uint64(32)) | words[word + 1]
    shift = (64 - (starts & 31) - widths).clip(max=63).astype(np.uint64)
    mask = (np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1)
    values: NDArray[np.int64] = ((window >> shift) & mask).astype(np.int64)
    return values


def check_padding(data: bytes | memoryview, end_bit: int) -> None:
    """Check that the data ends where the last value does, filled up with zeros.

    Args:
        data: The whole payload.
        end_bit: The bit after the last value.

    Raises:
        CorruptData: Bytes are left over or missing, or the filling is not zero.
    """
    if len(data) != (end_bit + 7) // 8:
        msg = f"payload of {(end_bit + 7) // 8} bytes expected, {len(data)} found; send it again"
        raise CorruptData(msg)
    if end_bit % 8 and data[-1] & (0xFF >> end_bit % 8):
        msg = "the filling bits at the end of the payload are not zero; send it again"
        raise CorruptData(msg)
