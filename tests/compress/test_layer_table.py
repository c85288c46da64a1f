"""What is left of a network, layer by layer, and which of its weights are layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from narrows.compress import layer_table, weight_layers
from narrows.compress.weight_maps import Mask, put_map_
from narrows.errors import ModelError


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def test_zeros_are_gone_and_masks_count_as_used() -> None:
    model = small()
    with torch.no_grad():
        model[0].weight[0] = 0
        model[1].bias.fill_(1)
    put_map_(model[3], "weight", Mask(torch.eye(3, 8, dtype=torch.bool)))
    conv, norm, linear = layer_table(model).rows
    assert (conv.name, conv.units, conv.parameters, conv.left) == ("0", 2, 20, 11)
    assert (conv.weights, conv.weights_left) == (18, 9)
    assert (norm.units, norm.parameters, norm.left, norm.weights) == (2, 4, 4, 0)
    assert (linear.units, linear.parameters, linear.left) == (3, 27, 6)
    table = layer_table(model)
    assert table.share_left == (11 + 4 + 6) / (20 + 4 + 27)
    assert table.weight_share_left == (9 + 3) / (18 + 24)


def test_a_smaller_a_missing_and_a_replaced_layer_are_counted_against_the_original() -> None:
    original = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 5), nn.ReLU())
    parts = nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 6))
    model = nn.Sequential(nn.Linear(4, 3), parts, nn.Identity(), nn.ReLU())
    rows = layer_table(model, original).rows
    assert [(row.units, row.parameters, row.left) for row in rows] == [
        (3, 40, 15),
        (6, 54, 16 + 12 + 6),
        (0, 35, 0),
    ]
    attention = nn.Sequential(nn.MultiheadAttention(4, 2))
    assert [row.parameters for row in layer_table(attention).rows] == [48 + 12, 16 + 4]
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    assert [row.parameters for row in layer_table(tied).rows] == [9]


def test_every_matrix_of_a_recurrent_layer_is_a_layer() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4, bidirectional=True, proj_size=2)})
    found = [(layer.name, layer.bias) for layer in weight_layers(model)]
    assert found[:3] == [
        ("rnn.weight_ih_l0", "bias_ih_l0"),
        ("rnn.weight_hh_l0", "bias_hh_l0"),
        ("rnn.weight_hr_l0", None),
    ]
    assert len(found) == 6
    assert [x.bias for x in weight_layers(nn.GRU(2, 2, bias=False))] == [None, None]
    assert [x.name for x in weight_layers(nn.GRUCell(2, 2))] == ["weight_ih", "weight_hh"]
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=3)
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj"]
    assert [x.name for x in weight_layers(attention)] == names
    assert [x.name for x in weight_layers(small())] == ["0", "3"]


def test_names_that_are_none_and_shared_weights_are_told() -> None:
    with pytest.raises(ModelError, match="no layer is named 'fc': the layers are '0', '3'"):
        weight_layers(small(), skip=("fc",))
    with pytest.raises(ModelError, match="make sparse: Linear has 'weight', all skipped"):
        weight_layers(nn.Linear(2, 2), skip=("weight",))
    with pytest.raises(ModelError, match="make sparse: ReLU has no linear, convolutional, recur"):
        weight_layers(nn.ReLU())
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(ModelError, match=r"'0' is shared \('0.weight', '1.weight'\): skip"):
        weight_layers(tied)
    assert [layer.name for layer in weight_layers(tied, skip=("0", "1"))] == ["2"]
