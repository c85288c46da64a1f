"""Canonical Huffman over zero runs: against a reference decoder, the entropy, and hostile bytes."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from narrows.coding.base import fit
from narrows.coding.coders import Huffman
from narrows.coding.coders.code_book import ALPHABET, END, ESCAPE, SIGNED_CLASSES, code_table
from narrows.coding.coders.grouping import MAX_GROUPS, group_components
from narrows.errors import CorruptData
from narrows.testing.hostile import mutated_bytes

HUFFMAN = Huffman()
SYMBOLS = arrays(
    np.int32,
    array_shapes(min_dims=1, max_dims=3, max_side=9),
    elements=st.one_of(st.just(0), st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1)),
)


def feature(n, *, components=40, side=8, seed=0):
    """Symbols as a PCA gives them: variances fall, and positions are active or quiet together."""
    generator = np.random.default_rng(seed)
    scales = np.exp(-np.arange(components) / 8)[:, None, None] * 5
    activity = generator.gamma(0.6, 2, (n, 1, side, side))
    laplace = generator.laplace(size=(n, components, side, side))
    return np.rint(laplace * scales * activity).astype(np.int32)


def reference_decode(data, shape, table):
    """Bit by bit, as the format is described; slow, and trusts the data."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(width):
        nonlocal place
        place += width
        return int(bits[place - width : place], 2) if width else 0

    groups, first = [], 0
    for counts in table["counts"]:
        code, words, index = 0, {}, first
        for length, count in enumerate(counts.tolist()):
            for _ in range(count):
                words[f"{code:0{length}b}"] = int(table["tokens"][index])
                code, index = code + 1, index + 1
            code <<= 1
        first = index
        tokens, begin = [], place
        while not tokens or tokens[-1] != END:
            begin, word = place, ""
            while word not in words:
                word = bits[begin : (place := place + 1)]
            tokens.append(words[word])
        groups.append(tokens[:-1])

    def join(number_class):
        if number_class < 16:
            return number_class
        width = (number_class - 16) // 2 + 3
        return (2 + number_class % 2 << width) + read(width)

    def unescaped(token):
        return read(7) * SIGNED_CLASSES + read(8) if token == ESCAPE else token

    groups = [[unescaped(token) for token in tokens] for tokens in groups]
    symbols = np.zeros(shape, np.int64).reshape(shape[0], -1)
    for group, tokens in enumerate(groups):
        rows = np.flatnonzero(table["groups"] == group)
        line = []
        for token in tokens:
            line += [0] * join(token // SIGNED_CLASSES)
            magnitude = join(token % SIGNED_CLASSES // 2) + 1
            line.append(-magnitude if token % 2 else magnitude)
        line += [0] * (rows.size * symbols.shape[1] - len(line))
        symbols[rows] = np.array(line).reshape(rows.size, -1)
    return symbols.reshape(shape)


def test_reference_decoder_reads_the_same_symbols():
    batch = feature(20)
    table = fit(HUFFMAN, [batch[:15]])
    for symbols in [*batch[15:], batch[0] * 1000, batch[1] + 1]:
        payload = HUFFMAN.encode(symbols, table)
        assert np.array_equal(reference_decode(payload, symbols.shape, table), symbols)


@given(batch=st.lists(SYMBOLS, min_size=1, max_size=1), other=st.data())
@settings(max_examples=150, deadline=None)
def test_round_trip_of_anything_with_a_table_of_anything(batch, other):
    shape = batch[0].shape
    symbols = other.draw(arrays(np.int32, shape, elements=st.integers(-(2**31), 2**31 - 1)))
    table = fit(HUFFMAN, [batch[0][None]])
    for values in (batch[0], symbols):
        decoded = HUFFMAN.decode(HUFFMAN.encode(values, table), shape, table)
        assert np.array_equal(decoded, values)


@given(data=st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_what_decodes_is_what_encode_writes(data):
    batch = feature(4, components=6, side=3)
    table = fit(HUFFMAN, [batch])
    try:
        symbols = HUFFMAN.decode(data, batch.shape[1:], table)
    except CorruptData:
        return
    assert HUFFMAN.encode(symbols, table) == data


def test_mutated_payloads_decode_canonically_or_not_at_all():
    batch = feature(30, components=12, side=5)
    table = fit(HUFFMAN, [batch])
    payload = HUFFMAN.encode(batch[3], table)
    decoded = 0
    for damaged in mutated_bytes(payload, count=3000, seed=5):
        try:
            symbols = HUFFMAN.decode(damaged, batch.shape[1:], table)
        except CorruptData:
            continue
        decoded += 1
        assert HUFFMAN.encode(symbols, table) == damaged
    assert decoded > 30  # Single flipped bits often decode: the checksum of a frame is needed.


def test_rate_is_within_three_percent_of_the_static_entropy():
    batch = feature(300, components=80, side=14)
    known, new = batch[:250], batch[250:]
    table = fit(HUFFMAN, [known[:100], known[100:]])
    size = np.mean([len(HUFFMAN.encode(symbols, table)) for symbols in new])
    bits = 0.0
    for component in range(80):
        values, counts = np.unique(new[:, component], return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum()) if values.size > 1 else 0
    assert size <= 1.03 * bits / 8 / len(new)


def test_zeros_cost_less_than_a_bit():
    batch = (feature(200) > 12).astype(np.int32)
    table = fit(HUFFMAN, [batch])
    assert len(HUFFMAN.encode(np.zeros_like(batch[0]), table)) <= 4
    assert np.mean([len(HUFFMAN.encode(symbols, table)) for symbols in batch]) < batch[0].size / 32


def test_groups_are_few_and_better_than_one():
    batch = feature(60, components=80)
    table = fit(HUFFMAN, [batch])
    n_groups = len(table["counts"])
    assert 2 <= n_groups <= MAX_GROUPS
    magnitudes = np.abs(batch).mean((0, 2, 3))
    assert (np.diff(table["groups"][np.argsort(-magnitudes, kind="stable")].astype(int)) >= 0).all()
    one = fit(HUFFMAN, [batch.reshape(60, 1, -1)])
    grouped = sum(len(HUFFMAN.encode(symbols, table)) for symbols in batch)
    single = sum(len(HUFFMAN.encode(symbols.reshape(1, -1), one)) for symbols in batch)
    assert grouped < 0.97 * single


def test_grouping_is_the_best_of_all_splits_of_the_sorted_components():
    generator = np.random.default_rng(2)
    rows = [generator.integers(-k, k + 1, 200) for k in (6, 6, 1, 1, 0)]
    symbols = np.stack(rows).astype(np.int32)

    def bits(members):
        _, counts = np.unique(symbols[members], return_counts=True)
        return float((counts * -np.log2(counts / counts.sum())).sum()) + 24

    totals = {}
    for mask in range(16):
        edges = [0, *(place for place in range(1, 5) if mask >> place - 1 & 1), 5]
        totals[mask] = sum(bits(slice(a, b)) for a, b in pairwise(edges))
    best = min(totals, key=totals.get)
    expected = [0, *np.cumsum([best >> place - 1 & 1 for place in range(1, 5)])]
    order = np.argsort(-np.abs(symbols).sum(1), kind="stable")
    assert group_components([symbols], 24.0)[order].tolist() == expected


def test_code_lengths_hold_under_extreme_counts():
    histogram = np.zeros((1, ALPHABET), np.int64)
    histogram[0, :80] = [int(1.618**k) for k in range(80)]
    table = code_table(np.zeros(3, np.uint8), histogram)
    HUFFMAN.validate((3, 4), table)
    assert table["counts"].nonzero()[1].max() <= 31
    histogram[0] = 1
    HUFFMAN.validate((3, 4), code_table(np.zeros(3, np.uint8), histogram))


def test_table_of_a_huge_alphabet_stays_small():
    generator = np.random.default_rng(0)
    wild = generator.integers(-(2**31), 2**31, (40, 30, 40, 10)).astype(np.int32)
    wild[generator.random(wild.shape) < 0.95] = 0
    table = fit(HUFFMAN, [wild])
    assert sum(array.nbytes for array in table.values()) < 200_000
    assert np.array_equal(
        HUFFMAN.decode(HUFFMAN.encode(wild[0], table), wild[0].shape, table), wild[0]
    )


def test_fitting_in_batches_is_fitting_at_once():
    batch = feature(40)
    whole, parts = fit(HUFFMAN, [batch]), fit(HUFFMAN, [batch[:7], batch[7:]])
    assert all(np.array_equal(whole[key], parts[key]) for key in whole)


def test_fitter_counts_all_samples_and_holds_few(monkeypatch):
    batch = feature(40)
    monkeypatch.setattr("narrows.coding.coders.huffman._HELD_SYMBOLS", 10 * batch[0].size)
    fitter = HUFFMAN.fitter(batch.shape[1:])
    fitter.add(batch[:10])
    fitter.add(batch[10:])
    table = fitter.table()
    sizes = [len(HUFFMAN.encode(symbols, table)) for symbols in batch]
    best = [len(HUFFMAN.encode(symbols, fit(HUFFMAN, [batch]))) for symbols in batch]
    assert sum(sizes) < 1.02 * sum(best)


def test_feature_of_14_by_14_by_80_takes_under_two_milliseconds():
    batch = feature(40, components=80, side=14)
    batch[np.abs(batch) < 2] = 0
    table = fit(HUFFMAN, [batch])
    taken = []
    for symbols in batch:
        begin = time.perf_counter()
        HUFFMAN.decode(HUFFMAN.encode(symbols, table), symbols.shape, table)
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 2e-3


@pytest.mark.parametrize("key", ["groups", "counts", "tokens"])
def test_incomplete_codes_are_refused(key):
    batch = feature(10)
    table = dict(fit(HUFFMAN, [batch]))
    table[key] = table[key].copy()
    table[key].reshape(-1)[-1 if key != "counts" else 3] += 1
    if key == "groups":
        table[key][:] = 16
    with pytest.raises(CorruptData):
        HUFFMAN.validate(batch.shape[1:], table)
