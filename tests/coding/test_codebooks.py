"""Codebooks, product, residual and sign quantizers against naive loops and the papers' formulas."""

import itertools
import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from narrows.coding.base import fit
from narrows.coding.quantizers import Affine, Codebook, FixedPoint, Product, Residual, Sign
from narrows.coding.quantizers.codebook import codebook_table
from narrows.coding.quantizers.kmeans import line_centres, vector_centres
from narrows.errors import CodecError

# The 4 × 4 weights of Deep Compression's figure 3.
WEIGHTS = np.array(
    [
        [2.09, -0.98, 1.48, 0.09],
        [0.05, -0.14, -1.08, 2.12],
        [-0.91, 1.92, 0.0, -1.03],
        [1.87, 0.0, 1.53, 1.49],
    ],
    np.float32,
)


def used(quantizer, x, table=None):
    """What a batch becomes, its symbols and the table."""
    table = fit(quantizer, [x]) if table is None else table
    symbols = quantizer.quantize(x, table)
    return quantizer.dequantize(symbols, table), symbols, table


def naive_line(values, centres, steps=10_000):
    """Lloyd, number by number; no cluster may become empty."""
    centres = list(centres)
    for _ in range(steps):
        groups = [[] for _ in centres]
        for value in values:
            groups[min(range(len(centres)), key=lambda j: abs(value - centres[j]))].append(value)
        moved = [math.fsum(group) / len(group) if group else None for group in groups]
        if None in moved:
            return None
        if np.allclose(moved, centres, atol=1e-12):
            break
        centres = moved
    return moved


def error(values, centres):
    away = np.abs(np.asarray(values).reshape(-1, 1) - np.asarray(centres).reshape(1, -1))
    return float(np.square(away.min(1)).sum())


def test_sixteen_weights_and_four_centres_are_those_of_deep_compression():
    values, symbols, table = used(Codebook(levels=4), WEIGHTS)
    assert table["centres"].tolist() == pytest.approx([-1.0, 0.0, 1.5, 2.0], abs=1e-8)
    assert symbols.tolist() == [[2, -1, 1, 0], [0, 0, -1, 2], [-1, 2, 0, -1], [2, 0, 1, 1]]
    assert values == pytest.approx(np.array([0.0, 1.5, 2.0, -1.0])[symbols], abs=1e-8)
    assert 32 * 16 / Codebook(levels=4).weight_bits(4, 4) == 3.2


@given(
    values=st.lists(st.floats(-9, 9, width=16), min_size=4, max_size=40),
    levels=st.integers(2, 5),
    start=st.sampled_from(["linear", "density"]),
)
@settings(max_examples=200, deadline=None)
def test_centres_on_a_line_are_those_of_lloyd_by_hand(values, levels, start):
    ordered = sorted(values)
    first = np.linspace(ordered[0], ordered[-1], levels)
    if start == "density":
        first = [ordered[int((j + 0.5) * len(ordered) / levels)] for j in range(levels)]
    expected = naive_line(ordered, first)
    found = line_centres(np.array(values), levels, start=start)
    assert (np.diff(found) > 0).all()
    if expected is not None and len(set(expected)) == levels:
        # Where a number is as near to two centres, the two may go on differently.
        assert error(values, found) == pytest.approx(error(values, expected), rel=0.5, abs=1e-6)
    means = [np.mean(group) for group in groups_of(values, found) if len(group)]
    assert found == pytest.approx(means)
    assert len(found) == min(levels, len(set(values)))


def groups_of(values, centres):
    nearest = [min(range(len(centres)), key=lambda j: abs(v - centres[j])) for v in values]
    return [
        [v for v, j in zip(values, nearest, strict=True) if j == k] for k in range(len(centres))
    ]


def test_lloyd_by_hand_gives_the_same_centres_from_a_start_without_ties():
    values = np.random.default_rng(0).normal(size=300)
    for levels in (2, 3, 6):
        ours = line_centres(values, levels, start="density")
        first = np.sort(values)[((np.arange(levels) + 0.5) * 300 / levels).astype(int)]
        assert ours == pytest.approx(naive_line(values, first), abs=1e-9)


