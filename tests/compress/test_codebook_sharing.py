"""Weights are values of their codebooks, centres learn sums of gradients, zeros stay."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn

from narrows.coding.quantizers import Codebook, Product, Residual
from narrows.compress import Chain, CodebookSharing, MagnitudePruning, weight_layers
from narrows.compress.catalog import method_of
from narrows.compress.weight_grids import put_shared_
from narrows.compress.weight_maps import bake, maps_in
from narrows.errors import ConfigError, ModelError
from narrows.store import load_network, save_network
from narrows.train import TrainingTask, TrainSettings, score

FINETUNE = TrainSettings(epochs=2, learning_rate=1e-3, schedule="constant", weight_decay=0.0)
KINDS = {
    "kmeans": CodebookSharing(levels=8),
    "product": CodebookSharing(kind="product", levels=6, length=3),
    "residual": CodebookSharing(kind="residual", levels=3, stages=3),
}


def numbers(model: nn.Module, place: int = 0) -> np.ndarray:
    return model[place].weight.detach().numpy()


# Figure 3 of Deep Compression: weights, their gradients, and the centres after a step of rate 1.
WEIGHTS = [
    [2.09, -0.98, 1.48, 0.09],
    [0.05, -0.14, -1.08, 2.12],
    [-0.91, 1.92, 0.0, -1.03],
    [1.87, 0.0, 1.53, 1.49],
]
GRADIENTS = [
    [-0.03, -0.01, 0.03, 0.02],
    [-0.01, 0.01, -0.02, 0.12],
    [-0.01, 0.02, 0.04, 0.01],
    [-0.07, -0.02, 0.01, -0.02],
]


def test_the_gradient_of_a_centre_is_the_sum_of_its_members() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(WEIGHTS) + 1e-9)  # its zeros are no pruned ones
    (layer,) = weight_layers(model)
    with torch.no_grad():
        model[0].weight[model[0].weight == 0] = 1e-9
    put_shared_(model, layer, Codebook(levels=4))
    (_, _, made), *others = maps_in(model)
    assert not others
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    (model[0].weight * torch.tensor(GRADIENTS)).sum().backward()
    assert made.centres.grad.tolist() == pytest.approx([-0.03, 0.04, 0.02, 0.04])
    optimizer.step()
    assert made.centres.tolist() == pytest.approx([-0.97, -0.04, 1.48, 1.96])
    assert sorted(set(model[0].weight.flatten().tolist())) == made.centres.tolist()


@pytest.mark.parametrize(
    "quantizer",
    [Codebook(levels=5), Product(levels=4, length=3), Residual(levels=3, stages=2)],
    ids=repr,
)
@pytest.mark.parametrize("across", [False, True])
def test_gradients_of_all_kinds_are_sums_over_where_a_centre_is_used(
    quantizer: Codebook | Product | Residual, across: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 10, (1, 2), bias=False))
    (layer,) = weight_layers(model)
    weight = layer.value(model).clone()
    put_shared_(model, layer, quantizer, across=across)
    ((_, _, made),) = maps_in(model)
    gradient = torch.randn(weight.shape)
    (model[0].weight * gradient).sum().backward()
    flat = gradient.reshape(10, 8).numpy()
    flat = flat.T if across else flat
    expected = np.zeros(made.centres.shape)
    symbols = made.symbols.numpy()
    zero = made.centres.detach().abs().argmin()
    for row, column in np.ndindex(flat.shape):
        if quantizer.name == "codebook":
            expected[symbols[row, column] + zero] += flat[row, column]
        elif quantizer.name == "product":
            piece, place = divmod(column, 3)
            expected[piece, symbols[row, piece], place] += flat[row, column]
        else:
            for stage in range(2):
                expected[stage, symbols[row, stage], column] += flat[row, column]
    assert made.centres.grad.numpy() == pytest.approx(expected, abs=1e-5)
    assert model[0].parametrizations.weight.original.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_exactly_values_of_the_codebooks(clouds: TrainingTask, kind: str) -> None:
    method = replace(KINDS[kind], finetune=FINETUNE)
    before = copy.deepcopy(clouds.model.state_dict())
    for asked in (KINDS[kind], method):
        told: list[str] = []
        found = asked.apply(clouds, progress=told.append)
        assert told[0].startswith("codebooks: 0: ")
        assert "bits a weight, off by" in told[0]
        assert list(found.state_dict()) == list(before)
        assert not found.training
        assert all(p.requires_grad for p in found.parameters())
        for place in (0, 3):
            weight = numbers(found, place)
            if kind == "kmeans":
                assert len(np.unique(weight)) <= 8
            elif kind == "product":
                for first in range(0, weight.shape[1], 3):
                    assert len(np.unique(weight[:, first : first + 3], axis=0)) <= 6
            else:
                assert len(np.unique(weight, axis=0)) <= 27
    assert all(torch.equal(before[key], value) for key, value in clouds.model.state_dict().items())


def test_a_layer_has_its_own_levels_and_one_that_is_skipped_none(clouds: TrainingTask) -> None:
    found = CodebookSharing(levels=4, layers={"3": 16}).apply(clouds)
    assert [len(np.unique(numbers(found, place))) for place in (0, 3)] == [4, 16]
    found = CodebookSharing(levels=4, skip=("3",)).apply(clouds)
    assert np.array_equal(numbers(found, 3), numbers(clouds.model, 3))


def test_training_centres_brings_the_score_back(clouds: TrainingTask) -> None:
    few = CodebookSharing(levels=2)
    plain, tuned = (
        method.apply(clouds)
        for method in (few, replace(few, finetune=replace(FINETUNE, epochs=6, learning_rate=3e-3)))
    )
    loss = [
        float(
            torch.cat([clouds.loss(m, x, y).detach() for x, y in clouds.choose.batches(0)]).mean()
        )
        for m in (plain, tuned)
    ]
    assert loss[1] < loss[0]
    assert score(clouds, tuned) >= score(clouds, plain)
    assert not np.array_equal(np.unique(numbers(plain)), np.unique(numbers(tuned)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reserve_zero", [False, True])
def test_zeros_of_a_pruning_before_stay_and_are_no_members(
    clouds: TrainingTask, kind: str, reserve_zero: bool
) -> None:
    pruning = MagnitudePruning(by="layer", targets=(0.6,), retrain=replace(FINETUNE, epochs=1))
    sharing = replace(
        KINDS[kind], levels=4, finetune=FINETUNE, reserve_zero=reserve_zero, skip=("3",)
    )
    pruned = pruning.apply(clouds)
    found = Chain(methods=(pruning, sharing)).apply(clouds)
    for place in (0, 3):
        assert np.array_equal(numbers(found, place) == 0, numbers(pruned, place) == 0)
    assert not np.array_equal(numbers(found, 3), numbers(pruned, 3))
    if kind == "kmeans":
        left = numbers(found)[numbers(found) != 0]
        assert len(np.unique(left)) == 4 - reserve_zero


def test_centres_are_those_of_what_is_left(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[0].weight[:20] = 0
        model[0].weight[20:] = torch.tensor([1.0, 1.5, 4.0]).repeat(4, 4)
    found = CodebookSharing(levels=2, skip=("3",)).apply(replace(clouds, model=model))
    assert np.unique(numbers(found)).tolist() == [0.0, 1.25, 4.0]


def test_zeros_may_be_weights_as_others_are(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[0].weight[0] = 0
    for kind in KINDS.values():
        method = replace(kind, keep_zeros=False, reserve_zero=True, finetune=FINETUNE)
        found = method.apply(replace(clouds, model=model))
        assert numbers(found)[0].any()
        assert method.weight_bits(model) == kind.weight_bits(clouds.model)


def test_bits_are_those_of_symbols_and_codebooks(clouds: TrainingTask) -> None:
    assert CodebookSharing(levels=4).weight_bits(clouds.model) == {
        "0": 2 * 288 + 4 * 32,
        "3": 2 * 72 + 4 * 32,
    }
    product = CodebookSharing(kind="product", levels=16, length=2)
    assert product.weight_bits(clouds.model)["0"] == 24 * 6 * 4 + 16 * 12 * 32
    turned = replace(product, samples="columns").weight_bits(clouds.model)
    assert turned["0"] == pytest.approx(12 * 12 * np.log2(12) + 12 * 24 * 32)
    longer = replace(product, samples="longer").weight_bits(clouds.model)
    assert longer["0"] == product.weight_bits(clouds.model)["0"]
    assert longer["3"] == turned["3"]
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[0].weight[:12] = 0
    assert CodebookSharing(levels=4).weight_bits(model)["0"] == 2 * 144 + 4 * 32
    dense = CodebookSharing(levels=4, reserve_zero=True).weight_bits(model)
    assert dense == {"0": 2 * 288 + 3 * 32, "3": 2 * 72 + 4 * 32}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_taken_up_again_it_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, kind: str
) -> None:
    method = replace(KINDS[kind], finetune=replace(FINETUNE, epochs=3))
    whole = method.apply(clouds)
    stop_at("training of centres: epoch 2", method, clouds, tmp_path)
    assert same(whole, method.apply(clouds, folder=tmp_path))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(-1, 4, 3))[0][:, -1])


def test_recurrent_layers_share_weights_too(clouds: TrainingTask) -> None:
    torch.manual_seed(0)
    found = CodebookSharing(levels=4, finetune=FINETUNE).apply(replace(clouds, model=Recurrent()))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert len(getattr(found.rnn, name).unique()) == 4
    assert len(found.rnn.bias_ih_l0.unique()) == 24


def test_what_is_shared_is_stored_and_loaded(clouds: TrainingTask, tmp_path: Path) -> None:
    found = CodebookSharing(levels=4).apply(clouds)
    save_network(found, tmp_path / "shared.safetensors")
    again = load_network(tmp_path / "shared.safetensors")
    assert torch.equal(found(clouds.example), again(clouds.example))


def test_a_frozen_layer_keeps_its_centres(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    model[0].weight.requires_grad_(False)
    task = replace(clouds, model=model)
    plain, tuned = (
        CodebookSharing(levels=4, finetune=tuning).apply(task) for tuning in (None, FINETUNE)
    )
    assert np.array_equal(numbers(plain), numbers(tuned))
    assert [p.requires_grad for p in tuned.parameters()] == [False, True, True, True]


def test_baked_maps_leave_a_plain_network(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    for layer in weight_layers(model):
        put_shared_(model, layer, Codebook(levels=3))
    plain = bake(model)
    assert torch.equal(model.eval()(clouds.example), plain.eval()(clouds.example))
    assert not list(maps_in(plain))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "binary"}, "kind is 'binary'"),
        ({"samples": "diagonals"}, "samples is 'diagonals'"),
        ({"levels": 1}, "levels 1"),
        ({"levels": 4.5}, r"levels 4\.5 asked for: expected a whole number"),
        ({"layers": {"0": 2**17}}, "levels 131072"),
        ({"levels": 2, "reserve_zero": True}, "levels 1"),
        ({"start": "middle"}, "'middle'"),
        ({"kind": "product", "length": 0}, "length 0"),
        ({"kind": "residual", "stages": 0}, "stages 0"),
    ],
)
def test_settings_without_sense_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodebookSharing(**changed)


def test_layers_that_cannot_share_are_named(clouds: TrainingTask) -> None:
    with pytest.raises(ModelError, match="no layer is named 'fc1'"):
        CodebookSharing(layers={"fc1": 4}).apply(clouds)
    for wrong in (torch.nan, torch.inf):
        model = copy.deepcopy(clouds.model)
        with torch.no_grad():
            model[3].weight[0, 0] = wrong
        with pytest.raises(ModelError, match="weights of '3' are not all finite"):
            CodebookSharing().apply(replace(clouds, model=model))
    with pytest.raises(ModelError, match="no linear, convolutional"):
        CodebookSharing().apply(replace(clouds, model=nn.Identity()))


def test_a_line_says_it() -> None:
    line = "codebooks:levels=32,layers.conv1=256,finetune.epochs=3,finetune.learning_rate=0.001"
    assert method_of(line) == CodebookSharing(
        levels=32,
        layers={"conv1": 256},
        finetune=TrainSettings(epochs=3, learning_rate=0.001),
    )
