"""What is pruned is what is smallest, and it stays pruned."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn

from narrows.compress import Chain, MagnitudePruning, layer_table
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score

RETRAIN = TrainSettings(epochs=2, learning_rate=0.02, schedule="constant", weight_decay=0.05)


def pruning(**changed: object) -> MagnitudePruning:
    given = {"by": "layer", "targets": (0.5,), "retrain": RETRAIN}
    return MagnitudePruning(**(given | changed))


def weights(model: nn.Module) -> list[np.ndarray]:
    return [model[place].weight.detach().numpy() for place in (0, 3)]


def zeros(model: nn.Module) -> list[np.ndarray]:
    return [weight == 0 for weight in weights(model)]


def smallest(values: np.ndarray, share: float) -> np.ndarray:
    """Naive: sort, and take the first."""
    order = np.argsort(np.abs(values), axis=None, kind="stable")
    gone = np.zeros(values.size, bool)
    gone[order[: round(share * values.size)]] = True
    return gone.reshape(values.shape)


def test_each_layer_loses_its_smallest_weights(clouds: TrainingTask) -> None:
    found = zeros(pruning(targets=(0.75,), layers={"3": (0.25,)}).apply(clouds))
    first, second = weights(clouds.model)
    assert np.array_equal(found[0], smallest(first, 0.75))
    assert np.array_equal(found[1], smallest(second, 0.25))


def test_all_layers_together_lose_the_smallest_weights(clouds: TrainingTask) -> None:
    found = zeros(pruning(by="global", targets=(0.6,)).apply(clouds))
    joint = smallest(np.concatenate([w.ravel() for w in weights(clouds.model)]), 0.6)
    assert np.array_equal(np.concatenate([z.ravel() for z in found]), joint)
    assert found[0].mean() > found[1].mean() > 0


def test_a_quality_is_a_threshold_in_standard_deviations(clouds: TrainingTask) -> None:
    found = zeros(pruning(by="quality", targets=(1.2,), layers={"3": (0.3,)}).apply(clouds))
    for gone, weight, quality in zip(found, weights(clouds.model), (1.2, 0.3), strict=True):
        assert np.array_equal(gone, np.abs(weight) < quality * np.std(weight))


def test_pruned_weights_stay_zero_under_momentum_and_decay_and_over_rounds(
    clouds: TrainingTask,
) -> None:
    seen: list[tuple[list[np.ndarray], list[float]]] = []

    def watching(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        # That the gradient reaches what is pruned would show in the learned weights.
        drift = [
            float(model[n].parametrizations.weight.original.detach().abs().sum()) for n in (0, 3)
        ]
        seen.append((zeros(model), drift))
        return clouds.loss(model, x, y)

    task = replace(clouds, loss=watching)
    last = zeros(pruning(targets=(0.5, 0.8)).apply(task))
    steps = 2 * len(clouds.fit)
    rounds = seen[:steps], seen[steps:]
    assert len(rounds[1]) == steps
    for part, share in zip(rounds, (0.5, 0.8), strict=True):
        first = part[0][0]
        assert [z.sum() for z in first] == [round(share * z.size) for z in first]
        for masks, _ in part:
            assert all(map(np.array_equal, masks, first))
    assert all((later >= before).all() for later, before in zip(last, rounds[0][0][0], strict=True))
    assert rounds[0][0][1] != rounds[0][-1][1]


def test_it_leaves_the_task_alone_and_the_network_learns_again(clouds: TrainingTask) -> None:
    before = copy.deepcopy(clouds.model.state_dict())
    told: list[str] = []
    model = pruning(targets=(0.5, 0.7)).apply(clouds, progress=told.append)
    assert all(torch.equal(before[key], value) for key, value in clouds.model.state_dict().items())
    assert list(model.state_dict()) == list(before)
    dense, sparse = (score(clouds, m) for m in (clouds.model, model))
    assert sparse > dense - 0.05
    assert told[0].startswith("magnitude pruning, round 1 of 2: epoch 1 of 2, loss ")
    assert len(told) == 4
    assert not model.training
    assert abs(layer_table(model, clouds.model).weight_share_left - 0.3) < 0.01


def test_what_was_zero_is_never_restored_and_a_layer_keeps_a_weight(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[0].weight[:12] = 0
    gone = zeros(pruning(targets=(0.0,)).apply(replace(clouds, model=model)))
    assert gone[0][:12].all()
    assert not gone[0][12:].any()
    ends = zeros(pruning(by="quality", targets=(1e9,)).apply(clouds))
    assert [int((~z).sum()) for z in ends] == [1, 1]
    kept = zeros(pruning(targets=(0.9,), skip=("3",)).apply(clouds))
    assert kept[0].mean() > 0.8
    assert kept[1].mean() == 0


def test_groups_of_layers_are_pruned_one_after_the_other(clouds: TrainingTask) -> None:
    first = pruning(targets=(0.7,), layers={"3": (0.0,)})
    second = pruning(targets=(0.0,), layers={"3": (0.5,)})
    once = zeros(first.apply(clouds))
    both = zeros(Chain(methods=(first, second)).apply(clouds))
    assert not once[1].any()
    assert np.array_equal(both[0], once[0])
    assert both[1].sum() == round(0.5 * both[1].size)


def test_dropout_shrinks_with_the_root_of_the_connections(clouds: TrainingTask) -> None:
    found = pruning(targets=(0.5, 0.75), layers={"3": (0.0, 0.0)}).apply(clouds)
    assert math.isclose(found[2].p, 0.4 * math.sqrt(0.25))
    assert pruning(scale_dropout=False).apply(clouds)[2].p == 0.4
    assert clouds.model[2].p == 0.4


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(-1, 4, 3))[0][:, -1])


def test_recurrent_matrices_are_pruned_each_and_taken_up_again(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task, method = replace(clouds, model=Recurrent()), pruning(targets=(0.5, 0.75))
    whole = method.apply(task)
    for name, value in whole.rnn.named_parameters():
        share = float((value == 0).float().mean())
        assert share == (0.75 if name.startswith("weight") else 0)
    assert math.isclose(whole.rnn.dropout, 0.25)
    stop_at("round 2 of 2: epoch 1", method, task, tmp_path)
    assert same(whole, method.apply(task, folder=tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"by": "size"}, "by is 'size'"),
        ({"targets": ()}, "targets has 0 values for 0 rounds"),
        ({"targets": (1.0,)}, "from 0 to below 1"),
        ({"by": "quality", "targets": (-1.0,)}, "from 0 on"),
        ({"targets": (float("nan"),)}, "targets is"),
        ({"layers": {"0": (0.1, 0.2)}}, "0 has 2 values for 1 rounds"),
    ],
)
def test_targets_that_cannot_be_met_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pruning(**changed)


def test_a_layer_that_is_not_there_is_told(clouds: TrainingTask) -> None:
    with pytest.raises(ModelError, match="no layer is named 'fc1': the layers are '0', '3'"):
        pruning(layers={"fc1": (0.5,)}).apply(clouds)
