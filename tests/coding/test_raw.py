"""Raw bit packing: widths, escapes, and that a payload that decodes is the one encode writes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from narrows.coding.base import fit
from narrows.coding.bits import check_padding, pack_bits, unpack_bits
from narrows.coding.coders import Raw
from narrows.errors import CorruptData
from narrows.testing.hostile import mutated_bytes

RAW = Raw()
ANY_SYMBOL = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 2**32 - 1)), max_size=70))
@settings(max_examples=200, deadline=None)
def test_bits_are_those_of_a_string_of_bits(pairs):
    text = "".join(
        f"{value & (1 << width) - 1:0{width}b}" if width else "" for width, value in pairs
    )
    widths = np.array([width for width, _ in pairs], np.uint8)
    values = np.array([value & (1 << width) - 1 for width, value in pairs], np.int64)
    data = pack_bits(values, widths)
    padded = text.ljust(-(-len(text) // 8) * 8, "0")
    assert data == bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
    assert np.array_equal(unpack_bits(data, 0, widths), values)
    check_padding(data, len(text))
    if len(pairs) > 3:
        begin = int(widths[:3].sum())
        assert np.array_equal(unpack_bits(data, begin, widths[3:]), values[3:])


def test_reading_past_the_end_is_refused():
    with pytest.raises(CorruptData, match="ends early"):
        unpack_bits(b"\xff", 3, np.array([6]))
    for data, end in ((b"\xff\x00", 8), (b"", 1), (b"\x01", 7)):
        with pytest.raises(CorruptData):
            check_padding(data, end)


@given(
    seen=arrays(np.int32, (3, 4, 5), elements=st.one_of(st.integers(-9, 9), ANY_SYMBOL)),
    new=arrays(np.int32, (4, 5), elements=st.one_of(st.integers(-9, 9), ANY_SYMBOL)),
)
@settings(max_examples=150, deadline=None)
def test_round_trip_of_anything_with_a_table_of_anything(seen, new):
    table = fit(RAW, [seen])
    for symbols in (*seen, new):
        decoded = RAW.decode(RAW.encode(symbols, table), symbols.shape, table)
        assert np.array_equal(decoded, symbols)


def test_payload_has_the_fitted_width_and_eight_bytes_per_escape():
    symbols = np.array([[0, 1, 2, 3], [-4, 3, 0, 1], [7, 7, 7, 7]], np.int32)
    table = fit(RAW, [symbols[None]])
    assert table["width"].tolist() == [2, 3, 0]
    assert len(RAW.encode(symbols, table)) == (4 * 2 + 4 * 3 + 7) // 8
    symbols[2, 1] = 8
    symbols[0, 0] = -1
    assert len(RAW.encode(symbols, table)) == (4 * 2 + 4 * 3 + 7) // 8 + 2 * 8


def test_mutated_payloads_decode_canonically_or_not_at_all():
    generator = np.random.default_rng(0)
    seen = generator.integers(-20, 20, (5, 6, 7)).astype(np.int32)
    table = fit(RAW, [seen])
    symbols = seen[0].copy()
    symbols[2:4] = generator.integers(-900, 900, (2, 7))
    payload = RAW.encode(symbols, table)
    decoded = 0
    for damaged in mutated_bytes(payload, count=3000, seed=5):
        try:
            found = RAW.decode(damaged, symbols.shape, table)
        except CorruptData:
            continue
        decoded += 1
        assert RAW.encode(found, table) == damaged
    assert decoded > 100


def test_a_range_that_leaves_int32_is_refused():
    table = {"low": np.array([2**31 - 2], np.int32), "width": np.array([2], np.uint8)}
    with pytest.raises(CorruptData, match="32 bits"):
        RAW.validate((1, 4), table)