def test_two_centres_are_the_best_there_are():
    values = np.sort(np.random.default_rng(1).normal(size=60))
    splits = [(values[:i].mean(), values[i:].mean()) for i in range(1, 60)]
    best = min(error(values, pair) for pair in splits)
    assert error(values, line_centres(values, 2, start="linear")) == pytest.approx(best, rel=0.02)


def test_a_centre_without_numbers_divides_the_worst_cluster():
    values = np.concatenate([np.linspace(0, 1, 500), [100.0]])
    found = line_centres(values, 16, start="linear")
    assert len(found) == 16
    assert found[-1] == 100
    assert error(values[:-1], found[:-1]) < 1.2 * error(values[:-1], (np.arange(15) + 0.5) / 15)


def test_millions_of_numbers_take_seconds_and_are_as_good_as_scikit_learns():
    values = np.random.default_rng(0).normal(size=2_000_000).astype(np.float32)
    found = line_centres(values, 32, start="linear")
    part = values[:20_000]
    theirs = KMeans(32, n_init=1, random_state=0).fit(part.reshape(-1, 1)).cluster_centers_
    assert error(part, found) < 1.03 * error(part, theirs)


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_a_number_is_the_nearest_centre_and_ties_go_down(start):
    x = np.random.default_rng(2).laplace(size=(7, 3, 4)).astype(np.float32)
    quantizer = Codebook(levels=6, start=start, seed=5)
    values, symbols, table = used(quantizer, x)
    centres = table["centres"].astype(np.float64)
    expected = np.abs(x[..., None].astype(np.float64) - centres).argmin(-1)
    assert np.array_equal(symbols, expected - np.abs(centres).argmin())
    assert np.array_equal(values, table["centres"][expected])
    table = codebook_table(np.array([0.0, 1.0, 2.0], np.float32))
    assert quantizer.quantize(np.array([[0.5, 1.5]], np.float32), table).tolist() == [[0, 1]]


@given(
    first=st.floats(-1e3, 1e3, width=32),
    gaps=st.lists(st.integers(1, 3), min_size=1, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_centres_beside_each_other_stand_for_themselves(first, gaps):
    centres = [np.float32(first)]
    for gap in gaps:
        value = centres[-1]
        for _ in range(gap):
            value = np.nextafter(value, np.float32(np.inf))
        centres.append(value)
    table = codebook_table(np.array(centres, np.float32))
    x, zero = table["centres"][None], np.abs(centres).argmin()
    assert Codebook(levels=64).quantize(x, table).tolist() == [
        [place - zero for place in range(len(centres))]
    ]


def test_random_starts_depend_on_the_seed_alone():
    x = np.random.default_rng(3).normal(size=(50, 9))
    tables = [fit(Codebook(start="random", seed=s), [x])["centres"] for s in (1, 1, 2)]
    assert np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 0.5, -0.5, 1e-30, 3.0]), min_size=1, max_size=30)
)
@settings(max_examples=100, deadline=None)
def test_the_reserved_level_is_for_zeros_and_for_nothing_else(values):
    x = np.array([values], np.float32)
    for levels in (2, 3, 8):
        restored, symbols, table = used(Codebook(levels=levels, reserve_zero=True), x)
        assert np.array_equal(symbols == 0, x == 0)
        assert np.array_equal(restored == 0, x == 0)
        assert table["centres"][table["zero"]] == 0
        assert len(table["centres"]) <= levels


def test_zeros_do_not_pull_centres_where_a_level_is_reserved():
    x = np.array([[0.0] * 90 + [1.0] * 5 + [1.2] * 5]).astype(np.float32)
    _, _, table = used(Codebook(levels=3, reserve_zero=True), x)
    assert table["centres"].tolist() == pytest.approx([0.0, 1.0, 1.2])
    _, _, table = used(Codebook(levels=2, reserve_zero=True), x)
    assert table["centres"].tolist() == pytest.approx([0.0, 1.1])


def test_fewer_numbers_than_levels_are_kept_as_they_are():
    x = np.array([[3.0, 3.0, -1.0, 7.0]], np.float32)
    values, symbols, table = used(Codebook(levels=16), x)
    assert table["centres"].tolist() == [-1, 3, 7]
    assert values.tolist() == x.tolist()
    assert symbols.tolist() == [[1, 1, 0, 2]]


