"""Layers become products of two, as small as the score allows."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import nn

from narrows.compress import SparseSep, layer_table
from narrows.compress.factors import separated, sparse_coded
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (5, 3), "stride": (2, 1), "padding": (2, 0), "bias": False},
        {"kernel_size": 3, "dilation": 2, "padding": 2, "padding_mode": "reflect"},
        {"kernel_size": (1, 4)},
    ],
)
def test_a_convolution_of_full_rank_is_exact(settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 7, **settings).double()  # type: ignore[arg-type]
    height, width = conv.kernel_size
    made = separated(conv, min(3 * height, 7 * width))
    x = torch.randn(2, 3, 11, 12, dtype=torch.float64)
    assert torch.allclose(made(x), conv(x), atol=1e-10)


def test_a_lower_rank_is_the_best_there_is_in_least_squares() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=False).double().requires_grad_(False)
    first, second = separated(conv, 5).requires_grad_(False)
    # W[n, c, i, j] = sum over k of H[n, k, j] V[k, c, i]
    made = torch.einsum("nkj,kci->ncij", second.weight[:, :, 0], first.weight[..., 0])
    matrix = conv.weight.permute(1, 2, 3, 0).reshape(12, 18)
    values = torch.linalg.svdvals(matrix)
    error = float((made - conv.weight).square().sum())
    assert error == pytest.approx(float(values[5:].square().sum()), rel=1e-9)
    # Parameters K (kh C + kw N), as the paper counts.
    assert first.weight.numel() + second.weight.numel() == 5 * (3 * 4 + 3 * 6)


def test_a_sparse_code_beats_the_same_number_of_singular_vectors() -> None:
    """Of a weight that is a sparse combination of few atoms, and hardly of low rank."""
    random = np.random.default_rng(0)
    atoms = random.normal(size=(40, 12))
    atoms /= np.linalg.norm(atoms, axis=0)
    code = random.normal(size=(12, 300)) * (random.random((12, 300)) < 0.2)
    layer = nn.Linear(300, 40)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(atoms @ code))
    layer.requires_grad_(False)
    made = sparse_coded(layer, 12, 0.02).requires_grad_(False)
    stored = sum(int(part.weight.count_nonzero()) for part in made)
    error = float((made[1].weight @ made[0].weight - layer.weight).norm() / layer.weight.norm())
    assert error < 0.15
    rank = stored // (300 + 40)
    left, values, right = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    low = (left[:, :rank] * values[:rank]) @ right[:rank]
    assert error < 0.5 * float((low - layer.weight).norm() / layer.weight.norm())
    assert torch.allclose(made[1].weight.norm(dim=0), torch.ones(12), atol=1e-4)
    assert torch.equal(made[1].bias, layer.bias)


def test_more_penalty_leaves_fewer_numbers() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(50, 30)
    counts = [
        int(sparse_coded(layer, 10, penalty)[0].weight.count_nonzero())
        for penalty in (0.01, 0.1, 0.3, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_the_score_stays_within_the_drop_and_less_is_left(clouds: TrainingTask) -> None:
    told: list[str] = []
    found = SparseSep(max_drop=0.05, atoms=(0.2, 0.5)).apply(clouds, progress=told.append)
    assert score(clouds, found) >= score(clouds, clouds.model) - 0.05
    assert layer_table(found, clouds.model).weight_share_left < 0.9
    assert [line.split(":")[1].split(",")[0] for line in told] == [" 0", " 3"]


def test_zeros_stay_zeros_in_fine_tuning_and_a_search_goes_on(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    method = SparseSep(
        max_drop=0.1, atoms=(0.3,), finetune=TrainSettings(epochs=2, learning_rate=0.01)
    )
    stop_at("3, 2 of 2", method, clouds, tmp_path)
    found = method.apply(clouds, folder=tmp_path)
    plain = replace(method, finetune=None).apply(clouds)
    assert torch.equal(found[0][0].weight == 0, plain[0][0].weight == 0)
    assert not torch.equal(found[0][0].weight, plain[0][0].weight)
    assert same(found, method.apply(clouds))


def test_what_cannot_be_replaced_is_refused(clouds: TrainingTask) -> None:
    with pytest.raises(ModelError, match="groups"):
        separated(nn.Conv2d(4, 4, 3, groups=2), 2)
    with pytest.raises(ModelError, match="ranks from 1"):
        separated(nn.Conv2d(4, 4, 3), 13)
    with pytest.raises(ModelError, match="expected 1 to 3"):
        sparse_coded(nn.Linear(5, 3), 4, 0.1)
    with pytest.raises(ConfigError, match="ranks"):
        SparseSep(ranks=())
    with pytest.raises(ModelError, match="no linear layer"):
        SparseSep().apply(replace(clouds, model=nn.Sequential(nn.Identity())))
    with pytest.raises(ModelError, match="no layer is named 'fc': the layers are '0', '3'"):
        SparseSep(skip=("fc",)).apply(clouds)
    broken = copy.deepcopy(clouds.model)
    with torch.no_grad():
        broken[3].weight[1, 2] = math.nan
    with pytest.raises(ModelError, match="weights of '3' are not all finite"):
        SparseSep().apply(replace(clouds, model=broken))
