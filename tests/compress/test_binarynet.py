"""BinaryNet: one bit for weights and activations, in one order of layers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress import (
    BinaryActivation,
    BinaryNet,
    Chain,
    MagnitudePruning,
    ShiftBatchNorm,
    binary_network,
)
from narrows.compress.binary_order import binary_blocks
from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, ModelError
from narrows.store import load_network, save_network
from narrows.train import TrainingTask, TrainSettings, outputs

TRAINING = TrainSettings(
    epochs=6,
    optimizer="adamw",
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="exponential",
    final_rate=1e-3,
    warmup=0.0,
)
SHIFTS = replace(TRAINING, optimizer="shift_adamax", learning_rate=2**-6, final_rate=2**-9)
METHOD = BinaryNet(training=TRAINING)


def net(width: int = 96) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.Hardtanh()),
        *(nn.Linear(width, 3), nn.BatchNorm1d(3)),
    )


@pytest.fixture
def task(clouds: TrainingTask) -> TrainingTask:
    return replace(clouds, model=net())


def accuracy(task: TrainingTask, model: nn.Module) -> float:
    answers, labels = outputs(model, task.choose)
    return float((answers.argmax(1) == labels).mean())


@pytest.mark.parametrize(
    "method",
    [
        METHOD,
        replace(METHOD, training=SHIFTS, norm="shift"),
        replace(METHOD, activations="stochastic"),
        replace(METHOD, loss="task"),
    ],
)
def test_it_learns_with_signs_alone(task: TrainingTask, method: BinaryNet) -> None:
    before = [value.clone() for value in task.model.state_dict().values()]
    found = method.apply(task)
    assert accuracy(task, found) > 0.85
    kinds = [type(found[place]) for place in (1, 2, 5, 6, 8)]
    norm = ShiftBatchNorm if method.norm == "shift" else nn.BatchNorm1d
    assert kinds == [norm, BinaryActivation, norm, BinaryActivation, nn.BatchNorm1d]
    for place in (0, 4, 7):
        assert found[place].weight.unique().tolist() == [-1.0, 1.0]
        assert found[place].bias is None
    assert all(map(torch.equal, before, task.model.state_dict().values()))


def test_it_begins_as_the_network_it_is_given(task: TrainingTask) -> None:
    """Biases go into means; shift normalisation begins where the other stands."""
    model = net()
    with torch.no_grad():
        for place in (1, 5, 8):
            norm = model[place]
            norm.running_mean.normal_()
            norm.running_var.copy_(4.0 ** torch.randint(-2, 3, norm.running_var.shape) - norm.eps)
            norm.weight.copy_(2.0 ** torch.randint(-2, 3, norm.weight.shape))
            norm.bias.normal_()
    x = torch.randn(7, 12)
    wanted = [layer_by_layer(model.eval(), x)[place] for place in (1, 5)]
    replace(METHOD, norm="shift")._rebuild_(model, binary_blocks(model))
    model[2], model[6] = nn.ReLU(), nn.Hardtanh()
    found = layer_by_layer(model.eval(), x)
    assert isinstance(model[1], ShiftBatchNorm)
    for one, other in zip((found[1], found[5]), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("skip", "whole", "shifted"),
    [
        ((), True, {1, 5}),
        (("0",), True, {5}),
        (("7",), True, {1, 5}),
        (("0", "7"), True, {5}),
        (("7",), False, {1, 5}),  # no normalisation at the end
    ],
)
def test_all_hidden_binary_layers_are_normalised_by_shifts(
    skip: tuple[str, ...], whole: bool, shifted: set[int]
) -> None:
    model = net(8) if whole else nn.Sequential(*list(net(8))[:-1])
    replace(METHOD, norm="shift")._rebuild_(model, binary_blocks(model, skip))
    kinds = {place for place, layer in enumerate(model) if isinstance(layer, ShiftBatchNorm)}
    assert kinds == shifted


def layer_by_layer(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    answers = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            answers.append(x)
    return answers


def test_the_first_layer_reads_real_inputs_and_the_others_signs(task: TrainingTask) -> None:
    found, seen = METHOD.apply(task), {}
    for place in (0, 4, 7):
        found[place].register_forward_pre_hook(
            lambda _, inputs, place=place: seen.__setitem__(place, inputs[0])
        )
    found(torch.randn(20, 12))
    assert seen[0].unique().numel() == 240
    assert seen[4].unique().tolist() == seen[7].unique().tolist() == [-1.0, 1.0]


def test_layers_left_real_stay_real(task: TrainingTask) -> None:
    task = replace(task, model=nn.Sequential(*list(net())[:-1]))  # no norm at the end
    found = replace(METHOD, skip=("0", "7")).apply(task)
    assert accuracy(task, found) > 0.85
    assert found[4].weight.unique().numel() == 2
    assert found[4].bias is None
    assert isinstance(found[2], BinaryActivation)  # the binary layer reads it
    assert isinstance(found[6], nn.Hardtanh)  # a real layer reads it
    for place in (0, 7):
        assert found[place].weight.unique().numel() > 100
        assert found[place].bias is not None


def test_what_was_pruned_stays_zero_and_is_no_matter_for_xnor(task: TrainingTask) -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.02)
    pruning = MagnitudePruning(by="layer", targets=(0.5,), retrain=settings)
    sparse = pruning.apply(task)
    found = Chain(methods=(pruning, METHOD)).apply(task)
    for place in (0, 4, 7):
        assert torch.equal(found[place].weight == 0, sparse[place].weight == 0)
        assert found[place].weight.unique().tolist() == [-1.0, 0.0, 1.0]
    with pytest.raises(ModelError, match=r"layer '0' has 576 zeros .* XNOR knows \+1 and −1"):
        binary_network(found, (12,), scale=1.0)


@pytest.mark.parametrize("method", [METHOD, replace(METHOD, training=SHIFTS, norm="shift")])
def test_stopped_anywhere_it_ends_with_the_same_bits(
    task: TrainingTask, tmp_path: Path, method: BinaryNet
) -> None:
    method = replace(method, activations="stochastic", training=replace(method.training, epochs=3))
    stop_at("epoch 2 of 3", method, task, tmp_path)
    told: list[str] = []
    again = method.apply(task, folder=tmp_path, progress=told.append)
    assert same(again, method.apply(task))
    assert len(told) == 1
    assert from_dict(BinaryNet, to_dict(method)) == method


def test_it_is_stored(task: TrainingTask, tmp_path: Path) -> None:
    once = replace(METHOD, training=replace(SHIFTS, epochs=1), norm="shift")
    found, x = once.apply(task), torch.randn(9, 12)
    save_network(found, tmp_path / "net")
    assert np.allclose(load_network(tmp_path / "net")(x).detach(), found(x).detach(), atol=0)


class Residual(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU()
        self.last, self.end = nn.Linear(12, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.last(x + self.act(self.norm(self.first(x)))))


class Functional(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.norm(self.first(x))))


class Flattening(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.norm(self.first(x)), start_dim=1, end_dim=2)


def norm(count: int = 4) -> nn.Module:
    return nn.BatchNorm2d(count)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no normalisation before the activation": (
        lambda: nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.BatchNorm1d(3)),
        "layer '1': it activates sums: put a normalisation before it",
    ),
    "no activation before a layer": (
        lambda: nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)),
        "layer '2': it reads normalised values, not signs",
    ),
    "no normalisation between layers": (
        lambda: nn.Sequential(nn.Linear(12, 3), nn.Linear(3, 3)),
        "layer '1': it reads sums, not signs",
    ),
    "none at the end": (
        lambda: nn.Sequential(*list(net())[:-1]),
        "layer '7': the last one has no normalisation",
    ),
    "an activation at the end": (
        lambda: nn.Sequential(*net(), nn.ReLU()),
        "layer '9': the network ends with it: leave this activation out",
    ),
    "a maximum after the activation": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), norm(), nn.ReLU(), nn.MaxPool2d(2)),
        "layer '3': it takes the maximum of signs: put it between",
    ),
    "two maxima": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2), norm()),
        "layer '2': it is a second maximum",
    ),
    "a mean": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), norm(), nn.ReLU(), nn.AvgPool2d(2)),
        "layer '3': it is a AvgPool2d: binary networks have",
    ),
    "two normalisations": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), norm(), norm()),
        "layer '2': it normalises normalised values",
    ),
    "a normalised input": (
        lambda: nn.Sequential(norm(1), nn.Conv2d(1, 4, 3), norm()),
        "layer '0': it normalises the input",
    ),
    "no running means": (
        lambda: nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3, track_running_stats=False)),
        "layer '1': it keeps no running means",
    ),
    "a recurrent layer": (
        lambda: nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.LSTM(3, 3)),
        "layer '3': it is a LSTM",
    ),
    "an addition": (Residual, "layer 'add': it reads more"),
    "a function": (Functional, "layer 'relu': relu is called as a function: make it a layer"),
    "a linear layer along an axis of pictures": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3), norm(), nn.ReLU(), nn.Linear(4, 4), norm()),
        ),
        "layer '3': it is linear along the last axis of pictures: put nn.Flatten before it",
    ),
    "flattening of some axes": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), norm(), nn.ReLU(), nn.Flatten(2)),
        "layer '3': it flattens axes 2 to -1: flatten all but the first",
    ),
    "flattening of some axes by a function": (Flattening, "layer 'flatten': .* axes 1 to 2"),
    "normalisation of each position": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.BatchNorm1d(16)),
        "layer '2': it normalises 16 values, layer '0' has 4 outputs",
    ),
    "normalisation of pictures after a linear layer": (
        lambda: nn.Sequential(nn.Linear(12, 4), norm()),
        "layer '1': it is a BatchNorm2d after the linear layer '0'",
    ),
    "nothing to make binary": (lambda: nn.Sequential(nn.ReLU()), "no .* layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_order_is_refused_by_the_name_of_the_layer(task: TrainingTask, name: str) -> None:
    build, words = REFUSED[name]
    with pytest.raises(ModelError, match=words):
        METHOD.apply(replace(task, model=build()))


@pytest.mark.parametrize(("place", "name"), [(1, "running_var"), (5, "weight"), (7, "bias")])
def test_what_is_not_finite_is_refused_by_name(task: TrainingTask, place: int, name: str) -> None:
    model = net(8)
    with torch.no_grad():
        getattr(model[place], name)[0] = torch.nan
    with pytest.raises(ModelError, match=rf"'{place}\.{name}' is not finite"):
        METHOD.apply(replace(task, model=model))


def test_settings_without_meaning_are_refused(task: TrainingTask) -> None:
    for change in ({"activations": "both"}, {"norm": "layer"}, {"init": "zero"}, {"loss": "l2"}):
        with pytest.raises(ConfigError, match="expected one of"):
            replace(METHOD, **change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no layer is named 'nowhere'"):
        replace(METHOD, skip=("nowhere",)).apply(task)
    plain = nn.Sequential(
        *(nn.Linear(12, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU()),
        *(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    )
    with pytest.raises(ModelError, match="layer '1' has no momentum or no factors"):
        replace(METHOD, norm="shift").apply(replace(task, model=plain))
