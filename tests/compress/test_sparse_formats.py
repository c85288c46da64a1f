"""Bytes are counted with indices, and a break-even is where measured ratios cross one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from narrows.compress import choose_format, layer_table, measure_break_even, weight_size
from narrows.compress.break_even import BreakEven, Ratio, csr_product, dense_product, sparse_weight
from narrows.errors import ConfigError
from narrows.measure.latency import Schedule

QUICK = Schedule(rounds=6, round_s=0.0, min_calls=1, session_s=0, respawns=0, target=None)


@pytest.mark.parametrize("density", [0.01, 0.3, 0.49, 0.51, 1.0])
@pytest.mark.parametrize("shape", [(30, 40), (7, 3, 3, 3), (1, 90)])
def test_bytes_are_those_of_scipy(shape: tuple[int, ...], density: float) -> None:
    weight = sparse_weight(shape[0], math.prod(shape[1:]), density).reshape(shape)
    rows = scipy.sparse.csr_array(weight.reshape(len(weight), -1).numpy())
    found = weight_size(weight)
    assert found.nonzeros == rows.nnz
    assert found.csr_bytes == rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes
    assert found.dense_bytes == weight.numpy().nbytes
    assert found.size_bytes == min(found.csr_bytes, found.dense_bytes)
    smaller = "csr" if found.csr_bytes < found.dense_bytes else "dense"
    assert found.format == choose_format(weight) == smaller
    assert (found.density < found.break_even) == (smaller == "csr")


def test_short_indices_and_short_numbers_count_as_such_and_must_hold() -> None:
    weight = sparse_weight(50, 200, 0.02)
    assert weight_size(weight, index_bytes=1).csr_bytes == 200 * 5 + 51
    assert weight_size(weight.half()).dense_bytes == 20_000
    with pytest.raises(ConfigError, match="300 needs longer indices than 1 bytes"):
        weight_size(torch.eye(300), index_bytes=1)


def crossing(*ratios: tuple[float, float, float, float]) -> BreakEven:
    made = tuple(Ratio(density=d, value=v, low=low, high=high) for d, v, low, high in ratios)
    return BreakEven(rows=10, columns=10, ratios=made)


def test_the_break_even_lies_between_densities_and_its_ends_are_certain() -> None:
    found = crossing((0.01, 0.5, 0.4, 0.8), (0.1, 2.0, 1.25, 2.5), (0.3, 6.0, 5.0, 7.0))
    assert math.isclose(found.density, math.sqrt(0.01 * 0.1))
    assert 0.01 < found.low < found.density < found.high < 0.1
    assert crossing((0.01, 1.5, 1.2, 1.9)).density == 0
    assert crossing((0.01, 0.5, 0.4, 0.6), (0.3, 0.9, 0.8, 1.1)).density == 0.3
    unsure = crossing((0.01, 0.9, 0.7, 1.1), (0.3, 3.0, 2.0, 4.0))
    assert unsure.low == 0 < unsure.density < unsure.high < 0.3


def test_a_time_that_was_measured_chooses_otherwise_than_size() -> None:
    weight = sparse_weight(40, 50, 0.2)
    assert choose_format(weight) == "csr"
    assert choose_format(weight, break_even=0.1) == "dense"
    assert choose_format(weight, break_even=0.3) == "csr"


def test_products_are_the_same_number_and_are_timed_at_each_density() -> None:
    weight = sparse_weight(20, 30, 0.3)
    assert int(weight.count_nonzero()) == 180
    answers = [product(weight)() for product in (dense_product, csr_product)]
    assert np.allclose(*answers, atol=1e-6)
    found = measure_break_even(8, 8, densities=(0.1, 0.5), schedule=QUICK)
    assert [ratio.density for ratio in found.ratios] == [0.1, 0.5]
    assert all(0 < ratio.low <= ratio.value <= ratio.high for ratio in found.ratios)


@pytest.mark.parametrize("densities", [(), (0.0, 0.1), (0.2, 0.1), (0.5, 1.5)])
def test_densities_that_are_none_are_refused(densities: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="densities"):
        measure_break_even(4, 4, densities=densities, schedule=QUICK)


def test_a_layer_is_counted_in_the_smaller_format_of_each_matrix() -> None:
    original = nn.Sequential(nn.Linear(20, 30), nn.LSTM(30, 8), nn.Linear(8, 2))
    model = nn.Sequential(nn.Linear(20, 30), nn.LSTM(30, 8), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight.copy_(sparse_weight(30, 20, 0.1))
        model[1].weight_hh_l0.copy_(sparse_weight(32, 8, 0.05))
    first, second, third = layer_table(model, original).rows
    assert first.dense_bytes == 4 * (600 + 30)
    assert (first.size_bytes, first.format) == (60 * 8 + 31 * 4 + 120, "csr")
    hidden = 13 * 8 + 33 * 4
    assert second.dense_bytes == 4 * (32 * 30 + 32 * 8 + 64)
    assert (second.size_bytes, second.format) == (4 * (32 * 30 + 64) + hidden, "csr")
    assert (third.size_bytes, third.format) == (third.dense_bytes, "dense")
