"""Arrays as they are, and compressed: exact, and bounded when hostile."""

import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from narrows.coding import ArrayCodec
from narrows.errors import CodecError, CorruptData
from narrows.testing.hostile import mutated_bytes

CODECS = [ArrayCodec(compression="none"), ArrayCodec(compression="zlib")]


@given(
    array=st.one_of(
        arrays(np.float32, array_shapes(max_dims=3, max_side=6)),
        arrays(np.uint8, array_shapes(max_dims=3, max_side=6)),
    )
)
def test_arrays_come_back_bit_for_bit(array):
    for codec in CODECS:
        decoded = codec.decode(codec.encode(array), array.shape, array.dtype.name)
        assert decoded.dtype == array.dtype
        assert decoded.tobytes() == array.tobytes()
        assert decoded.shape == array.shape


def test_bytes_are_little_endian_in_row_order():
    array = np.array([[1.0, 2.0]], ">f4").T.astype(">f4")
    with_order = np.asfortranarray(np.array([[1, 2], [3, 4]], np.float32))
    assert CODECS[0].encode(array) == np.array([1, 2], "<f4").tobytes()
    assert CODECS[0].encode(with_order) == np.array([1, 2, 3, 4], "<f4").tobytes()


def test_zlib_is_smaller_where_there_is_something_to_gain():
    window = np.tile(np.float32([0.1, 0.2]), (6, 64))
    assert len(CODECS[1].encode(window)) < len(CODECS[0].encode(window)) / 20


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_damaged_bytes_are_refused_or_keep_the_shape(codec):
    window = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    for damaged in mutated_bytes(codec.encode(window), count=1000, seed=1):
        with suppress(CorruptData):
            assert codec.decode(damaged, window.shape).shape == window.shape


def test_a_bomb_is_not_inflated():
    bomb = zlib.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptData, match="exactly 480 bytes"):
            CODECS[1].decode(bomb, (6, 20))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_stands_around_the_data_is_refused():
    data = CODECS[1].encode(np.zeros(9, np.uint8))
    for wrong in (data + b"x", data[:-1], data + data, b""):
        with pytest.raises(CorruptData):
            CODECS[1].decode(wrong, (9,), "uint8")
    with pytest.raises(CorruptData, match="40 bytes expected"):
        CODECS[0].decode(bytes(39), (10,))


def test_settings_and_types_without_sense_are_refused():
    with pytest.raises(CodecError, match="'gzip' asked for"):
        ArrayCodec(compression="gzip")
    with pytest.raises(CodecError, match="complex64"):
        CODECS[0].encode(np.zeros(3, np.complex64))
    with pytest.raises(CodecError, match="object"):
        CODECS[0].decode(b"", (3,), "object")
