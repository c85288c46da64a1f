"""The VGG has the weights that DeepIoT's tables count, before and after."""

from __future__ import annotations

import torch

from narrows.compress import layer_table
from narrows.zoo.deepiot_vgg import deepiot_vgg

LEFT = (27, 47, 53, 68, 104, 97, 89, 122, 95, 64, 128, 112, 149, 27, 371)


def test_the_weights_are_those_of_table_3() -> None:
    whole, left = deepiot_vgg(), deepiot_vgg(LEFT)
    table = layer_table(left, whole)
    assert sum(row.weights for row in table.rows) == 29_693_632
    assert sum(row.weights_left for row in table.rows) == 730_508
    # The paper prints 2.44 %.
    assert round(100 * table.weight_share_left, 2) == 2.46


def test_pictures_of_32_pixels_give_ten_classes_at_any_width() -> None:
    for width in (1 / 16, 0.25):
        assert deepiot_vgg(width=width).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
