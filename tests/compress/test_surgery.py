"""Masks follow the authors' code: frozen statistics, two thresholds, random refresh."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same
from torch import Tensor, nn

from narrows.compress import DynamicNetworkSurgery, SurgerySettings, weight_layers
from narrows.compress.methods.surgery import operate_, put_surgery_
from narrows.errors import ConfigError, TaskError
from narrows.train import TrainingTask, TrainSettings, score

TRAINING = TrainSettings(epochs=4, learning_rate=0.05, schedule="constant", warmup=0.0)
RULE = SurgerySettings(c_rate=0.5, gamma=1e-3, iter_stop=30)


def under_surgery(model: nn.Module, settings: SurgerySettings) -> nn.Module:
    for layer in weight_layers(model):
        put_surgery_(model, layer, settings)
    return model


def linear(weight: list[float], settings: SurgerySettings, bias: float | None = None) -> nn.Linear:
    made = nn.Linear(len(weight), 1, bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([weight]))
        if bias is not None:
            made.bias.fill_(bias)
    return under_surgery(made, settings)


def learned(layer: nn.Module, name: str = "weight") -> Tensor:
    return layer.parametrizations[name].original


def test_masks_follow_the_naive_rules_step_by_step() -> None:
    """Numpy, as the authors' code is written, on weights that wander."""
    random = np.random.default_rng(0)
    rule = SurgerySettings(c_rate=0.2, gamma=0.05, power=1.0, iter_stop=60)
    model = under_surgery(nn.Linear(6, 4), rule)
    w = random.normal(size=28).astype(np.float32)
    mask, mu, sigma, returned = np.ones(28, bool), 0.0, 0.0, 0
    torch.manual_seed(3)
    draws = torch.rand(100).tolist()
    torch.manual_seed(3)
    for step in range(100):
        with torch.no_grad():
            learned(model).copy_(torch.from_numpy(w[:24].reshape(4, 6)))
            learned(model, "bias").copy_(torch.from_numpy(w[24:]))
        if step == 0:
            mu, sigma = np.abs(w).mean(), np.abs(w).std()
        if step < 60 and (1 + 0.05 * step) ** -1.0 > draws[step]:
            middle = max(mu + 0.2 * sigma, 0)
            for k in range(28):
                if mask[k] and abs(w[k]) <= 0.9 * middle:
                    mask[k] = False
                elif not mask[k] and abs(w[k]) > 1.1 * middle:
                    mask[k], returned = True, returned + 1
        operate_(model)
        used = torch.cat([model.weight.flatten(), model.bias]).detach().numpy()
        assert np.array_equal(used, np.where(mask, w, 0)), step
        w = w + random.normal(size=28).astype(np.float32) * 0.2
    assert returned > 10


def test_between_the_thresholds_a_mask_stays_as_it_was() -> None:
    # mu = 1, sigma = 0: a = 0.9, b = 1.1
    model = linear([1.0, -1.0, 1.0, 1.0], replace(RULE, gamma=0.0))
    for weight, expected in [
        ([1.0, -1.0, 1.0, 1.0], [True, True, True, True]),
        ([0.91, -0.9, 0.5, 1.2], [True, False, False, True]),
        ([1.09, -1.09, 1.0, 0.95], [True, False, False, True]),
        ([0.0, -1.11, 1.1, 1.0], [False, True, False, True]),
    ]:
        with torch.no_grad():
            learned(model).copy_(torch.tensor([weight]))
        operate_(model)
        assert model.parametrizations.weight[0].mask.tolist() == [expected]