@pytest.mark.parametrize(
    ("values", "levels", "centres"),
    [
        ([-1e3, 1e-15, 2e-15, 3e-15, 5], 8, [-1e3, 1e-15, 2e-15, 3e-15, 5]),
        ([-1e30, 1, 2, 1e30], 4, [-1e30, 1, 2, 1e30]),
        ([-1e3, 1e-15, 2e-15, 3e-15, 5], 3, [-1e3, 2e-15, 5]),
        ([-1e30, 1, 2, 2, 3, 1e30], 3, [-1e30, 2, 1e30]),
    ],
)
@pytest.mark.parametrize("start", ["linear", "density"])
def test_large_numbers_take_nothing_from_centres_of_small_ones(values, levels, centres, start):
    found = line_centres(np.array(values), levels, start=start)
    assert found.tolist() == pytest.approx(centres, rel=1e-12, abs=0)


def test_vector_centres_are_as_good_as_scikit_learns():
    groups = np.random.default_rng(4).normal(size=(3, 400, 4)).astype(np.float32)
    found = vector_centres(groups, 12)
    for vectors, centres in zip(groups, found, strict=True):
        ours = np.square(vectors[:, None] - centres).sum(-1).min(1).sum()
        theirs = -KMeans(12, n_init=1, random_state=0).fit(vectors).score(vectors)
        assert ours < 1.08 * theirs
        nearest = np.square(vectors[:, None] - centres).sum(-1).argmin(1)
        means = [vectors[nearest == j].mean(0) for j in range(12)]
        assert np.allclose(centres, means, atol=0.05)


def test_vectors_that_are_equal_need_no_more_centres_than_there_are():
    vectors = np.repeat(np.array([[[0.0, 1.0], [4.0, 4.0]]]), 30, axis=1)
    found = vector_centres(vectors, 5)
    assert {tuple(centre) for centre in found[0]} == {(0.0, 1.0), (4.0, 4.0)}


def test_pieces_have_the_nearest_centre_of_their_place():
    x = np.random.default_rng(5).normal(size=(60, 7)).astype(np.float32)
    values, symbols, table = used(Product(levels=5, length=3), x)
    assert symbols.shape == (60, 3)
    assert table["centres"].shape == (3, 5, 3)
    for row, piece in itertools.product(range(60), range(3)):
        own = x[row, 3 * piece : 3 * piece + 3]
        centres = table["centres"][piece][:, : len(own)]
        assert symbols[row, piece] == np.square(centres - own).sum(1).argmin()
        assert np.array_equal(values[row, 3 * piece : 3 * piece + 3], centres[symbols[row, piece]])


def test_a_position_is_quantized_like_a_sample():
    x = np.random.default_rng(6).normal(size=(5, 4, 3, 2)).astype(np.float32)
    rows = x.transpose(0, 2, 3, 1).reshape(-1, 4)
    for quantizer in (Product(levels=4), Residual(levels=4, stages=3)):
        values, symbols, table = used(quantizer, x)
        expected, flat, _ = used(quantizer, rows, table)
        assert np.array_equal(values, expected.reshape(5, 3, 2, 4).transpose(0, 3, 1, 2))
        assert symbols.shape == (5, flat.shape[1], 3, 2)
        assert all(
            np.array_equal(v, w)
            for v, w in zip(fit(quantizer, [rows]).values(), table.values(), strict=True)
        )


def test_each_stage_codes_what_the_one_before_left():
    x = np.random.default_rng(7).normal(size=(80, 6)).astype(np.float32)
    values, symbols, table = used(Residual(levels=6, stages=3), x)
    left = x.copy()
    for stage in range(3):
        centres = table["centres"][stage]
        nearest = np.array([np.square(centres - row).sum(1).argmin() for row in left])
        assert np.array_equal(symbols[:, stage], nearest)
        left = left - centres[nearest]
    assert values == pytest.approx(x - left, abs=1e-6)
    errors = []
    for stages in (1, 2, 3):
        restored, _, _ = used(Residual(levels=6, stages=stages), x)
        errors.append(np.square(restored - x).sum())
    assert errors[0] > errors[1] > errors[2]


def test_more_levels_than_samples_are_not_made():
    x = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
    for quantizer in (Product(levels=64), Residual(levels=64, stages=1)):
        values, _, table = used(quantizer, x)
        assert table["centres"].shape[1] == 5
        assert np.array_equal(values, x)


