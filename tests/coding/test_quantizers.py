"""Uniform and affine quantizers against naive loops, ties, fitted shifts and refusals."""

import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.coding.base import fit
from narrows.coding.quantizers import Affine, Uniform
from narrows.errors import CodecError


def column(values):
    return np.array(values, np.float32).reshape(-1, 1)


@given(
    values=st.lists(st.floats(-500, 500, width=32), min_size=1, max_size=30),
    step=st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0]),
    threshold=st.sampled_from([0.5, 0.625, 0.75]),
)
@settings(max_examples=200, deadline=None)
def test_uniform_is_the_formula(values, step, threshold):
    x = column(values)
    grid = Uniform(step=step, threshold=threshold, shift=0.125)
    table = fit(grid, [x])
    symbols = grid.quantize(x, table)
    # Steps and thresholds are powers of two and sums of them: float64 is exact here.
    expected = [
        int(math.copysign(1, v) * math.floor(abs(v) / step + 1 - threshold)) for v in x.ravel()
    ]
    assert symbols.ravel().tolist() == expected
    values = [np.sign(q) * (abs(q) - 0.125) * step for q in expected]
    assert grid.dequantize(symbols, table).ravel().tolist() == values


def test_ties_go_away_from_zero_and_nothing_below_them():
    grid = Uniform()
    below = np.nextafter(np.float32(0.5), np.float32(0))
    x = column([0.5, -0.5, 1.5, 2.5, -2.5, below, -below, 0.0, -0.0])
    symbols = grid.quantize(x, fit(grid, [x]))
    assert symbols.ravel().tolist() == [1, -1, 2, 3, -3, 0, 0, 0, 0]


def test_dead_zone_widens_the_zero_bin():
    x = column(np.linspace(-1, 1, 401))
    shares = []
    for threshold in (0.5, 0.6, 0.7):
        grid = Uniform(threshold=threshold)
        shares.append((grid.quantize(x, fit(grid, [x])) == 0).mean())
    assert np.allclose(shares, [0.5, 0.6, 0.7], atol=0.01)


def test_each_component_may_have_its_step():
    x = np.ones((2, 3, 4), np.float32)
    grid = Uniform(step=(1.0, 0.5, 0.25))
    table = fit(grid, [x])
    symbols = grid.quantize(x, table)
    assert symbols[0, :, 0].tolist() == [1, 2, 4]
    assert np.array_equal(grid.dequantize(symbols, table), x)
    with pytest.raises(CodecError, match="3 steps given for 2 components"):
        grid.fitter((2, 4))
    with pytest.raises(CodecError, match="does not fit"):
        grid.quantize(x[:, :2], table)


def test_fitted_shift_is_the_mean_of_the_bins():
    generator = np.random.default_rng(0)
    x = generator.laplace(size=(400, 2, 50)).astype(np.float32) * np.float32([[1.0], [30.0]])
    plain = Uniform(step=2.0, threshold=0.6)
    shifted = Uniform(step=2.0, threshold=0.6, fit_shift=True)
    table = fit(shifted, [x[:150], x[150:]])
    shift = table["shift"]
    assert shift.shape == (2,)
    for component in range(2):
        magnitude = np.abs(x[:, component].astype(np.float64)) / 2
        q = np.floor(magnitude + 0.4)
        mean = (q - magnitude)[q > 0].mean()
        assert shift[component] == pytest.approx(max(mean, 0), abs=1e-5)
    assert shift[0] > 0.02

    def error(grid, table):
        return np.square(grid.dequantize(grid.quantize(x, table), table) - x)[:, 0].mean()

    assert error(shifted, table) < error(plain, fit(plain, [x]))


def test_huge_values_stay_in_int32():
    x = column([3e38, -3e38, 1e9])
    grid = Uniform(step=0.001)
    assert np.abs(grid.quantize(x, fit(grid, [x]))).max() == 2**30


