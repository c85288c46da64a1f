"""Layers that bfloat16 would make wrong take float32, and only while a network is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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
