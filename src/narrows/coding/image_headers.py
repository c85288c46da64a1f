"""What a JPEG, WebP or AVIF file says of itself, read before any decoder sees it.

Decoders allocate what the file asks for. These readers accept only the shape of file that
`ImageCodec` writes (one picture, no metadata, no alpha, no animation, few scans), so that a hostile
file can ask for no more than an honest one. AVIF says its size twice, in the container and in the
AV1 sequence header; both count.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from narrows.errors import CorruptData

Size = tuple[int, int]

_MAX_JPEG_SEGMENTS = 64
_MAX_JPEG_SCANS = 12
# Inside a scan, 0xFF is followed by 0 (stuffing) or a restart marker; anything else ends it.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOI, _EOI, _SOS, _APP0, _DQT, _DHT = 0xD8, 0xD9, 0xDA, 0xE0, 0xDB, 0xC4
_SOF = (0xC0, 0xC2)
_SAMPLING = {1: (b"\x11",), 3: (b"\x22\x11\x11",)}

_AVIF_PROPERTIES = {b"ispe", b"pixi", b"av1C", b"colr"}
_TEMPORAL_DELIMITER, _SEQUENCE_HEADER, _FRAME = 2, 1, 6


def jpeg_size(data: bytes) -> Size:
    """Width and height of a baseline or progressive JPEG.

    Raises:
        CorruptData: It is not a JPEG as `ImageCodec` writes it.
    """
    sizes: list[Size] = []
    scans = 0
    for marker, body in _jpeg_segments(data):
        if marker in _SOF:
            sizes.append(_jpeg_frame(body))
        elif marker == _SOS and len(sizes) == 1 and scans < _MAX_JPEG_SCANS:
            scans += 1
        elif marker not in (_APP0, _DQT, _DHT):
            raise _refused("JPEG", f"segment {marker:#x} after {scans} scans")
    if len(sizes) != 1 or not scans:
        raise _refused("JPEG", f"{len(sizes)} frames and {scans} scans")
    return sizes[0]


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of every segment between the start and the end of the image."""
    if data[:2] != bytes((0xFF, _SOI)):
        raise _refused("JPEG", f"first bytes {data[:2].hex()!r}")
    place = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = (
            data[place + 1] if data[place : place + 1] == b"\xff" and place + 4 <= len(data) else 0
        )
        if data[place:] == bytes((0xFF, _EOI)):
            return
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker < 0xC0 or size < 2 or place + 2 + size > len(data):
            raise _refused("JPEG", f"no whole segment at byte {place}")
        yield marker, data[place + 4 : place + 2 + size]
        place += 2 + size
        if marker == _SOS:
            found = _JPEG_MARKER.search(data, place)
            if not found:
                raise _refused("JPEG", "no end of the image")
            place = found.start()
    raise _refused("JPEG", f"more than {_MAX_JPEG_SEGMENTS} segments")


def _jpeg_frame(body: bytes) -> Size:
    """Width and height of a frame header with the chroma sampling that we write."""
    if len(body) < 6 or body[0] != 8 or len(body) != 6 + 3 * body[5]:
        raise _refused("JPEG", "a frame header of another form")
    if body[7::3] not in _SAMPLING.get(body[5], ()):
        raise _refused("JPEG", f"{body[5]} components sampled {body[7::3].hex()!r}")
    height, width = struct.unpack(">HH", body[1:5])
    return width, height


