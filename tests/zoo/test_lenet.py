"""LeNets have the weights that the papers' tables count."""

from __future__ import annotations

import torch

from narrows.compress import layer_table
from narrows.zoo.lenet import lenet5, lenet_300_100


def test_lenet5_has_the_weights_of_deepiots_table_before_and_after() -> None:
    table = layer_table(lenet5((10, 20, 10)), lenet5())
    assert [row.weights for row in table.rows] == [500, 25_000, 400_000, 5_000]
    assert [row.weights_left for row in table.rows] == [250, 5_000, 3_200, 100]
    assert [row.units for row in table.rows] == [10, 20, 10, 10]
    assert sum(row.weights for row in table.rows) == 430_500
    assert sum(row.weights_left for row in table.rows) == 8_550
    assert round(100 * table.weight_share_left, 3) == 1.986
    size_mb = sum(row.weights for row in table.rows) * 4 / 1e6
    assert round(size_mb, 2) == 1.72


def test_lenet_300_100_has_the_weights_of_hans_table() -> None:
    rows = layer_table(lenet_300_100()).rows
    assert [row.weights for row in rows] == [235_200, 30_000, 1_000]


def test_both_answer_pictures_of_digits() -> None:
    x = torch.zeros(2, 1, 28, 28)
    assert lenet5(classes=3)(x).shape == (2, 3)
    assert lenet_300_100((4, 5))(x).shape == (2, 10)
