"""The payload of a reply: the cloud's time, then the k best classes or the whole output.

    4 bytes     microseconds the service took, between the frame's arrival and this reply
    top k       k × (class: 2 bytes, or 4 above 65 536 classes; score: float32)
    or whole    every output's elements in order, little-endian

Names and shapes are in the manifest, which both sides hold, so a top-5 reply is 34 bytes and its
frame 46, where a thousand float logits would be 4 kB.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import CorruptData
from narrows.runtime.manifest import Tensor

Outputs = tuple[NDArray[Any], ...]
Top = tuple[tuple[int, float], ...]

_TIME: Final = struct.Struct("<I")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the cloud answers.

    Args:
        service_s: Time the service took.
        top: The best classes and their scores, best first; empty if the whole output was asked.
        outputs: One sample of every output; None if only the best classes were asked.
    """

    service_s: float
    top: Top = ()
    outputs: Outputs | None = None


def best(scores: NDArray[Any], count: int) -> Top:
    """The `count` best classes of one output, best first; equal scores by class.

    Example:
        >>> best(np.float32([0.5, 2.0, -1.0]), 2)
        ((1, 2.0), (0, 0.5))
    """
    flat = scores.reshape(-1).astype(np.float32)
    order = np.argsort(-flat, kind="stable")[:count]
    return tuple((int(place), float(flat[place])) for place in order)


def pack(reply: Reply) -> bytes:
    """A reply as the payload of a frame."""
    start = _TIME.pack(min(round(max(reply.service_s, 0.0) * 1e6), 0xFFFFFFFF))
    if reply.outputs is not None:
        arrays = (np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for a in reply.outputs)
        return start + b"".join(a.tobytes() for a in arrays)
    return start + _pairs(reply.top)


def _pairs(top: Top) -> bytes:
    wide = any(place > 0xFFFF for place, _ in top)
    return b"".join(struct.pack("<If" if wide else "<Hf", place, score) for place, score in top)


def unpack(payload: bytes, *, outputs: tuple[Tensor, ...], top: int) -> Reply:
    """The reply in a payload.

    Args:
        payload: Of the reply's frame.
        outputs: The model's outputs, from the manifest.
        top: What the request asked for.

    Raises:
        CorruptData: The length is not that of the asked answer, or a class does not exist.
    """
    if len(payload) < _TIME.size:
        msg = f"a reply has at least {_TIME.size} bytes, this one has {len(payload)}"
        raise CorruptData(msg)
    service_s = _TIME.unpack_from(payload)[0] / 1e6
    body = payload[_TIME.size :]
    if top:
        return Reply(service_s=service_s, top=_unpack_top(body, outputs[0], top))
    return Reply(service_s=service_s, outputs=_unpack_outputs(body, outputs))


def _unpack_top(body: bytes, output: Tensor, top: int) -> Top:
    classes = math.prod(output.shape)
    count = min(top, classes)
    for pair in (struct.Struct("<Hf"), struct.Struct("<If")):
        if len(body) == count * pair.size:
            found = tuple((int(place), float(score)) for place, score in pair.iter_unpack(body))
            break
    else:
        msg = f"a reply of {len(body)} bytes does not hold the best {count} classes"
        raise CorruptData(msg)
    if any(place >= classes for place, _ in found):
        msg = f"a reply names class {max(p for p, _ in found)} of {classes}"
        raise CorruptData(msg)
    return found


def _unpack_outputs(body: bytes, outputs: tuple[Tensor, ...]) -> Outputs:
    expected = sum(output.size_bytes for output in outputs)
    if len(body) != expected:
        msg = f"a reply of {len(body)} bytes; the model's outputs have {expected}"
        raise CorruptData(msg)
    arrays, start = [], 0
    for output in outputs:
        dtype = np.dtype(output.dtype).newbyteorder("<")
        array = np.frombuffer(body, dtype, math.prod(output.shape), start)
        arrays.append(array.reshape(output.shape).astype(output.dtype))
        start += output.size_bytes
    return tuple(arrays)