def webp_size(data: bytes) -> Size:
    """Width and height of a lossy WebP with one key frame and nothing else.

    Raises:
        CorruptData: It is not a WebP as `ImageCodec` writes it.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8 ":
        raise _refused("WebP", f"first bytes {data[:16].hex()!r}")
    riff, chunk = struct.unpack("<I", data[4:8])[0], struct.unpack("<I", data[16:20])[0]
    if riff + 8 != len(data) or 20 + chunk + chunk % 2 != len(data):
        raise _refused("WebP", f"{len(data)} bytes where its header says {riff + 8}")
    if data[20] & 1 or data[23:26] != b"\x9d\x01\x2a":
        raise _refused("WebP", "no key frame")
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def avif_size(data: bytes) -> Size:
    """Width and height of an AVIF with a single still picture.

    Raises:
        CorruptData: It is not an AVIF as `ImageCodec` writes it, or its two sizes differ.
    """
    top = list(_boxes(data, 0, len(data)))
    if [name for name, _, _ in top] != [b"ftyp", b"meta", b"mdat"]:
        raise _refused("AVIF", f"boxes {[name for name, _, _ in top][:8]}")
    parts = _once(data, top[1][1] + 4, top[1][2])
    if set(parts) != {b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"}:
        raise _refused("AVIF", f"boxes {sorted(parts)} in its description")
    iinf = data[slice(*parts[b"iinf"])]
    if iinf[:6] != bytes((0, 0, 0, 0, 0, 1)) or iinf[22:26] != b"av01":
        raise _refused("AVIF", "more than one item, or one that is no AV1 picture")
    _check_location(data[slice(*parts[b"iloc"])], top[2][1], top[2][2])
    properties = _once(data, *_once(data, *parts[b"iprp"]).get(b"ipco", (0, 0)))
    ispe = data[slice(*properties.get(b"ispe", (0, 0)))]
    if not set(properties) <= _AVIF_PROPERTIES or len(ispe) != 12:
        raise _refused("AVIF", f"properties {sorted(properties)}")
    width, height = struct.unpack(">II", ispe[4:])
    if _av1_size(data, top[2][1], top[2][2]) != (width, height):
        raise _refused("AVIF", f"a picture that is not {width} by {height} as its container says")
    return width, height


def _boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the body of each box; at most 16."""
    for _ in range(16):
        if place == end:
            return
        size = int.from_bytes(data[place : place + 4], "big")
        if size < 8 or place + size > end:
            break
        yield data[place + 4 : place + 8], place + 8, place + size
        place += size
    raise _refused("AVIF", f"no whole box at byte {place}")


def _once(data: bytes, place: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Name to begin and end of each box; no name twice."""
    boxes = list(_boxes(data, place, end))
    found = {name: (begin, stop) for name, begin, stop in boxes}
    if len(found) != len(boxes):
        raise _refused("AVIF", "a box that stands there twice")
    return found


def _check_location(iloc: bytes, begin: int, end: int) -> None:
    """Check that the one item is one extent: the whole body of mdat."""
    expected = bytes((0, 0, 0, 0, 0x44, 0, 0, 1, 0, 1, 0, 0, 0, 1)) + struct.pack(
        ">II", begin, end - begin
    )
    if iloc != expected:
        raise _refused("AVIF", "an item that is not the whole of its data")


def _av1_size(data: bytes, place: int, end: int) -> Size:
    """Width and height of a still picture: one sequence header and one frame."""
    kinds: list[int] = []
    size = (0, 0)
    while place < end and len(kinds) < 4:
        kind, has_size = data[place] >> 3, data[place] & 0b111
        place, length = _leb128(data, place + 1, end)
        if has_size != 0b010 or place + length > end:
            raise _refused("AVIF", "an AV1 unit of another form")
        kinds.append(kind)
        if kind == _SEQUENCE_HEADER:
            size = _sequence_size(data[place : place + length])
        place += length
    if kinds not in ([_TEMPORAL_DELIMITER, _SEQUENCE_HEADER, _FRAME], [_SEQUENCE_HEADER, _FRAME]):
        raise _refused("AVIF", f"AV1 units {kinds}")
    return size


def _leb128(data: bytes, place: int, end: int) -> tuple[int, int]:
    """The place after a number of at most four groups of seven bits, and the number."""
    value = 0
    for index in range(4):
        if place + index >= end:
            break
        value |= (data[place + index] & 0x7F) << (7 * index)
        if data[place + index] < 0x80:
            return place + index + 1, value
    raise _refused("AVIF", "an AV1 unit without a length")


def _sequence_size(header: bytes) -> Size:
    """Width and height of a reduced still picture header (AV1 specification, 5.5.1)."""
    bits = int.from_bytes(header[:8].ljust(8, b"\0"), "big")
    if (bits >> 59) & 0b11 != 0b11:
        raise _refused("AVIF", "an AV1 sequence that is no still picture")
    width_bits, height_bits = ((bits >> 50) & 15) + 1, ((bits >> 46) & 15) + 1
    width = (bits >> (46 - width_bits)) & ((1 << width_bits) - 1)
    height = (bits >> (46 - width_bits - height_bits)) & ((1 << height_bits) - 1)
    return width + 1, height + 1


def _refused(format_name: str, found: str) -> CorruptData:
    return CorruptData(
        f"expected {format_name} as ImageCodec writes it, found {found}; send it again"
    )


READERS: dict[str, Callable[[bytes], Size]] = {
    "jpeg": jpeg_size,
    "webp": webp_size,
    "avif": avif_size,
}
