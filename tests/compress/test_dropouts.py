"""Dropout shrinks with the connections that are left, whatever the units went from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from narrows.compress import DeepIoT, UnitPruning, find_units, remove_units
from narrows.compress.dropouts import scale_dropouts_
from narrows.train import TrainingTask, TrainSettings


@pytest.mark.parametrize("scaled", [True, False])
def test_methods_that_remove_units_scale_dropout(clouds: TrainingTask, scaled: bool) -> None:
    few = TrainSettings(epochs=2, learning_rate=0.01)
    for method in (
        UnitPruning(shares=(0.6, 0.3), retrain=None, scale_dropout=scaled),
        DeepIoT(share=0.4, search=few, finetune=few, learning_rate=0.01, scale_dropout=scaled),
    ):
        smaller = method.apply(clouds)
        left = smaller.get_submodule("0").weight.numel() / (12 * 24)
        assert left < 0.5
        wanted = 0.4 * math.sqrt(left) if scaled else 0.4
        assert math.isclose(smaller.get_submodule("2").p, wanted)


class Both(nn.Module):
    """A stack of LSTMs and attention, each with dropout of its own, and one between."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Dropout(0.3)
        self.lstm = nn.LSTM(3, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.between = nn.Dropout(0.25)
        self.attention = nn.MultiheadAttention(8, 4, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.between(self.lstm(self.before(x))[0])
        return self.attention(y, y, y, need_weights=False)[0]


def test_layers_with_dropout_of_their_own_scale_it_again_and_again() -> None:
    whole, x = Both().eval(), torch.zeros(2, 5, 3)
    keep = {"lstm.l0": range(6), "lstm.l1": range(4), "attention.heads": range(2)}
    smaller = remove_units(whole, x, keep)
    scale_dropouts_(smaller, whole)
    assert smaller.before.p == 0.3  # nothing before it has connections
    assert math.isclose(smaller.lstm.dropout.p, 0.5 * math.sqrt(_share(smaller.lstm, whole.lstm)))
    assert math.isclose(smaller.between.p, 0.25 * math.sqrt(_share(smaller.lstm, whole.lstm)))
    heads = _share(smaller.attention, whole.attention)
    assert math.isclose(smaller.attention.dropout, 0.1 * math.sqrt(heads))
    # From the smaller one, whose stack is of unequal layers, by what is left of that.
    names = [group.name for group in find_units(smaller, x).groups]
    again = remove_units(smaller, x, {name: [0] for name in names})
    scale_dropouts_(again, smaller)
    assert math.isclose(
        again.between.p / smaller.between.p, _share(again.lstm, smaller.lstm) ** 0.5
    )
    assert again.lstm.dropout.p < smaller.lstm.dropout.p


def _share(smaller: nn.Module, whole: nn.Module) -> float:
    """Of the weights that are left."""
    left, all_of_them = (
        sum(value.numel() for value in model.parameters() if value.ndim > 1)
        for model in (smaller, whole)
    )
    return left / all_of_them