@pytest.mark.parametrize(
    "settings_",
    [
        {"step": 0.0},
        {"step": -1.0},
        {"step": math.nan},
        {"step": ()},
        {"step": (1.0, 0.0)},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"shift": -0.1},
        {"shift": 0.5},
        {"threshold": 0.7, "shift": 0.3},
    ],
)
def test_uniform_refuses_settings_without_sense(settings_):
    with pytest.raises(CodecError, match="given"):
        Uniform(**settings_)


@given(
    values=st.lists(st.floats(-90, 90, width=32), min_size=2, max_size=30),
    bits=st.integers(2, 8),
)
@settings(max_examples=200, deadline=None)
def test_affine_is_the_formula(values, bits):
    x = column(values)
    affine = Affine(bits=bits)
    table = fit(affine, [x])
    scale, zero = table["scale"], int(table["zero_point"])
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    assert low <= zero <= high
    scaled = x.ravel() / scale
    expected = np.clip(np.floor(scaled) + (scaled - np.floor(scaled) >= 0.5) + zero, low, high)
    assert affine.quantize(x, table).ravel().tolist() == expected.tolist()


def test_affine_uses_the_whole_range_and_clips_beyond_it():
    x = column(np.linspace(-3, 9, 1000))
    affine = Affine(bits=4)
    table = fit(affine, [x[:500], x[500:]])
    symbols = affine.quantize(x, table)
    assert (symbols.min(), symbols.max()) == (-8, 7)
    assert len(np.unique(symbols)) == 16
    assert affine.quantize(column([1e30, -1e30]), table).ravel().tolist() == [7, -8]


def test_a_scale_per_channel_is_finer_where_the_range_is_small():
    x = np.stack([np.linspace(-1, 1, 50), np.linspace(-100, 100, 50)], 1).astype(np.float32)
    errors = []
    for granularity in ("tensor", "channel"):
        affine = Affine(granularity=granularity)
        table = fit(affine, [x])
        errors.append(np.abs(affine.dequantize(affine.quantize(x, table), table) - x).max(0))
    assert errors[1][0] < errors[0][0] / 20
    assert errors[1][1] == pytest.approx(errors[0][1], rel=0.01)


def test_four_bits_spread_over_the_range_of_each_channel():
    ends = [(-1.0, 1.0), (0.0, 15.0), (-30.0, 0.0), (0.0, 0.0)]
    x = np.stack([np.linspace(low, high, 500) for low, high in ends], 1).astype(np.float32)
    whole, own = Affine(bits=4), Affine(bits=4, granularity="channel")
    symbols = own.quantize(x, table := fit(own, [x]))
    # Zero is a level, so an even number of them cannot lie evenly about it.
    assert [len(np.unique(symbols[:, place])) for place in range(4)] == [15, 16, 16, 1]
    assert table["scale"].tolist() == pytest.approx([2 / 15, 1.0, 2.0, 1.0])
    away = np.abs(own.dequantize(symbols, table) - x).max(0)
    assert (away <= table["scale"] * (1 + 1e-5)).all()
    assert np.median(np.abs(own.dequantize(symbols, table) - x), 0)[0] <= 2 / 15 / 3
    table = fit(whole, [x])
    assert table["scale"] == pytest.approx(3.0)
    assert len(np.unique(whole.quantize(x, table)[:, 0])) <= 2
    assert own.weight_bits(4, 500) == 4 * 2000 + 4 * 36


def test_affine_refuses_settings_and_samples_without_sense():
    for wrong in ({"bits": 1}, {"bits": 9}, {"granularity": "row"}):
        with pytest.raises(CodecError, match="given"):
            Affine(**wrong)
    with pytest.raises(CodecError, match="not finite"):
        fit(Affine(), [column([1.0, math.nan])])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_float_types_are_quantized(dtype):
    x = np.array([[0.3], [-1.7]], dtype)
    strict = array_api_strict.asarray(x)
    for quantizer in (Uniform(step=0.5), Affine()):
        table = fit(quantizer, [x])
        ours = quantizer.quantize(x, table)
        assert np.array_equal(np.asarray(quantizer.quantize(strict, table)), ours)
