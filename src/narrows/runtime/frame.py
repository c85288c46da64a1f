"""The wire format: twelve bytes of header, then the payload.

    byte   0      1                    2      3       4..7         8..11
           'n'    version<<4 | route   top    flags   bundle id    crc32 of bytes 0..7 and payload

A request says what the payload is (route), whose tables it was coded with (bundle id) and how much
of the answer it wants (top: the k best classes, 0 for the whole output). A reply has bit 0 of the
flags set and repeats the rest. Numbers are little-endian. The checksum finds damage, not malice: a
decoder behind it must stand any bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final, final

from narrows.errors import CodecError, CorruptData
from narrows.plan.candidate import Route

VERSION: Final = 1
HEADER_BYTES: Final = 12
ID_BYTES: Final = 4
MAX_TOP: Final = 255
MAX_FRAME_BYTES: Final = 1 << 28

_MAGIC: Final = ord("n")
_REPLY: Final = 1
_HEADER: Final = struct.Struct("<BBBB4sI")
_CODES: Final = {Route.SPLIT: 1, Route.IMAGE: 2, Route.RAW: 3}
_ROUTES: Final = {code: route for route, code in _CODES.items()}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One request or one reply.

    Args:
        route: What the payload is.
        bundle_id: First four bytes of the hash of the bundle's manifest.
        payload: Coded symbols, a picture file, the input's bytes, or a coded reply.
        top: How many classes the reply names; 0 asks for the whole output.
        reply: Whether it goes from cloud to device.
    """

    route: Route
    bundle_id: bytes
    payload: bytes
    top: int = 0
    reply: bool = False


def pack(frame: Frame) -> bytes:
    """A frame as bytes.

    Raises:
        CodecError: The local route has no frames, or a field is out of range.

    Example:
        >>> data = pack(Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=b"symbols", top=5))
        >>> len(data), unpack(data).payload
        (19, b'symbols')
    """
    if frame.route not in _CODES:
        msg = f"no frame for the {frame.route.value} route: nothing crosses the link there"
        raise CodecError(msg)
    if len(frame.bundle_id) != ID_BYTES or not 0 <= frame.top <= MAX_TOP:
        msg = (
            f"cannot write a frame with a bundle id of {len(frame.bundle_id)} bytes and "
            f"top {frame.top}: the id has {ID_BYTES} bytes and top is 0 to {MAX_TOP}"
        )
        raise CodecError(msg)
    kind = VERSION << 4 | _CODES[frame.route]
    start = struct.pack("<BBBB4s", _MAGIC, kind, frame.top, frame.reply * _REPLY, frame.bundle_id)
    checksum = zlib.crc32(frame.payload, zlib.crc32(start))
    return start + struct.pack("<I", checksum) + frame.payload


def unpack(data: bytes, *, max_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """The frame in `data`, checked.

    Args:
        data: A whole frame and nothing more.
        max_bytes: Longer frames are refused before anything of them is read.

    Raises:
        CorruptData: It is not a frame of this version, is too long, or its checksum is wrong.
    """
    if not HEADER_BYTES <= len(data) <= max_bytes:
        msg = f"a frame has {HEADER_BYTES} to {max_bytes} bytes, this one has {len(data)}"
        raise CorruptData(msg)
    magic, kind, top, flags, bundle_id, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        msg = f"not a narrows frame: it starts with byte {magic:#04x}, not {_MAGIC:#04x}"
        raise CorruptData(msg)
    if kind >> 4 != VERSION:
        msg = (
            f"a frame of version {kind >> 4}, this side reads version {VERSION}: "
            "install the same narrows on both sides"
        )
        raise CorruptData(msg)
    payload = data[HEADER_BYTES:]
    found = zlib.crc32(payload, zlib.crc32(data[: HEADER_BYTES - 4]))
    if found != checksum:
        msg = f"a frame's checksum is {checksum:08x}, its bytes give {found:08x}: damaged"
        raise CorruptData(msg)
    if kind & 15 not in _ROUTES or flags & ~_REPLY:
        msg = f"a frame with unknown route {kind & 15} or flags {flags:#04x}"
        raise CorruptData(msg)
    route = _ROUTES[kind & 15]
    return Frame(route=route, bundle_id=bundle_id, payload=payload, top=top, reply=bool(flags))
