"""Layers get the bits their loss is worth, within the budget, and lie on their grids."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import nn

from narrows.compress import Chain, MagnitudePruning, MixedPrecision
from narrows.compress.catalog import method_of
from narrows.compress.kept_scores import KeptScores
from narrows.errors import ConfigError, ModelError, TaskError
from narrows.train import TrainingTask, TrainSettings, score

FINETUNE = TrainSettings(epochs=2, learning_rate=0.01, schedule="constant", weight_decay=0.0)
AFFINE = MixedPrecision(rate=6.5)
CODEBOOK = MixedPrecision(rate=5.0, quantizer="codebook")


def numbers(model: nn.Module, place: int) -> np.ndarray:
    return model[place].weight.detach().numpy()


def mean_loss(task: TrainingTask, model: nn.Module, batches: int = 8) -> float:
    with torch.no_grad():
        losses = [task.loss(model.eval(), x, y) for x, y in task.choose.batches(0)][:batches]
    return float(torch.cat(losses).mean())


def naive_affine(weight: np.ndarray, bits: int) -> np.ndarray:
    """Row by row, from the definition."""
    made = np.zeros_like(weight)
    for place, row in enumerate(weight):
        low, high = min(row.min(), 0.0), max(row.max(), 0.0)
        scale = np.float32((np.float64(high) - low) / (2**bits - 1)) or np.float32(1)
        half = 2 ** (bits - 1)
        zero = np.clip(np.rint(-half - low / np.float64(scale)), -half, half - 1)
        q = np.clip(np.floor(row / scale + np.float32(0.5)) + zero, -half, half - 1)
        made[place] = ((q - zero) * scale).astype(np.float32)
    return made


def test_losses_are_those_of_one_layer_in_few_bits(clouds: TrainingTask, tmp_path: Path) -> None:
    AFFINE.apply(clouds, folder=tmp_path)
    kept = json.loads((tmp_path / "losses.json").read_text())
    assert kept["whole"] == pytest.approx(mean_loss(clouds, clouds.model))
    for place, bits in ((0, 2), (3, 2), (0, 4)):
        model = copy.deepcopy(clouds.model)
        with torch.no_grad():
            model[place].weight.copy_(torch.from_numpy(naive_affine(numbers(model, place), bits)))
        assert kept[f"{place} {bits}"] == pytest.approx(mean_loss(clouds, model), rel=1e-3)
    assert len(kept) == 1 + 2 * 6


@pytest.mark.parametrize("method", [AFFINE, CODEBOOK], ids=["affine", "codebook"])
@pytest.mark.parametrize("allocation", ["greedy", "lagrangian"])
def test_the_budget_is_kept_and_weights_lie_on_their_grids(
    clouds: TrainingTask, method: MixedPrecision, allocation: str
) -> None:
    told: list[str] = []
    before = copy.deepcopy(clouds.model.state_dict())
    asked = replace(method, allocation=allocation, finetune=FINETUNE)
    found = asked.apply(clouds, progress=told.append)
    line = next(line for line in told if " bits a weight: " in line)
    said, given = line.removeprefix("mixed precision: ").split(" bits a weight: ")
    bits = {int(part.split()[0]): int(part.split()[1]) for part in given.split(", ")}
    size = 0.0
    for place, count in bits.items():
        weight = numbers(found, place)
        if method is AFFINE:
            assert max(len(np.unique(row)) for row in weight) <= 2**count
            size += count * weight.size + len(weight) * (32 + count)
        else:
            assert len(np.unique(weight)) <= 2**count
            size += count * weight.size + 32 * 2**count
    assert float(said) == pytest.approx(size / 360, abs=1e-3)
    assert size / 360 <= asked.rate
    assert all(torch.equal(before[key], value) for key, value in clouds.model.state_dict().items())
    assert list(found.state_dict()) == list(before)
    assert not torch.equal(found[0].bias, clouds.model[0].bias)
    assert score(clouds, found) > score(clouds, clouds.model) - 0.1


def test_no_uniform_width_that_fits_loses_less_in_sum(clouds: TrainingTask, tmp_path: Path) -> None:
    for rate in (4.2, 5.0, 6.4, 7.7, 9.0):
        told: list[str] = []
        asked = replace(CODEBOOK, rate=rate, bits=(2, 3, 4, 5, 6))
        asked.apply(clouds, folder=tmp_path / str(rate), progress=told.append)
        kept = json.loads((tmp_path / str(rate) / "losses.json").read_text())
        pairs = [part.split() for part in told[-1].partition(" bits a weight: ")[2].split(", ")]
        taken = {name: int(bits) for name, bits in pairs}

        def rise(name: str, bits: int, kept: dict[str, float] = kept) -> float:
            """No less than with more bits: what rises in between is noise."""
            return max(max(0, kept[f"{name} {b}"] - kept["whole"]) for b in range(bits, 7))

        lost = sum(rise(name, bits) for name, bits in taken.items())
        for bits in asked.bits:
            size = sum(n * bits + 32 * 2**bits for n in (288, 72))
            assert size > rate * 360 or lost <= rise("0", bits) + rise("3", bits) + 1e-9
    assert len(set(taken.values())) > 1


@pytest.mark.parametrize("method", [AFFINE, CODEBOOK], ids=["affine", "codebook"])
def test_zeros_of_a_pruning_before_stay(clouds: TrainingTask, method: MixedPrecision) -> None:
    pruning = MagnitudePruning(by="layer", targets=(0.5,), retrain=replace(FINETUNE, epochs=1))
    pruned = pruning.apply(clouds)
    for tuning in (None, FINETUNE):
        found = Chain(methods=(pruning, replace(method, finetune=tuning))).apply(clouds)
        for place in (0, 3):
            zero = numbers(pruned, place) == 0
            assert not numbers(found, place)[zero].any()
            assert (numbers(found, place) != 0).sum() > 0.7 * (~zero).sum()


@pytest.mark.parametrize("method", [AFFINE, CODEBOOK], ids=["affine", "codebook"])
def test_stopped_and_taken_up_again_it_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, method: MixedPrecision
) -> None:
    asked = replace(method, finetune=FINETUNE)
    whole = asked.apply(clouds)
    stop_at("mixed precision: 0", asked, clouds, tmp_path)
    stop_at("fine-tuning: epoch 1", asked, clouds, tmp_path)
    assert same(whole, asked.apply(clouds, folder=tmp_path))


def test_skipped_layers_stay_and_are_not_counted(clouds: TrainingTask) -> None:
    found = MixedPrecision(rate=3.0, quantizer="codebook", skip=("3",)).apply(clouds)
    assert np.array_equal(numbers(found, 3), numbers(clouds.model, 3))
    assert len(np.unique(numbers(found, 0))) <= 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"bits": ()}, "bits are"),
        ({"bits": (4, 2)}, "rising"),
        ({"bits": (1, 2)}, "from 2 to 8"),
        ({"bits": (2, 9)}, "from 2 to 8"),
        ({"bits": (2, 17), "quantizer": "codebook"}, "from 2 to 16"),
        ({"quantizer": "sign"}, "quantizer is 'sign'"),
        ({"allocation": "random"}, "allocation 'random'"),
        ({"batches": 0}, "batches 0"),
    ],
)
def test_settings_without_sense_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixedPrecision(**({"rate": 4.0} | changed))


def test_what_cannot_be_met_or_quantized_is_told(clouds: TrainingTask) -> None:
    with pytest.raises(ConfigError, match="is below the"):
        MixedPrecision(rate=2.0).apply(clouds)
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="weights of '3' are not all finite"):
        AFFINE.apply(replace(clouds, model=model))


def test_a_network_whose_loss_is_not_finite_is_refused(clouds: TrainingTask) -> None:
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[3].bias[0] = torch.nan
    with pytest.raises(ModelError, match="the loss on the choose set is nan before a weight"):
        MixedPrecision(rate=8.0, bits=(2, 4, 8)).apply(replace(clouds, model=model))


class Fragile:
    """A loss that is not finite where a layer has few distinct weights."""

    def __init__(self, task: TrainingTask, place: int, fewest: int, value: float) -> None:
        self.loss, self.place, self.fewest, self.value = task.loss, place, fewest, value

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found = self.loss(model, x, y)
        broken = len(model[self.place].weight.unique()) < self.fewest
        return torch.full_like(found, self.value) if broken else found


@pytest.mark.parametrize("allocation", ["greedy", "lagrangian"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_bits_at_which_the_loss_is_not_finite_are_not_taken(
    clouds: TrainingTask, value: float, allocation: str
) -> None:
    asked = replace(CODEBOOK, bits=(2, 3, 4, 5), allocation=allocation)
    for place, rate in ((0, 5.5), (3, 6.0)):
        task = replace(clouds, loss=Fragile(clouds, place, 9, value))
        found = replace(asked, rate=rate).apply(task)
        assert len(np.unique(numbers(found, place))) > 8
    fragile = replace(clouds, loss=Fragile(clouds, 0, 33, value))
    with pytest.raises(ModelError, match="not finite with 5 bits for '0': skip it"):
        asked.apply(fragile)
    fragile = replace(clouds, loss=Fragile(clouds, 0, 17, value))
    with pytest.raises(ConfigError, match=r"rate 4\.2 leaves . bits for '0'"):
        replace(asked, rate=4.2).apply(fragile)


@pytest.mark.parametrize(
    "content", ['{"whole": 1' + "0" * 400 + "}", '{"whole": ' + "[" * 100_000, "[]", '{"a": []}']
)
def test_a_file_of_losses_that_is_none_is_refused(
    clouds: TrainingTask, tmp_path: Path, content: str
) -> None:
    (tmp_path / "losses.json").write_text(content)
    with pytest.raises(TaskError, match="cannot be read: remove it"):
        KeptScores(tmp_path, "losses.json")


def test_a_line_says_it() -> None:
    assert method_of("mixed_precision:rate=4,bits=[2,4,8],quantizer=codebook,batches=none") == (
        MixedPrecision(rate=4.0, bits=(2, 4, 8), quantizer="codebook", batches=None)
    )
