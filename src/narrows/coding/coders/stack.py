"""The stack of asymmetric numeral systems (constriction), and its bytes."""

from __future__ import annotations

from typing import Any, Final

import constriction
import numpy as np
from numpy.typing import NDArray

from narrows.errors import CorruptData

TOTAL: Final = 1 << 24
"""Counts of a table sum to this."""
_WORD: Final = np.dtype("<u4")
_HALF: Final = 16
_SEAL: Final = np.ones(1, np.uint32)  # what the stack begins with, and must end with


def new_stack() -> Any:
    """A stack to encode on."""
    return constriction.stream.stack.AnsCoder(_SEAL)


def stack_bytes(stack: Any) -> bytes:
    """A stack as a payload: 8 bytes at most over the sum of its symbols' costs."""
    return np.asarray(stack.get_compressed(), dtype=_WORD).tobytes()


def opened_stack(data: bytes | memoryview, symbols: int) -> Any:
    """The stack of a payload.

    Args:
        data: What `stack_bytes` gave.
        symbols: How many it holds.

    Raises:
        CorruptData: It cannot be that.
    """
    if len(data) % _WORD.itemsize or len(data) > 16 * symbols + 16:
        msg = f"{len(data)} bytes cannot be {symbols} symbols coded by ANS; send it again"
        raise CorruptData(msg)
    words = np.frombuffer(data, _WORD).astype(np.uint32)
    if not words.size or words[-1] == 0:
        msg = "an ANS payload is neither empty nor ends with a zero word; send it again"
        raise CorruptData(msg)
    return constriction.stream.stack.AnsCoder(words)


def is_at_end(stack: Any) -> bool:
    """Whether everything that was encoded has been decoded, and nothing else."""
    return bool(np.array_equal(stack.get_compressed(), _SEAL))


def categorical(counts: NDArray[Any]) -> Any:
    """The model of counts, integers from 1 that sum to `TOTAL`, which it reproduces exactly."""
    return constriction.stream.model.Categorical(counts.astype(np.float64) - 1, perfect=False)


def encode_bits(stack: Any, values: NDArray[Any], width: int) -> None:
    """Put the low bits of values on the stack as they are, 32 at most."""
    bits = values.astype(np.int64)
    if width > _HALF:
        halves = np.stack([bits >> _HALF & (1 << (width - _HALF)) - 1, bits & 0xFFFF], 1)
        if width == 2 * _HALF:
            stack.encode_reverse(halves.reshape(-1).astype(np.int32), _uniform(_HALF))
            return
        stack.encode_reverse(halves[:, 1].astype(np.int32), _uniform(_HALF))
        stack.encode_reverse(halves[:, 0].astype(np.int32), _uniform(width - _HALF))
    elif width:
        stack.encode_reverse((bits & (1 << width) - 1).astype(np.int32), _uniform(width))


def decode_bits(stack: Any, count: int, width: int) -> NDArray[np.int64]:
    """Take values of a width from the stack, in their order."""
    if width == 2 * _HALF:
        halves = stack.decode(_uniform(_HALF), 2 * count).astype(np.int64).reshape(-1, 2)
        return np.asarray(halves[:, 0] << _HALF | halves[:, 1])
    if width > _HALF:
        high = stack.decode(_uniform(width - _HALF), count).astype(np.int64)
        return np.asarray(high << _HALF | stack.decode(_uniform(_HALF), count))
    if width:
        return np.asarray(stack.decode(_uniform(width), count).astype(np.int64))
    return np.zeros(count, np.int64)


def _uniform(width: int) -> Any:
    return constriction.stream.model.Uniform(1 << width)
