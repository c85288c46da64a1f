"""Ternary weights against their rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at

from narrows.compress import Chain, MagnitudePruning, TernaryWeights
from narrows.compress.methods.ternary import TernaryWeight
from narrows.errors import ConfigError
from narrows.train import TrainingTask, TrainSettings, outputs

TRAINING = TrainSettings(epochs=3, learning_rate=0.02)
METHOD = TernaryWeights(training=TRAINING)


def naive(w: np.ndarray, factor: float) -> np.ndarray:
    """Over one layer or channel; zeros were pruned."""
    left = abs(w[w != 0])
    delta = factor * left.mean() if left.size else 0.0
    large = abs(w)[abs(w) > delta]
    alpha = large.mean() if large.size else 0.0
    return np.where(abs(w) > delta, alpha * np.sign(w), 0.0)


@pytest.mark.parametrize("factor", [0.7, 0.0, 5.0])
def test_a_weight_is_used_as_the_rule_says(factor: float) -> None:
    w = np.random.default_rng(0).normal(size=(6, 3, 2, 2))
    w[0, 0], w[3] = 0.0, 0.0  # pruned: a kernel, and a whole channel
    weight = torch.tensor(w, requires_grad=True)
    used = TernaryWeight(per_channel=False, factor=factor)(weight)
    assert np.allclose(used.detach(), naive(w, factor))
    used.backward(torch.ones_like(used))
    assert torch.equal(weight.grad, torch.ones_like(weight))
    used = TernaryWeight(per_channel=True, factor=factor)(weight)
    assert np.allclose(used.detach(), np.stack([naive(row, factor) for row in w]))


def test_it_learns_with_three_values_of_a_layer_or_of_each_channel(clouds: TrainingTask) -> None:
    found = METHOD.apply(clouds)
    answers, labels = outputs(found, clouds.choose)
    assert (answers.argmax(1) == labels).mean() > 0.85
    for number in (0, 3):
        low, zero, high = found[number].weight.unique().tolist()
        assert (low, zero) == (-high, 0.0)
    channels = replace(METHOD, per="channel").apply(clouds)[0].weight
    assert all(row.abs().unique().numel() == 2 for row in channels)
    assert channels.abs().unique().numel() > 2


def test_what_was_pruned_stays_zero(clouds: TrainingTask) -> None:
    pruning = MagnitudePruning(by="global", targets=(0.5,), retrain=TRAINING)
    sparse = pruning.apply(clouds)
    found = Chain(methods=(pruning, METHOD)).apply(clouds)
    for number in (0, 3):
        zeros = sparse[number].weight == 0
        assert not found[number].weight[zeros].any()
        assert found[number].weight.unique().numel() == 3


def test_stopped_it_ends_with_the_same_bits(clouds: TrainingTask, tmp_path: Path) -> None:
    stop_at("epoch 2 of 3", METHOD, clouds, tmp_path)
    assert same(METHOD.apply(clouds, folder=tmp_path), METHOD.apply(clouds))


def test_settings_without_meaning_are_refused() -> None:
    for change in ({"per": "row"}, {"factor": -0.1}, {"factor": float("nan")}):
        with pytest.raises(ConfigError, match="expected"):
            replace(METHOD, **change)  # type: ignore[arg-type]
