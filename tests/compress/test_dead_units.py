"""Units that pruned weights leave without inputs or readers go, and no answer changes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.compress import Chain, DeadUnits, MagnitudePruning, remove_dead_units
from narrows.compress.weight_maps import Mask, put_map_
from narrows.train import TrainingTask, TrainSettings


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.second(x)
        return self.last(x.mean((2, 3)))


class Sequences(nn.Module):
    def __init__(self, kind: str, **options: object) -> None:
        super().__init__()
        self.into = nn.Linear(4, 6)
        self.rnn = getattr(nn, kind)(6, 8, batch_first=True, **options)
        self.out = nn.Linear(16 if self.rnn.bidirectional else 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(torch.tanh(self.into(x)))[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.norm = nn.Linear(4, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide, self.out = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.into(x))
        x = x + self.attention(x, x, x)[0]
        return self.out(nn.functional.gelu(self.wide(x))).mean(1)


def depthwise() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )


def lenet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 2, bias=False)),
        *(nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 20), nn.ReLU()),
        nn.Linear(20, 3),
    )


NETS = {
    "lenet": (lenet, (2, 8, 8)),
    "depthwise": (depthwise, (2, 6, 6)),
    "residual": (Residual, (2, 7, 7)),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 12, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=3), nn.Conv2d(12, 3, 1)
        ),
        (2, 5, 5),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 9, 1), nn.ReLU(), nn.ConvTranspose2d(9, 7, 2), nn.Conv2d(7, 3, 1)
        ),
        (2, 4, 4),
    ),
    "lstm": (lambda: Sequences("LSTM", num_layers=2, bidirectional=True), (5, 4)),
    "gru": (lambda: Sequences("GRU"), (5, 4)),
    "rnn": (lambda: Sequences("RNN", bias=False), (5, 4)),
    "attention": (Attending, (5, 4)),
}


def zeroed(model: nn.Module, share: float, seed: int, *, biases: bool) -> nn.Module:
    """A copy with so many weights zero, whole rows and columns among them."""
    generator = torch.Generator().manual_seed(seed)
    made = copy.deepcopy(model).double().eval()
    for name, value in made.named_parameters():
        if "norm" in name or (value.ndim < 2 and not biases):
            continue
        with torch.no_grad():
            for axis in range(min(2, value.ndim)):
                rows = torch.rand(value.shape[axis], generator=generator) < share / 2
                value.movedim(axis, 0)[rows] = 0
            value[torch.rand(value.shape, generator=generator) < share] = 0
    return made


def parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_the_smaller_network_answers_the_same(name: str, *, biases: bool) -> None:
    make, shape = NETS[name]
    torch.manual_seed(1)
    model = make()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.bias.data.normal_()
    smaller = 0
    for seed in range(4):
        sparse = zeroed(model, 0.7, seed, biases=biases)
        before = copy.deepcopy(sparse.state_dict())
        found = remove_dead_units(sparse, torch.zeros(1, *shape, dtype=torch.float64))
        assert all(torch.equal(before[key], value) for key, value in sparse.state_dict().items())
        x = torch.randn(3, *shape, dtype=torch.float64)
        with torch.no_grad():
            assert torch.allclose(found(x), sparse(x), rtol=1e-9, atol=1e-9)
        smaller += parameters(found) < parameters(sparse)
    assert smaller >= 3


def alive(first: np.ndarray, second: np.ndarray) -> int:
    """Naive: hidden units of two layers and a rectifier that are both fed and read."""
    return int(((first != 0).any(1) & (second != 0).any(0)).sum())


def test_every_dead_unit_of_two_layers_goes_and_constants_become_bias() -> None:
    for seed in range(5):
        sparse = zeroed(
            nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)), 0.75, seed, biases=False
        )
        first, second = sparse[0].weight.detach().numpy(), sparse[2].weight.detach().numpy()
        bias = sparse[0].bias.detach().numpy()
        found = remove_dead_units(sparse, torch.zeros(1, 6, dtype=torch.float64))
        assert found[0].out_features == max(1, alive(first, second)) < 40
        unfed = ~(first != 0).any(1)
        folded = sparse[2].bias.detach().numpy() + second[:, unfed] @ np.maximum(bias[unfed], 0)
        assert np.allclose(found[2].bias.detach().numpy(), folded, atol=1e-12)


def test_a_chain_of_dead_units_goes_with_the_first_and_one_unit_always_stays() -> None:
    net = nn.Sequential(*(nn.Linear(5, 5, bias=False) for _ in range(4)))
    with torch.no_grad():
        net[3].weight[:, 2:] = 0
        for layer in (net[0], net[1], net[2]):
            layer.weight.copy_(torch.eye(5))
    assert outputs_of(net) == [2, 2, 2, 5]
    with torch.no_grad():
        net[3].weight.zero_()
    assert outputs_of(net) == [1, 1, 1, 5]


def outputs_of(net: nn.Sequential) -> list[int]:
    found = remove_dead_units(net, torch.zeros(1, net[0].in_features))
    return [layer.out_features for layer in found]


@pytest.mark.parametrize(
    ("padding", "mode", "bias", "left"),
    [
        (0, "zeros", 0.5, 3),
        (1, "zeros", 0.5, 4),  # at the border it is no constant
        (1, "zeros", -0.5, 3),
        (1, "replicate", 0.5, 3),
        ("valid", "zeros", 0.5, 3),
        ("same", "zeros", 0.5, 4),
    ],
)
def test_a_constant_goes_into_the_bias_only_where_it_is_one_at_the_border(
    padding: int | str, mode: str, bias: float, left: int
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=padding, padding_mode=mode)
    )
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = bias
    found = remove_dead_units(net, torch.zeros(1, 1, 5, 5))
    assert found[0].out_channels == left
    x = torch.randn(2, 1, 5, 5)
    assert torch.allclose(found(x).detach(), net(x).detach(), atol=1e-6)


def test_what_normalisation_over_units_mixes_stays() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)).double()
    with torch.no_grad():
        net[0].weight[0] = 0
        net[2].weight[:, 1] = 0
    assert remove_dead_units(net, torch.zeros(1, 4, dtype=torch.float64))[0].out_features == 6


def test_a_layer_that_is_called_twice_keeps_what_differs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.both = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.both(self.one(x)) * self.both(self.two(x))

    net = Twice()
    with torch.no_grad():
        for layer in (net.one, net.two):
            layer.weight[:2] = 0
            layer.bias[0] = 0
    assert remove_dead_units(net, torch.zeros(1, 4)).both.in_features == 4


def test_maps_are_baked_and_the_mode_stays() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 3] = False
    put_map_(net[2], "weight", Mask(mask))
    found = remove_dead_units(net.train(), torch.zeros(1, 4))
    assert (found[0].out_features, found.training) == (5, True)
    assert not remove_dead_units(net.eval(), torch.zeros(1, 4)).training


def test_in_a_chain_it_follows_pruning(clouds: TrainingTask) -> None:
    prune = MagnitudePruning(
        by="layer", targets=(0.9,), retrain=TrainSettings(epochs=1, learning_rate=0.01)
    )
    told: list[str] = []
    found = Chain(methods=(prune, DeadUnits())).apply(clouds, progress=told.append)
    pruned = prune.apply(clouds)
    assert found[0].out_features < 24
    assert told[-1] == f"dead units: {24 - found[0].out_features} of 24 removed"
    x = torch.randn(5, 12)
    assert torch.allclose(found(x), pruned(x), atol=1e-5)
    untouched = DeadUnits().apply(replace(clouds, model=found))
    assert untouched[0].out_features == found[0].out_features
