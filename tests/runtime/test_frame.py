from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.errors import CodecError, CorruptData
from narrows.plan.candidate import Route
from narrows.runtime.frame import HEADER_BYTES, Frame, pack, unpack

frames = st.builds(
    Frame,
    route=st.sampled_from([Route.SPLIT, Route.IMAGE, Route.RAW]),
    bundle_id=st.binary(min_size=4, max_size=4),
    payload=st.binary(max_size=200),
    top=st.integers(0, 255),
    reply=st.booleans(),
)


def test_header_is_at_most_sixteen_bytes() -> None:
    empty = pack(Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=b""))
    assert len(empty) == HEADER_BYTES <= 16


def test_bytes_are_frozen() -> None:
    frame = Frame(route=Route.RAW, bundle_id=b"\1\2\3\4", payload=b"payload", top=5)
    data = bytes.fromhex("6e130500010203047c7c9ed8") + b"payload"
    assert pack(frame) == data
    assert unpack(data) == frame


@given(frames)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    assert unpack(pack(frame)) == frame


@given(frames, st.data())
def test_any_flipped_bit_is_found(frame: Frame, data: st.DataObject) -> None:
    good = bytearray(pack(frame))
    good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptData):
        unpack(bytes(good))


@given(frames, st.integers(0, 220), st.binary(max_size=8))
def test_a_cut_or_prolonged_frame_is_found(frame: Frame, length: int, more: bytes) -> None:
    good = pack(frame)
    changed = good[:length] + more
    if changed != good:
        with pytest.raises(CorruptData):
            unpack(changed)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_frame_or_corrupt(data: bytes, recompute: bool) -> None:
    if recompute and len(data) >= HEADER_BYTES:
        checksum = zlib.crc32(data[12:], zlib.crc32(data[:8]))
        data = data[:8] + struct.pack("<I", checksum) + data[12:]
    try:
        frame = unpack(data)
    except CorruptData:
        return
    assert pack(frame) == data


@pytest.mark.parametrize(("place", "value"), [(0, 0x4E), (1, 0x21), (1, 0x10), (1, 0x1F), (3, 2)])
def test_wrong_magic_version_route_and_flags_are_refused_with_a_right_checksum(
    place: int, value: int
) -> None:
    data = bytearray(pack(Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=b"x")))
    data[place] = value
    data[8:12] = struct.pack("<I", zlib.crc32(data[12:], zlib.crc32(data[:8])))
    with pytest.raises(CorruptData, match=r"starts with|version|route|flags"):
        unpack(bytes(data))


def test_a_frame_above_the_limit_is_refused() -> None:
    data = pack(Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=bytes(100)))
    assert unpack(data, max_bytes=112).payload == bytes(100)
    with pytest.raises(CorruptData, match="12 to 111 bytes"):
        unpack(data, max_bytes=111)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(route=Route.LOCAL, bundle_id=b"abcd", payload=b""),
        Frame(route=Route.SPLIT, bundle_id=b"abc", payload=b""),
        Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=b"", top=256),
        Frame(route=Route.SPLIT, bundle_id=b"abcd", payload=b"", top=-1),
    ],
)
def test_what_has_no_frame_is_refused(frame: Frame) -> None:
    with pytest.raises(CodecError):
        pack(frame)
