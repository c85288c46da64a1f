"""Adaptive ANS: what it costs, what it learns, and its counts against a plain reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from narrows.coding.coders import Adaptive, Ans
from narrows.coding.coders.magnitudes import Levels, level_of, prior_counts
from narrows.errors import CorruptData


def coded(symbols: np.ndarray) -> bytes:
    coder = Adaptive()
    table = coder.fitter(symbols.shape).table()
    data = coder.encode(symbols, table)
    assert np.array_equal(coder.decode(data, symbols.shape, table), symbols)
    return data


def laplace(scale: np.ndarray | float, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).laplace(size=shape) * scale
    return np.rint(drawn).astype(np.int32)


def entropy_bytes(symbols: np.ndarray) -> float:
    _, counts = np.unique(symbols, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=12)


@given(arrays.arrays(np.int32, SHAPES, elements=st.integers(-(2**31), 2**31 - 1)))
@settings(max_examples=60, deadline=None)
def test_any_integers_come_back(symbols: np.ndarray) -> None:
    coded(symbols)


@given(arrays.arrays(np.int32, SHAPES, elements=st.integers(-70, 70)))
@settings(max_examples=60, deadline=None)
def test_small_integers_come_back(symbols: np.ndarray) -> None:
    coded(symbols)


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0, 40.0, 1000.0])
def test_large_matrices_take_their_entropy(scale: float) -> None:
    symbols = laplace(scale, (500, 400))
    assert len(coded(symbols)) < 1.01 * entropy_bytes(symbols)


def test_a_small_matrix_needs_no_table() -> None:
    symbols = laplace(1.0, (20, 20))
    coder = Ans()
    fitter = coder.fitter(symbols.shape)
    fitter.add(symbols[None])
    table = fitter.table()
    with_table = len(coder.encode(symbols, table)) + table["classes"].size
    assert len(coded(symbols)) < 1.08 * entropy_bytes(symbols) + 16 < with_table + 16


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_of_different_size_cost_less(axis: int) -> None:
    scales = 2.0 ** np.linspace(-3, 4, 200)
    symbols = laplace(scales[:, None] if axis == 0 else scales[None], (200, 200))
    assert len(coded(symbols)) < 0.86 * entropy_bytes(symbols)


def test_rows_and_columns_together_cost_less_than_either() -> None:
    row, column = (2.0 ** np.random.default_rng(n).uniform(-2, 3, 150) for n in (0, 1))
    symbols = laplace(row[:, None] * column[None], (150, 150))
    sizes = np.log2(row[:, None] * column[None] + 0.1).round()
    best = sum(entropy_bytes(symbols[sizes == size]) for size in np.unique(sizes))
    assert len(coded(symbols)) < 1.06 * best + 100


def test_zeros_cost_nearly_nothing() -> None:
    assert len(coded(np.zeros((1000, 1000), np.int32))) < 40
    sparse = laplace(3.0, (300, 300)) * (np.random.default_rng(1).random((300, 300)) < 0.02)
    assert len(coded(sparse.astype(np.int32))) < 1.03 * entropy_bytes(sparse)


def test_bits_are_told_apart() -> None:
    random = np.random.default_rng(0)
    where = random.random((200, 200)) < 0.1
    symbols = np.where(where, random.choice([-2, -1, 1, 2], (200, 200)), 0).astype(np.int32)
    coder, shape = Adaptive(), symbols.shape
    table = coder.fitter(shape).table()
    data = coder.encode(symbols, table)
    found = coder.split_bits(data, shape, table)
    share = -0.1 * math.log2(0.1) - 0.9 * math.log2(0.9)
    assert found["positions"] == pytest.approx(40_000 * share, rel=0.05)
    assert found["values"] == pytest.approx(2 * where.sum(), rel=0.05)
    assert sum(found.values()) <= 8 * len(data) <= sum(found.values()) + 8 * 12


def test_counts_begin_as_a_plain_reference_says() -> None:
    def reference(level: int, reach: int, weight: int) -> list[int]:
        mean = int(2 ** (level % 4 / 4) * 65536)
        mean = mean << level // 4 if level >= 0 else mean >> -(level // 4)
        ratio = mean * 65536 // (mean + 65536)
        side = [1 << 20]
        for _ in range(reach):
            side.append(side[-1] * ratio // 65536)
        raw = [*reversed(side[1:]), *side, side[-1] // 4]
        return [one * weight // sum(raw) + 1 for one in raw]

    for level in (-40, -7, 0, 3, 24):
        found = prior_counts(level, 60, 16384)
        expected = np.array(reference(level, 60, 16384))
        assert np.abs(found - expected).max() <= 1 + expected.max() // 1000


def test_levels_are_quarters_of_an_octave() -> None:
    means = 2.0 ** (np.arange(-39, 24) / 4)
    sums = np.rint(means * 10**6).astype(np.int64)
    assert level_of(sums, 10**6).tolist() == list(range(-39, 24))
    levels = Levels(base=0, step=2, rows=np.array([0, 3]), columns=np.array([1, -40]))
    assert levels.classes(0, 4, 2).tolist() == [2, -40, 8, -40]


def test_payloads_that_it_did_not_write_are_refused() -> None:
    coder, symbols = Adaptive(), laplace(2.0, (30, 30))
    table = coder.fitter(symbols.shape).table()
    data = coder.encode(symbols, table)
    for bad in (b"", data[:2], bytes([15]) + data[1:], data[:-4], data + b"\1\0\0\0", data[:3]):
        with pytest.raises(CorruptData):
            coder.decode(bad, symbols.shape, table)
