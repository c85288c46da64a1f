"""Fixed point against the paper's rule written out, its ends and ties, and its draws."""

import math
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.coding.base import fit
from narrows.coding.quantizers import FixedPoint
from narrows.errors import CodecError


def naive_nearest(x, integer_bits, fraction_bits):
    """The paper's rule with exact fractions."""
    eps, half = Fraction(1, 2**fraction_bits), Fraction(2) ** (integer_bits - 1)
    below = math.floor(Fraction(float(x)) / eps) * eps
    found = below if Fraction(float(x)) <= below + eps / 2 else below + eps
    return float(min(max(found, -half), half - eps))


@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30),
    integer_bits=st.integers(1, 9),
    fraction_bits=st.integers(1, 14),
)
@settings(max_examples=200, deadline=None)
def test_nearest_is_the_rule_of_the_paper(values, integer_bits, fraction_bits):
    grid = FixedPoint(integer_bits=integer_bits, fraction_bits=fraction_bits)
    expected = [naive_nearest(value, integer_bits, fraction_bits) for value in values]
    for dtype in (np.float32, np.float64):
        assert grid.convert(np.array(values, dtype)).tolist() == expected


@given(places=st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_neighbours_of_ties_go_where_they_belong_in_float32(places):
    grid = FixedPoint(integer_bits=12, fraction_bits=11)
    ties = ((np.array(places) // 2 * 2 + 1) / 2**12).astype(np.float32)
    for x in (ties, np.nextafter(ties, np.float32(9e9)), np.nextafter(ties, np.float32(-9e9))):
        assert grid.convert(x).tolist() == [naive_nearest(value, 12, 11) for value in x]


@pytest.mark.parametrize("bits", [(2, 20), (12, 12), (8, 8), (20, -4)])
def test_short_types_become_the_same_multiples(bits):
    grid = FixedPoint(integer_bits=bits[0], fraction_bits=bits[1])
    x = np.array([0.3, -1.7, 1.0, -2.0, 1000.0, -6e4, 0.0], np.float16)
    wide = x.astype(np.float64)
    assert grid.quantize(x, {}).tolist() == grid.quantize(wide, {}).tolist()
    found = grid.convert(x)
    assert found.dtype == np.float16
    assert np.array_equal(found, grid.convert(wide).astype(np.float16))
    torch = pytest.importorskip("torch")
    for kind in (torch.float16, torch.bfloat16):
        short = torch.from_numpy(x).to(kind)
        assert grid.quantize(short, {}).tolist() == grid.quantize(short.double(), {}).tolist()
        assert grid.convert(short).dtype == kind
    drawn = FixedPoint(integer_bits=bits[0], fraction_bits=bits[1], rounding="stochastic")
    noise = np.linspace(0, 0.9, 7)
    symbols = [drawn.quantize(one, {}, noise=noise).tolist() for one in (x, wide)]
    assert symbols[0] == symbols[1]


def test_ties_go_down_and_nothing_beside_them():
    grid = FixedPoint(integer_bits=4, fraction_bits=0)
    below = np.nextafter(np.float32(0.5), np.float32(0))
    above = np.nextafter(np.float32(0.5), np.float32(1))
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, below, -below, above, -above], np.float32)
    assert grid.convert(x).tolist() == [0, -1, 1, 2, -3, 0, 0, 1, -1]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize(("integer_bits", "fraction_bits"), [(2, 14), (8, 8), (0, 16), (20, -4)])
def test_ends_are_exact_and_everything_beyond_becomes_one(integer_bits, fraction_bits, rounding):
    grid = FixedPoint(integer_bits=integer_bits, fraction_bits=fraction_bits, rounding=rounding)
    low, high = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - 2.0**-fraction_bits
    assert grid.ends == (low, high)
    step = 2.0**-fraction_bits
    x = np.array([low, high, low - step, high + step, high + 0.99 * step, -3e38, 3e38], np.float32)
    for share in (0.0, 0.999):
        noise = np.full(x.shape, share, np.float32)
        given = {"noise": noise} if rounding == "stochastic" else {}
        assert grid.convert(x, **given).tolist() == [low, high, low, high, high, low, high]
        symbols = grid.quantize(x, {}, **given)
        assert (symbols.min(), symbols.max()) == (-(2**15), 2**15 - 1)
        assert grid.dequantize(symbols, {}).tolist() == [low, high, low, high, high, low, high]


def test_draws_are_the_number_on_average():
    eps, count = 2.0**-8, 40_000
    grid = FixedPoint(integer_bits=2, fraction_bits=8, rounding="stochastic")
    generator = np.random.default_rng(0)
    for value in (0.3, -0.3, 1.2345, eps / 7, -eps / 7, 0.99 * eps, -1.5 * eps, 0.25):
        x = np.full(count, value)
        found = grid.convert(x, noise=generator.random(count))
        assert set(np.unique(found)) <= {
            math.floor(value / eps) * eps,
            math.ceil(value / eps) * eps,
        }
        assert abs(found.mean() - value) < 4 * eps / math.sqrt(count)
    on_grid = np.arange(-512, 511) * eps
    assert np.array_equal(grid.convert(on_grid, noise=generator.random(1023)), on_grid)


def test_the_same_noise_draws_the_same_and_a_share_of_it_goes_up():
    grid = FixedPoint(integer_bits=4, fraction_bits=0, rounding="stochastic")
    x, noise = np.full(5, 2.3), np.array([0.0, 0.29, 0.31, 0.9, 0.999])
    assert grid.convert(x, noise=noise).tolist() == [3, 3, 2, 2, 2]
    strict = grid.convert(array_api_strict.asarray(x), noise=array_api_strict.asarray(noise))
    assert np.asarray(strict).tolist() == [3, 3, 2, 2, 2]


def test_noise_is_asked_for_in_the_right_shape():
    grid = FixedPoint(rounding="stochastic")
    with pytest.raises(CodecError, match=r"of \(3,\) takes noise of that shape, none given"):
        grid.convert(np.zeros(3))
    with pytest.raises(CodecError, match=r"\(2,\) given"):
        grid.quantize(np.zeros(3), {}, noise=np.zeros(2))


@pytest.mark.parametrize(
    "settings_",
    [
        {"integer_bits": 1, "fraction_bits": 0},
        {"integer_bits": 20, "fraction_bits": 5},
        {"integer_bits": -90, "fraction_bits": 101},
        {"rounding": "up"},
    ],
)
def test_what_is_no_grid_is_refused(settings_):
    with pytest.raises(CodecError, match=r"asked for|rounding is"):
        FixedPoint(**settings_)


def test_samples_that_are_not_finite_are_refused_and_there_is_nothing_to_fit():
    grid = FixedPoint()
    assert fit(grid, [np.ones((2, 3))]) == {}
    with pytest.raises(CodecError, match="not finite"):
        fit(grid, [np.array([[np.nan]])])
