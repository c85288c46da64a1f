"""Methods one after another, stopped anywhere and taken up."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from stopping import same, stop_at
from torch import Tensor, nn

from narrows.compress import Chain, DynamicNetworkSurgery, MagnitudePruning, SurgerySettings
from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, TaskError
from narrows.train import TrainingTask, TrainSettings

TRAINING = TrainSettings(epochs=2, learning_rate=0.02)
PRUNING = MagnitudePruning(by="global", targets=(0.3, 0.5), retrain=TRAINING)
SURGERY = DynamicNetworkSurgery(
    training=TRAINING, settings=SurgerySettings(c_rate=0.5, iter_stop=15)
)
CHAIN = Chain(methods=(PRUNING, SURGERY))


def test_each_method_gets_the_network_of_the_one_before(clouds: TrainingTask) -> None:
    before = copy.deepcopy(clouds.model)
    found = CHAIN.apply(clouds)
    step = SURGERY.apply(replace(clouds, model=PRUNING.apply(clouds)))
    assert same(found, step)
    assert same(clouds.model, before)


@pytest.mark.parametrize(
    "line", ["round 1 of 2: epoch 1", "round 2 of 2: epoch 2", "surgery: epoch 1"]
)
def test_a_chain_stopped_anywhere_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, line: str
) -> None:
    stop_at(line, CHAIN, clouds, tmp_path)
    told: list[str] = []
    again = CHAIN.apply(clouds, folder=tmp_path, progress=told.append)
    assert same(again, CHAIN.apply(clouds))
    assert len(told) < 6
    assert {path.name for path in tmp_path.iterdir()} <= {"1-magnitude", "2-surgery"}


def test_a_finished_method_is_not_done_again(clouds: TrainingTask, tmp_path: Path) -> None:
    first, told = PRUNING.apply(clouds, folder=tmp_path), []
    assert same(first, PRUNING.apply(clouds, folder=tmp_path, progress=told.append))
    assert told == []


def test_a_loss_that_is_no_number_stops_it_and_the_last_good_epoch_stays(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    calls = 0

    def breaking(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        factor = float("nan") if calls == len(clouds.fit) + 5 else 1.0
        return clouds.loss(model, x, y) * factor

    with pytest.raises(TaskError, match=r"loss is nan in epoch 2, step 5 of .* is kept"):
        SURGERY.apply(replace(clouds, loss=breaking), folder=tmp_path)
    assert same(SURGERY.apply(clouds, folder=tmp_path), SURGERY.apply(clouds))


def test_a_method_is_a_value_that_can_be_written(clouds: TrainingTask) -> None:
    for method in (PRUNING, SURGERY):
        assert from_dict(type(method), to_dict(method)) == method
    assert to_dict(PRUNING)["name"] == "magnitude"
    with pytest.raises(ConfigError, match="a chain of no methods"):
        Chain(methods=())


def test_a_folder_whose_record_is_damaged_is_told(clouds: TrainingTask, tmp_path: Path) -> None:
    (tmp_path / "method.json").write_text("{")
    with pytest.raises(TaskError, match=r"method.json cannot be read: remove the folder"):
        PRUNING.apply(clouds, folder=tmp_path)