@pytest.mark.parametrize(
    ("quantizer", "ratio"),
    [
        (Codebook(levels=4), 16.0),
        (Codebook(levels=8), 10.7),
        (Product(levels=8, length=2), 20.5),
        (Product(levels=16, length=4), 28.4),
        (Residual(levels=256, stages=2), 8.0),
        (Sign(scale="none"), 32.0),
        (FixedPoint(integer_bits=2, fraction_bits=14), 2.0),
        (Affine(bits=4), 8.0),
    ],
    ids=repr,
)
def test_ratios_of_a_large_matrix_are_those_of_the_table(quantizer, ratio):
    assert round(32 * 4096 * 4096 / quantizer.weight_bits(4096, 4096), 1) == ratio


@pytest.mark.parametrize(
    "quantizer",
    [
        Codebook(levels=8),
        Product(levels=8, length=3),
        Residual(levels=8, stages=3),
        Product(levels=64, length=4),
        Sign(),
        Affine(bits=4, granularity="channel"),
    ],
    ids=repr,
)
def test_bits_of_weights_are_those_of_symbols_and_tables(quantizer):
    x = np.random.default_rng(9).normal(size=(24, 20)).astype(np.float32)
    channels = getattr(quantizer, "granularity", "") == "channel"
    _, symbols, table = used(quantizer, x[None] if channels else x)
    levels = {"codebook": 8, "sign": 2, "affine": 16}.get(quantizer.name, 8)
    levels = min(getattr(quantizer, "levels", levels), 24)
    numbers = sum(v.size for name, v in table.items() if name in ("centres", "scale"))
    points = 4 * table["zero_point"].size if "zero_point" in table else 0
    if quantizer.name == "product":  # zeros that fill up the last piece are not stored
        numbers = levels * 20
    expected = symbols.size * math.log2(levels) + 32 * numbers + points
    assert quantizer.weight_bits(24, 20) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("quantizer", "rows", "columns", "bits"),
    [
        # Four pieces, the last of one column: 3 bits each of 24 rows; 8 centres of 10 columns.
        (Product(levels=8, length=3), 24, 10, 24 * 4 * 3 + 8 * 10 * 32),
        (Product(levels=16, length=4), 10, 24, 10 * 6 * math.log2(10) + 10 * 24 * 32),
        # Three stages: 3 bits each of 24 rows; 8 centres of 10 columns in every stage.
        (Residual(levels=8, stages=3), 24, 10, 24 * 3 * 3 + 3 * 8 * 10 * 32),
        (Residual(levels=8, stages=3), 10, 24, 10 * 3 * 3 + 3 * 8 * 24 * 32),
        (Residual(levels=64, stages=2), 10, 24, 10 * 2 * math.log2(10) + 2 * 10 * 24 * 32),
    ],
    ids=repr,
)
def test_bits_of_vectors_are_those_counted_by_hand(quantizer, rows, columns, bits):
    assert quantizer.weight_bits(rows, columns) == pytest.approx(bits)


def test_signs_and_their_scale():
    x = np.random.default_rng(10).normal(size=(40, 5)).astype(np.float32)
    values, symbols, table = used(Sign(scale="mean"), x)
    assert np.array_equal(symbols, np.where(x >= 0, 1, -1))
    assert table["scale"] == pytest.approx(np.abs(x).mean())
    assert np.array_equal(values, symbols * table["scale"])
    best = min(np.square(x - a * np.sign(x)).sum() for a in np.linspace(0, 2, 2001))
    assert np.square(x - values).sum() == pytest.approx(best, rel=1e-4)
    assert used(Sign(scale="none"), x)[2]["scale"] == 1
    assert Sign().quantize(np.array([[0.0, -0.0]]), {"scale": np.float32(1)}).tolist() == [[1, 1]]


