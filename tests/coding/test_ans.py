"""ANS against a decoder in plain Python integers, and what it promises of sizes and tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.coding import fit
from narrows.coding.coders import Ans
from narrows.errors import CorruptData

ANS = Ans()


def laplace(n, components, positions, *, seed=0, spread=4.0):
    generator = np.random.default_rng(seed)
    scales = np.geomspace(spread, 0.05, components)[:, None]
    return np.rint(generator.laplace(size=(n, components, positions)) * scales).astype(np.int32)


class Stack:
    """The words as one stack with a state of 64 bits, decoded by the book."""

    def __init__(self, data):
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.state = self.words.pop()
        if self.words:
            self.state = self.state << 32 | self.words.pop()

    def decode(self, counts):
        quantile = self.state & (2**24 - 1)
        left = code = 0
        while quantile >= left + counts[code]:
            left += counts[code]
            code += 1
        self.state = (self.state >> 24) * counts[code] + quantile - left
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return code


def decoded_by_the_book(data, shape, table):
    stack, classes = Stack(data), table["classes"]
    codes = np.zeros((shape[0], int(np.prod(shape[1:]))), np.int64)
    for index, counts in enumerate(table["counts"].tolist()):
        for member in np.flatnonzero(classes == index):
            codes[member] = [stack.decode(counts) for _ in range(codes.shape[1])]
    flat = codes.reshape(-1)
    symbols = flat - 30
    halves = [2**8] * 2**16
    for place in np.flatnonzero(flat == 61):
        value = stack.decode(halves) << 16 | stack.decode(halves)
        symbols[place] = value - 2**32 if value >= 2**31 else value
    assert (stack.state, stack.words) == (1, [])
    return symbols.reshape(shape)


def test_integers_in_plain_python_decode_the_same():
    batch = laplace(12, 10, 20)
    table = fit(ANS, [batch[:8]])
    batch[8:, 0, 0] = (31, -31, 2**31 - 1, -(2**31))
    for symbols in batch[8:]:
        data = ANS.encode(symbols, table)
        assert np.array_equal(decoded_by_the_book(data, symbols.shape, table), symbols)


@given(
    components=st.integers(1, 40),
    positions=st.integers(1, 60),
    spread=st.floats(0.1, 40),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_a_payload_is_its_cost_and_at_most_eight_bytes(components, positions, spread, seed):
    batch = laplace(4, components, positions, seed=seed, spread=spread)
    table = fit(ANS, [batch[:3]])
    for symbols in batch:
        least = ANS.cost_bits(symbols, table) / 8
        assert least - 4 <= len(ANS.encode(symbols, table)) <= least + 8


def test_cost_is_the_cross_entropy_of_the_counts():
    batch = laplace(6, 5, 30)
    table = fit(ANS, [batch])
    symbols = batch[0].copy()
    symbols[2, 3] = 1000
    bits = 32.0
    for row, index in zip(symbols, table["classes"], strict=True):
        for value in row.tolist():
            code = value + 30 if abs(value) <= 30 else 61
            bits -= np.log2(table["counts"][index, code] / 2**24)
    assert ANS.cost_bits(symbols, table) == pytest.approx(bits)


def test_components_of_equal_size_share_a_table():
    batch = laplace(50, 300, 16)
    table = fit(ANS, [batch])
    classes = table["classes"]
    assert table["counts"].shape == (classes.max() + 1, 62)
    assert 8 < classes.max() + 1 <= 32
    assert (table["counts"].sum(1) == 2**24).all()
    mean = np.abs(batch).mean((0, 2))
    assert max(mean[classes == 1]) < min(mean[classes == 0])
    alike = fit(ANS, [laplace(50, 1, 16).repeat(8, axis=1)])
    assert alike["classes"].tolist() == [0] * 8


def test_what_stands_around_a_payload_is_refused():
    symbols = laplace(1, 6, 40)[0]
    table = fit(ANS, [symbols[None]])
    data = ANS.encode(symbols, table)
    for wrong in (b"", data[4:], data[:-4], data + bytes(4), data + data, bytes(4) + data):
        with pytest.raises(CorruptData):
            ANS.decode(wrong, symbols.shape, table)
