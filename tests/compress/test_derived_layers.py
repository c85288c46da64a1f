"""Layers that libraries derive from torch.nn's: whole in the graph, and removals stay exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress import find_units, remove_units
from narrows.errors import ModelError


class SamePadding(nn.Conv2d):  # type: ignore[misc]
    """Pads by what the input's size asks for, as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        wanted = max((-(-x.shape[-1] // self.stride[0]) - 1) * self.stride[0] + 3 - x.shape[-1], 0)
        if wanted:
            x = functional.pad(x, (wanted // 2, wanted - wanted // 2) * 2)
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class WithActivation(nn.BatchNorm2d):  # type: ignore[misc]
    """Normalises by the function, and then activates."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        x = functional.batch_norm(x, mean, variance, self.weight, self.bias, training=self.training)
        return functional.relu6(x)


class Standardised(nn.Conv2d):  # type: ignore[misc]
    """Its weights depend on all its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, self.weight - mean, self.bias)


def test_units_go_through_them() -> None:
    net = nn.Sequential(
        SamePadding(3, 8, 3, stride=2),
        WithActivation(8),
        SamePadding(8, 8, 3, groups=8),
        WithActivation(8),
        nn.Conv2d(8, 6, 1),
        nn.Flatten(),
        nn.Linear(6 * 25, 4),
    )
    x = torch.zeros(1, 3, 9, 9)
    assert [group.name for group in find_units(net, x).groups] == ["0", "4"]
    smaller = remove_units(net, x, {"0": [0, 3, 5], "4": [1, 2]})  # checked inside
    assert [smaller[i].weight.shape[0] for i in (0, 1, 2, 3)] == [3, 3, 3, 3]
    assert isinstance(smaller[0], SamePadding)
    assert isinstance(smaller[1], WithActivation)


def test_one_whose_weights_depend_on_each_other_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Standardised(8, 6, 1), nn.Flatten(), nn.Linear(96, 4))
    with pytest.raises(ModelError, match="otherwise"):
        remove_units(net, torch.zeros(1, 3, 4, 4), {"0": [0, 3, 5]})