@pytest.mark.parametrize(
    ("c_rate", "pruned"),
    [(-1, 13.9), (0, 52.7), (0.5, 67.8), (1, 79.3), (1.5, 87.5), (2, 92.9), (2.5, 96.2), (3, 98.1)],
)
def test_of_gaussian_weights_c_prunes_the_known_share(c_rate: float, pruned: float) -> None:
    model = nn.Linear(400, 250, bias=False)
    nn.init.normal_(model.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    operate_(under_surgery(model, replace(RULE, c_rate=c_rate)))
    assert abs(100 * float((model.weight == 0).float().mean()) - pruned) < 0.5


def test_statistics_are_of_weights_and_biases_without_zeros_and_never_change() -> None:
    model = linear([1.0, -3.0, 0.0], RULE, bias=2.0)
    state = model.parametrizations.weight[0].surgery
    operate_(model)
    expected = (2.0, math.sqrt(2 / 3))
    assert (float(state.mu), float(state.sigma)) == pytest.approx(expected)
    with torch.no_grad():
        learned(model).fill_(50.0)
    again = linear([7.0, 7.0, 7.0], RULE, bias=7.0)
    again.load_state_dict(model.state_dict())
    operate_(again)
    kept = again.parametrizations.weight[0].surgery
    assert (float(kept.mu), float(kept.sigma)) == pytest.approx(expected)
    assert int(kept.step) == 2


def test_refreshes_are_as_frequent_as_the_formula_says_and_end() -> None:
    rule = SurgerySettings(c_rate=0.0, gamma=0.02, power=0.7, iter_stop=300)
    model = nn.Sequential(*[linear([1.0], rule) for _ in range(10)])
    torch.manual_seed(0)
    refreshed = np.zeros(400)
    for step in range(400):
        for layer in model:
            layer.parametrizations.weight[0].mask.fill_(True)
            with torch.no_grad():
                learned(layer).fill_(1.0 if step == 0 else 0.1)
        operate_(model)
        gone = [not bool(layer.parametrizations.weight[0].mask) for layer in model]
        refreshed[step] = sum(gone)
    share = (1 + 0.02 * np.arange(400)) ** -0.7
    for begin, end in ((1, 50), (50, 150), (150, 300)):
        part = share[begin:end]
        spread = math.sqrt(10 * (part * (1 - part)).sum())
        assert abs(refreshed[begin:end].sum() - 10 * part.sum()) < 4 * spread
    assert refreshed[300:].sum() == 0


def test_a_masked_weight_gets_the_dense_gradient() -> None:
    model = linear([2.0, 0.1, -2.0], RULE, bias=0.1)
    operate_(model)
    assert model.weight.tolist() == [[2.0, 0.0, -2.0]]
    assert model.bias.tolist() == [0.0]
    model(torch.tensor([[3.0, 5.0, 7.0]])).sum().backward()
    assert learned(model).grad.tolist() == [[3.0, 5.0, 7.0]]
    assert learned(model, "bias").grad.tolist() == [1.0]


def test_pruned_weights_return_while_training_until_the_masks_settle(clouds: TrainingTask) -> None:
    masks: list[np.ndarray] = []

    def watching(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        masks.append(model[0].parametrizations.weight[0].mask.numpy().copy())
        return clouds.loss(model, x, y)

    rule = SurgerySettings(c_rate=0.3, gamma=1e-4, iter_stop=30)
    method = DynamicNetworkSurgery(training=TRAINING, settings=rule)
    before = copy.deepcopy(clouds.model.state_dict())
    model = method.apply(replace(clouds, loss=watching))
    returned = sum(int((now & ~then).sum()) for then, now in pairwise(masks))
    assert returned > 0
    assert all(np.array_equal(mask, masks[30]) for mask in masks[30:])
    assert np.array_equal(model[0].weight.detach().numpy() != 0, masks[-1])
    assert 0.2 < masks[-1].mean() < 0.6
    assert all(torch.equal(before[key], value) for key, value in clouds.model.state_dict().items())
    assert list(model.state_dict()) == list(before)
    dense, sparse = (score(clouds, m) for m in (clouds.model, model))
    assert sparse > dense - 0.08


def test_killed_at_random_steps_it_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    method = DynamicNetworkSurgery(training=TRAINING, settings=RULE)
    whole = method.apply(clouds)
    steps = 0

    def failing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        if steps in stops:
            raise KeyboardInterrupt
        return clouds.loss(model, x, y)

    stops = sorted(np.random.default_rng(0).integers(1, 70, 5).tolist())
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            method.apply(replace(clouds, loss=failing), folder=tmp_path)
        torch.rand(3)
    assert same(whole, method.apply(clouds, folder=tmp_path))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(-1, 4, 3))[0][:, -1])


def test_each_matrix_of_a_recurrent_layer_has_its_own_surgery(clouds: TrainingTask) -> None:
    torch.manual_seed(0)
    network = Recurrent()
    method = DynamicNetworkSurgery(
        training=TRAINING,
        settings=replace(RULE, c_rate=0.0),
        layers={"rnn.weight_hh_l0": replace(RULE, c_rate=2.0)},
        skip=("head",),
    )
    model = method.apply(replace(clouds, model=network))
    left = {name: float((v != 0).float().mean()) for name, v in model.named_parameters()}
    assert left["rnn.weight_hh_l0"] < 0.2 < left["rnn.weight_hh_l0_reverse"] < 0.8
    assert left["rnn.bias_ih_l0"] < 1
    assert left["head.weight"] == left["head.bias"] == 1


def test_a_group_with_a_stop_of_zero_is_only_trained_and_its_zeros_stay(
    clouds: TrainingTask,
) -> None:
    first = DynamicNetworkSurgery(training=TRAINING, settings=RULE, skip=("3",)).apply(clouds)
    second = DynamicNetworkSurgery(
        training=TRAINING, settings=RULE, layers={"0": replace(RULE, iter_stop=0)}
    ).apply(replace(clouds, model=first))
    assert torch.equal(first[0].weight == 0, second[0].weight == 0)
    assert not torch.equal(first[0].weight, second[0].weight)
    assert bool((second[3].weight == 0).any())
    assert not bool((first[3].weight == 0).any())


def test_settings_that_do_not_fit_the_training_are_told(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    method = DynamicNetworkSurgery(training=TRAINING, settings=RULE)
    with pytest.raises(ConfigError, match="masks settle at step 100, and 4 epochs have"):
        replace(method, settings=replace(RULE, iter_stop=100)).apply(clouds)
    with pytest.raises(ConfigError, match="iter_stop is 0 for every layer"):
        replace(method, settings=replace(RULE, iter_stop=0)).apply(clouds)
    for name, value in (("gamma", -1.0), ("power", float("nan")), ("c_rate", float("inf"))):
        with pytest.raises(ConfigError, match=f"^{name} is "):
            replace(RULE, **{name: value})
    method.apply(clouds, folder=tmp_path)
    with pytest.raises(TaskError, match="take the same settings, or another folder"):
        replace(method, settings=replace(RULE, c_rate=1.0)).apply(clouds, folder=tmp_path)
    other = copy.deepcopy(clouds.model)
    with torch.no_grad():
        other[0].weight.add_(1e-3)
    with pytest.raises(TaskError, match="on a network with other weights"):
        method.apply(replace(clouds, model=other), folder=tmp_path)
