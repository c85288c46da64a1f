"""Layers that bfloat16 would make wrong take float32, and only while a network is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.task import array_task
from narrows.train import TrainSettings, train, training_task
from narrows.train.precision import only_right_in_bf16


class Broken(nn.Conv2d):
    """Wrong whenever it is asked in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return torch.ones_like(found) if torch.is_autocast_enabled("cpu") else found


def test_a_layer_that_is_wrong_in_bf16_takes_float32_and_no_other() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Broken(4, 5, 3)).train()
    model[0].register_buffer("untouched", torch.zeros(1))
    x = torch.randn(2, 3, 8, 8)
    with only_right_in_bf16(model, x[:1]) as exact, torch.autocast("cpu", torch.bfloat16):
        assert exact == ("1",)
        middle = model[0](x)
        found = model[1](middle)
    assert middle.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model[1](middle.float()))
    assert "forward" not in vars(model[1])
    assert model.training


@pytest.mark.parametrize("channels", [8, 12, 60])
def test_convolutions_that_some_processors_compute_wrongly_are_right(channels: int) -> None:
    model = nn.Conv3d(channels, 14, (1, 2, 8))
    x = torch.randn(16, channels, 5, 3, 11)
    wanted = model(x)
    with only_right_in_bf16(model, x[:1]), torch.autocast("cpu", torch.bfloat16):
        found = model(x).float()
    assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_training_in_bf16_reaches_the_weights_of_a_layer_that_is_wrong_in_it() -> None:
    rng = np.random.default_rng(0)
    task = array_task("noise", rng.random((64, 2, 6, 6), dtype=np.float32), np.arange(64) % 2)
    model = nn.Sequential(Broken(2, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    asked = training_task(task, model, batch_size=4)
    settings = TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0, precision="bf16")
    trained = train(asked, settings, device="cpu")
    assert not torch.equal(trained.model[0].weight, model[0].weight)
