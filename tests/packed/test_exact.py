"""Grids that values turn out to lie on: found where they are there, and exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.coding import CODERS
from narrows.coding.base import fit
from narrows.coding.quantizers import Affine, Codebook, FixedPoint
from narrows.packed import PackedFile, pack
from narrows.packed.exact import exact_grids

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.laplace(size=(40, 70)).astype(np.float32)


def on_codebook(levels: int, **more: object) -> np.ndarray:
    quantizer = Codebook(levels=levels, **more)  # type: ignore[arg-type]
    table = fit(quantizer, [WEIGHT])
    return quantizer.dequantize(quantizer.quantize(WEIGHT, table), table)


def on_affine(bits: int, granularity: str) -> np.ndarray:
    quantizer = Affine(bits=bits, granularity=granularity)  # type: ignore[arg-type]
    # Channels come second, and the least and greatest number of each differ.
    table = fit(quantizer, [WEIGHT[None]])
    return quantizer.dequantize(quantizer.quantize(WEIGHT[None], table), table)[0]


FIXED = FixedPoint(integer_bits=3, fraction_bits=9)
CASES = {
    "codebook": (on_codebook(16), "codebook", 4.0),
    "binary": (np.where(WEIGHT > 0, 0.25, -0.25).astype(np.float32), "codebook", 1.0),
    "ternary": (0.3 * np.sign(np.trunc(WEIGHT)).astype(np.float32), "affine", 1.6),
    "one step": (on_affine(7, "tensor"), "affine", 7.0),
    "a step each": (on_affine(4, "channel"), "affine", 5.0),
    "fixed point": (FIXED.convert(WEIGHT), "fixed_point", 12.0),
    "pruned codebook": (np.where(abs(WEIGHT) > 2, on_codebook(8), 0), "codebook", 1.5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("coder", sorted(CODERS))
def test_weights_on_a_grid_take_few_bits_though_nobody_says_which(name: str, coder: str) -> None:
    weight, kind, most_bits = CASES[name]
    file = PackedFile.open(pack({"w": weight}, coder=CODERS[coder]()))
    assert np.array_equal(file.tensor("w"), weight)
    grid = file.grid("w")
    assert grid is not None
    if coder == "adaptive":
        tables = 4 * sum(array.size for array in grid.table.values())
        bits = 8 * (len(file.part("w")) - tables) / weight.size
        assert bits < most_bits + 0.1
        assert kind == grid.quantizer.name


def test_other_weights_stay_floats_and_zeros_of_pruned_ones_are_left_out() -> None:
    assert list(exact_grids(WEIGHT)) == []
    file = PackedFile.open(pack({"w": WEIGHT, "pruned": np.where(abs(WEIGHT) > 2, WEIGHT, -0.0)}))
    assert file.grid("w") is None
    assert len(file.part("w")) == WEIGHT.nbytes
    kept = abs(WEIGHT) > 2
    assert np.array_equal(file.tensor("pruned"), np.where(kept, WEIGHT, 0))
    share = kept.mean()
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert len(file.part("pruned")) < 4 * kept.sum() + 1.1 * entropy * WEIGHT.size / 8


@given(
    st.integers(1, 127),
    st.lists(st.integers(-127, 127), min_size=8, max_size=40),
    st.floats(2.0**-20, 2.0**20, width=32),
)
@settings(max_examples=300, deadline=None)
def test_the_step_of_multiples_is_found_whatever_it_is(
    greatest: int, multiples: list[int], step: float
) -> None:
    wanted = np.array([greatest, *multiples], np.float32) * np.float32(step)
    grids = [g for g in exact_grids(wanted) if g.quantizer.name == "affine"]
    assert len(grids) == 1
    assert np.array_equal(grids[0].values(grids[0].symbols(wanted)), wanted)


@given(st.integers(2, 16), st.integers(-5, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_fixed_point_is_found_whatever_the_point(bits: int, fraction: int, seed: int) -> None:
    quantizer = FixedPoint(integer_bits=bits - fraction, fraction_bits=fraction)
    low, high = quantizer.ends
    weight = np.random.default_rng(seed).uniform(low, high, (20, 30)).astype(np.float32)
    weight = quantizer.convert(weight)
    found = [g for g in exact_grids(weight) if isinstance(g.quantizer, FixedPoint)]
    assert np.any(weight) == bool(found)
    for grid in found:
        assert grid.quantizer.word_bits <= bits
        assert np.array_equal(grid.values(grid.symbols(weight)), weight)
