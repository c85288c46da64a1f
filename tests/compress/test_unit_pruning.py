"""Whole units of small weights go, to a share of the cost, and what is left is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from narrows.compress import UnitPruning, layer_table
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, outputs

PRUNING = UnitPruning(shares=(0.7, 0.4), retrain=TrainSettings(epochs=2, learning_rate=0.02))


def score(task: TrainingTask, model: nn.Module) -> float:
    return float(task.task.metric(*outputs(model, task.choose)))


@pytest.mark.parametrize("cost", ["parameters", "macs"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_share_is_met_closely_and_the_score_holds(
    clouds: TrainingTask, cost: str, norm: str
) -> None:
    found = replace(PRUNING, cost=cost, norm=norm).apply(clouds)
    left = layer_table(found, clouds.model)
    share = left.share_left if cost == "parameters" else left.weight_share_left
    assert 0.33 < share <= 0.4  # one unit more or less is a twenty-fourth
    assert score(clouds, found) >= score(clouds, clouds.model) - 0.05


def test_the_units_of_smallest_norm_go(clouds: TrainingTask) -> None:
    model = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for unit, size in enumerate((5.0, 0.1, 3.0, 0.2, 4.0, 1.0)):
            model[0].weight[unit] = size
            model[0].bias[unit] = 0.0
    still = TrainSettings(epochs=1, learning_rate=1e-12, weight_decay=0.0)
    found = UnitPruning(shares=(0.6,), retrain=still).apply(replace(clouds, model=model))
    assert torch.allclose(found[0].weight[:, 0], torch.tensor([5.0, 3.0, 4.0]))


def test_every_group_keeps_its_least_share_and_a_skipped_one_all(clouds: TrainingTask) -> None:
    model = nn.Sequential(
        nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)
    )
    task = replace(clouds, model=model)
    kept = replace(PRUNING, shares=(0.02,), keep_at_least=0.25).apply(task)
    assert [kept[i].out_features for i in (0, 2)] == [5, 5]
    skipped = replace(PRUNING, shares=(0.5,), skip=("0",)).apply(task)
    assert skipped[0].out_features == 20
    assert skipped[2].out_features < 20


def test_rounds_go_on_where_they_stopped(clouds: TrainingTask, tmp_path: Path) -> None:
    def stop(told: str) -> None:
        if "round 2 of 2: epoch 1" in told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PRUNING.apply(clouds, folder=tmp_path, progress=stop)
    again, once = PRUNING.apply(clouds, folder=tmp_path), PRUNING.apply(clouds)
    pairs = zip(again.parameters(), once.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_cannot_be_pruned_is_refused(clouds: TrainingTask) -> None:
    for shares in ((), (0.5, 0.6), (0.5, 0.5), (1.0,), (0.0,)):
        with pytest.raises(ConfigError, match="shares"):
            replace(PRUNING, shares=shares)
    with pytest.raises(ConfigError, match="l1"):
        replace(PRUNING, norm="l3")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="nowhere"):
        replace(PRUNING, skip=("nowhere",)).apply(clouds)
    with pytest.raises(ModelError, match="no unit"):
        PRUNING.apply(replace(clouds, model=nn.Linear(12, 3)))
