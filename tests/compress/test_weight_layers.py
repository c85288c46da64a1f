"""Layers without numbers are refused by name, whatever was to become of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from narrows.compress import (
    BinaryConnect,
    CodebookSharing,
    FixedPointFormats,
    FixedPointTraining,
    Int8Aware,
    Method,
    MixedPrecision,
    TernaryWeights,
    weight_layers,
)
from narrows.errors import ModelError
from narrows.train import TrainingTask, TrainSettings

TRAINING = TrainSettings(epochs=1, learning_rate=0.01, weight_decay=0.0)
METHODS: tuple[Method, ...] = (
    CodebookSharing(),
    CodebookSharing(kind="product"),
    MixedPrecision(rate=4.0),
    MixedPrecision(rate=4.0, quantizer="codebook"),
    Int8Aware(training=TRAINING),
    FixedPointTraining(training=TRAINING, formats=FixedPointFormats(weights=16)),
    BinaryConnect(training=TRAINING),
    TernaryWeights(training=TRAINING),
)


def network(rows: int, columns: int) -> nn.Sequential:
    """A layer of this shape amidst others; torch warns where it draws the weights itself."""
    model = nn.Sequential(nn.Linear(12, 5), nn.Linear(5, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(torch.zeros(rows, columns))
    model[1].bias = nn.Parameter(torch.zeros(rows))
    return model


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_layer_without_numbers_is_named(
    clouds: TrainingTask, method: Method, shape: tuple[int, int]
) -> None:
    words = f"the weight of '1' is {shape[0]} × {shape[1]}, which is no number"
    with pytest.raises(ModelError, match=words):
        method.apply(replace(clouds, model=network(*shape)))


def test_it_may_be_skipped() -> None:
    assert [layer.name for layer in weight_layers(network(0, 5), ("1",))] == ["0", "2"]