def test_drawn_signs_are_the_number_on_average():
    quantizer, count = Sign(scale="mean", stochastic=True), 40_000
    table = {"scale": np.asarray(0.5, np.float32)}
    generator = np.random.default_rng(0)
    for value, mean in ((0.3, 0.3), (-0.1, -0.1), (0.0, 0.0), (0.7, 0.5), (-9.0, -0.5)):
        x = np.full((count, 1), value)
        drawn = quantizer.quantize(x, table, noise=generator.random((count, 1)))
        assert abs(quantizer.dequantize(drawn, table).mean() - mean) < 4 / math.sqrt(count)
    with pytest.raises(CodecError, match="none given"):
        quantizer.quantize(np.zeros((1, 1)), table)


@pytest.mark.parametrize(
    ("quantizer", "symbols"),
    [
        (Codebook(levels=4), [[0, 4]]),
        (Codebook(levels=4), [[-4, 0]]),
        (Product(levels=4), [[0, 4]]),
        (Residual(levels=4), [[0, -1]]),
    ],
)
@pytest.mark.parametrize("namespace", [np, array_api_strict])
def test_symbols_that_are_not_in_the_table_are_refused(quantizer, symbols, namespace):
    table = fit(quantizer, [np.random.default_rng(0).normal(size=(9, 4))])
    with pytest.raises(CodecError, match="take the right table"):
        quantizer.dequantize(namespace.asarray(np.array(symbols, np.int32)), table)


@pytest.mark.parametrize("quantizer", [Product(levels=4), Residual(levels=4)], ids=repr)
def test_tables_of_another_shape_are_refused(quantizer):
    x = np.random.default_rng(0).normal(size=(9, 6))
    table = fit(quantizer, [x])
    with pytest.raises(CodecError, match="components does not fit"):
        quantizer.quantize(x[:, :4], table)
    with pytest.raises(CodecError, match="does not fit"):
        quantizer.dequantize(np.zeros((9, 5), np.int32), table)
    with pytest.raises(CodecError, match="run over components"):
        fit(quantizer, [x[:, 0]])


@pytest.mark.parametrize("quantizer", [Codebook(), Product(), Residual(), Sign()], ids=repr)
def test_numbers_that_are_not_finite_and_no_numbers_cannot_be_fitted_to(quantizer):
    with pytest.raises(CodecError, match="not finite"):
        fit(quantizer, [np.array([[1.0, np.inf]])])
    if quantizer.name != "sign":
        with pytest.raises(CodecError, match="among no numbers"):
            fit(quantizer, [np.zeros((0, 4))])


@pytest.mark.parametrize(
    "quantizer", [Codebook(levels=2), Product(), Residual(), Affine(), Sign()], ids=repr
)
def test_numbers_beyond_float32_cannot_be_fitted_to(quantizer):
    with pytest.raises(CodecError, match=r"a value of \(1, 4\) is beyond float32"):
        fit(quantizer, [np.array([[1e300, 1.0, 2.0, 3.0]])])


@pytest.mark.parametrize("quantizer", [Product(levels=4), Residual(levels=4)], ids=repr)
def test_batches_of_other_widths_are_refused_and_empty_ones_are_not(quantizer):
    x = np.random.default_rng(0).normal(size=(9, 6))
    with pytest.raises(CodecError, match="4 components after one of 6"):
        fit(quantizer, [x, x[:, :4]])
    table = fit(quantizer, [x[:5], x[5:]])
    for shape, symbols in (((0, 6), (0,)), ((0, 6, 2), (0, 2)), ((2, 6, 0), (2, 0))):
        empty = np.zeros(shape, np.float32)
        found = quantizer.quantize(empty, table)
        assert (found.shape[0], *found.shape[2:]) == symbols
        assert quantizer.dequantize(found, table).shape == shape
    wide = [np.ones((2, 6)), np.zeros((2, 4))]
    assert fit(Codebook(levels=2), wide)["centres"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kind", "settings_"),
    [
        (Codebook, {"levels": 1}),
        (Codebook, {"levels": 2**16 + 1}),
        (Codebook, {"start": "middle"}),
        (Codebook, {"levels": 4.5}),
        (Product, {"length": 2.0}),
        (Residual, {"stages": 1.5}),
        (Product, {"levels": 1}),
        (Product, {"length": 0}),
        (Residual, {"levels": 0}),
        (Residual, {"stages": 0}),
        (Sign, {"scale": "max"}),
    ],
)
def test_settings_without_sense_are_refused(kind, settings_):
    with pytest.raises(CodecError, match=r"asked for|scale is"):
        kind(**settings_)
