"""Where torch-pruning is right, it and narrows leave the same network.

Sizes and answers were written down from torch-pruning 1.6.1 (`get_pruning_group(...).prune()` on
the same channels, in float64), which need not be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest
import test_units_exact as patterns
import torch
from torch import nn

from narrows.compress.removal import remove_units
from narrows.compress.units import find_units

ORACLE: Final[Mapping[str, tuple[Mapping[str, set[int]], int, list[float]]]] = {
    "residual": (
        {"a": {1, 4, 7}, "b": {0, 5}},
        543,
        [-0.018554535496174834, -0.6290375592925119, -0.25571450022543796, 0.4246019574415997],
    ),
    "concatenation": (
        {"a": {2}, "b": {0, 4}, "c": {1, 3}},
        514,
        [0.28914865683149416, -0.16589115731061269, -0.10405776960160233, 0.12374861634854967],
    ),
    "depthwise, multiplier 1": (
        {"0": {0, 3, 6}, "6": {2}},
        360,
        [-0.060251840385894345, 0.20094382882903, -0.18916919855800005],
    ),
    "squeeze and excite": (
        {"a": {0, 1, 5}, "down": {3}, "b": {1, 2}},
        489,
        [0.2590124548805848, -0.19959738660662824, -0.012317858712014684],
    ),
}


def filled(network: nn.Module) -> nn.Module:
    """The same weights everywhere, whatever random numbers are."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64) + number
            parameter.copy_((0.3 * torch.sin(1.7 * places)).reshape(parameter.shape))
    return network.double().eval()


@pytest.mark.parametrize("name", ORACLE)
def test_network_is_the_one_torch_pruning_leaves(name: str) -> None:
    removed, parameters, answers = ORACLE[name]
    network = filled(patterns.NETWORKS[name]())
    x = torch.cos(torch.arange(3 * patterns.H**2, dtype=torch.float64))
    x = x.reshape(1, 3, patterns.H, patterns.H)
    keep = {
        group.name: sorted(set(range(group.size)) - removed.get(group.name, set()))
        for group in find_units(network, x).groups
    }
    smaller = remove_units(network, x, keep)
    assert sum(parameter.numel() for parameter in smaller.parameters()) == parameters
    assert smaller(x).flatten().tolist() == pytest.approx(answers, rel=1e-9)
