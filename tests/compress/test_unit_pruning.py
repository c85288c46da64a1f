"""Whole units of small weights go, to a share of the cost, and what is left is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stopping import same, stop_at
from torch import nn

from narrows.compress import UnitPruning, layer_table
from narrows.compress.latency import MeasuredLatency
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score

PRUNING = UnitPruning(shares=(0.7, 0.4), retrain=TrainSettings(epochs=2, learning_rate=0.02))


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


def test_what_stays_is_a_multiple_and_the_smallest_go(clouds: TrainingTask) -> None:
    model = nn.Sequential(
        nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 22), nn.ReLU(), nn.Linear(22, 3)
    )
    method = UnitPruning(shares=(0.6,), retrain=None, multiple=8)
    found = method.apply(replace(clouds, model=model))
    assert [found[i].out_features for i in (0, 2)] == [8, 8]  # 22 is no multiple, 16 is too much
    norms = model[2].weight.abs().sum(1) + model[2].bias.abs()
    kept = norms.argsort(descending=True)[:8].sort().values
    assert torch.equal(found[2].weight, model[2].weight[kept])
    least = replace(method, shares=(0.01,)).apply(replace(clouds, model=model))
    assert [least[i].out_features for i in (0, 2)] == [8, 8]


def test_the_first_round_that_loses_too_much_is_not_taken(clouds: TrainingTask) -> None:
    told: list[str] = []
    still = TrainSettings(epochs=1, learning_rate=1e-12, weight_decay=0.0)
    method = UnitPruning(shares=(0.8, 0.1), retrain=still, max_drop=0.05)
    found = method.apply(clouds, progress=told.append)
    assert 0.7 < layer_table(found, clouds.model).share_left <= 0.8
    assert score(clouds, found) >= score(clouds, clouds.model) - 0.05
    assert "back to round 1" in told[-1]
    nothing = replace(method, shares=(0.1,)).apply(clouds, progress=told.append)
    assert "back to the network as it was" in told[-1]
    assert torch.equal(nothing[0].weight, clouds.model[0].weight)
    assert nothing is not clouds.model


def test_it_prunes_to_a_measured_latency_and_times_no_network_twice(
    clouds: TrainingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def timed(_: MeasuredLatency, smaller: nn.Module) -> float:
        asked.append(smaller[0].out_features)
        return 0.2 + 0.8 * smaller[0].out_features / 24

    monkeypatch.setattr(MeasuredLatency, "_timed", timed)
    method = replace(PRUNING, shares=(0.8, 0.61), cost="latency", retrain=None)
    found = method.apply(clouds, folder=tmp_path)
    assert found[0].out_features == 12  # the most that takes at most 0.61 of the time
    assert len(asked) == len(set(asked))
    asked.clear()
    again = method.apply(clouds, folder=tmp_path)
    assert not asked
    assert torch.equal(again[0].weight, found[0].weight)


def test_rounds_go_on_where_they_stopped(clouds: TrainingTask, tmp_path: Path) -> None:
    stop_at("round 2 of 2: epoch 1", PRUNING, clouds, tmp_path)
    assert same(PRUNING.apply(clouds, folder=tmp_path), PRUNING.apply(clouds))


def test_what_cannot_be_pruned_is_refused(clouds: TrainingTask) -> None:
    for shares in ((), (0.5, 0.6), (0.5, 0.5), (1.0,), (0.0,)):
        with pytest.raises(ConfigError, match="shares"):
            replace(PRUNING, shares=shares)
    for change in ({"multiple": 0}, {"max_drop": -0.1}, {"keep_at_least": 1.0}):
        with pytest.raises(ConfigError, match="expected"):
            replace(PRUNING, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="l1"):
        replace(PRUNING, norm="l3")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="nowhere"):
        replace(PRUNING, skip=("nowhere",)).apply(clouds)
    with pytest.raises(ModelError, match="no unit"):
        PRUNING.apply(replace(clouds, model=nn.Linear(12, 3)))
