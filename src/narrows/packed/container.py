"""The envelope of a packed file: a header of JSON, then parts, each with its checksum.

    0   7  "narrows"
    7   1  version, 2
    8   4  size of the header as it is stored
    12  4  its CRC-32
    16  …  the header: JSON, deflated (zlib) with a preset dictionary
    …      parts, one after the other: bytes, and their CRC-32 (4 bytes)

Numbers are little-endian. The header's "parts" are the sizes of the parts in bytes, without the
checksums, so that any part can be read alone. Every byte of a file is under one checksum, and a
file ends with its last part.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from narrows.errors import CodecError, CorruptData, InputError
from narrows.packed.preset import deflated, inflated

VERSION: Final = 2
_READ: Final = (1, 2)  # the first had no preset dictionary
SUFFIX: Final = ".narrows"
_MAGIC: Final = b"narrows"
_HEAD: Final = struct.Struct("<7sBII")
_CHECK: Final = struct.Struct("<I")
_MOST_HEADER_BYTES: Final = 1 << 23  # as JSON
_MOST_PARTS: Final = 1 << 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where one part of a file lies.

    Args:
        start: Of its first byte.
        size_bytes: Without the checksum that follows it.
    """

    start: int
    size_bytes: int


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Container:
    """An open packed file, whose parts are read when they are asked for.

    Args:
        name: For messages.
        header: What stands in the file's header, without "parts".
        parts: In their order.
        header_bytes: Of everything before the first part.
        source: The file, or its bytes.
    """

    name: str
    header: Mapping[str, Any]
    parts: tuple[Part, ...]
    header_bytes: int
    source: bytes | Path

    def read(self, number: int) -> bytes:
        """One part, from 0.

        Raises:
            CorruptData: It is not what was written.
        """
        part = self.parts[number]
        with _opened(self.source, self.name) as file:
            file.seek(part.start)
            data = file.read(part.size_bytes + _CHECK.size)
        content, check = data[: part.size_bytes], data[part.size_bytes :]
        if len(check) != _CHECK.size or _CHECK.unpack(check)[0] != zlib.crc32(content):
            msg = f"{self.name}: part {number} is damaged (its checksum differs); copy it again"
            raise CorruptData(msg)
        return content

    def content(self) -> bytes:
        """The whole file.

        Raises:
            InputError: It is not there any more.
        """
        with _opened(self.source, self.name) as file:
            return file.read()


def write_container(header: Mapping[str, Any], parts: Sequence[bytes]) -> bytes:
    """The bytes of a file.

    Args:
        header: JSON, without "parts".
        parts: In their order.

    Example:
        >>> data = write_container({"kind": "demo"}, [b"one", b""])
        >>> found = read_container(data, name="demo")
        >>> found.header, found.read(0), found.read(1)
        ({'kind': 'demo'}, b'one', b'')
    """
    told = {**header, "parts": [len(part) for part in parts]}
    text = json.dumps(told, separators=(",", ":")).encode()
    if len(text) > _MOST_HEADER_BYTES:
        msg = f"a header of {len(text)} bytes is more than a packed file may have: divide it"
        raise CodecError(msg)
    packed = deflated(text)
    head = _HEAD.pack(_MAGIC, VERSION, len(packed), zlib.crc32(packed))
    checked = (part + _CHECK.pack(zlib.crc32(part)) for part in parts)
    return b"".join((head, packed, *checked))


def read_container(source: bytes | str | Path, *, name: str | None = None) -> Container:
    """Open a file, or the bytes of one.

    Args:
        source: A path, or bytes.
        name: For messages; by default the path.

    Raises:
        InputError: There is no such file.
        CorruptData: It is no packed file, of a newer version, cut short or damaged.
    """
    called = name or ("the packed file" if isinstance(source, bytes) else str(source))
    held = source if isinstance(source, bytes) else Path(source)
    with _opened(held, called) as file:
        size = file.seek(0, io.SEEK_END)
        header, start = _header(file, size, called)
    sizes = header.pop("parts", None)
    good = isinstance(sizes, list) and len(sizes) <= _MOST_PARTS
    if not good or not all(type(part) is int and part >= 0 for part in sizes):
        raise _corrupt(called, "its header names no parts")
    parts, place = [], start
    for part in sizes:
        parts.append(Part(start=place, size_bytes=part))
        place += part + _CHECK.size
    if place != size:
        raise _corrupt(called, f"{place} bytes expected, {size} found")
    return Container(
        name=called, header=header, parts=tuple(parts), header_bytes=start, source=held
    )


@contextmanager
def _opened(source: bytes | Path, name: str) -> Iterator[BinaryIO]:
    """The file for as long as it is read."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            yield file
    except OSError as error:
        msg = f"{name} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error


def _header(file: BinaryIO, size: int, name: str) -> tuple[dict[str, Any], int]:
    """The header, and where the first part begins."""
    file.seek(0)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise _corrupt(name, "it does not begin as one")
    _, version, length, check = _HEAD.unpack(head)
    if version not in _READ:
        msg = (
            f"{name} is a packed file of version {version}, this narrows reads 1 to {VERSION}: "
            "install a newer narrows, or pack it with this one"
        )
        raise CorruptData(msg)
    if length > min(size - _HEAD.size, _MOST_HEADER_BYTES):
        raise _corrupt(name, "it is cut short within the header")
    packed = file.read(length)
    if zlib.crc32(packed) != check:
        raise _corrupt(name, "the header's checksum differs")
    try:
        header = json.loads(inflated(packed, _MOST_HEADER_BYTES))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _corrupt(name, "its header is no JSON object")
    return header, _HEAD.size + length


def _corrupt(name: str, reason: str) -> CorruptData:
    return CorruptData(f"{name} is no packed file, or a damaged one: {reason}; copy it again")
