"""What was made smaller once is made smaller again, with the same result as in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import test_units_exact as patterns
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress.costs import UnitCosts
from narrows.compress.removal import remove_units
from narrows.compress.units import Units, find, find_units


class Normed(nn.Module):
    """Layer normalisation as a function, its weights the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.scale, self.shift = nn.Parameter(torch.ones(12)), nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(self.a(x.mean(1)), (12,), self.scale, self.shift, 1e-3)
        return self.head(torch.tanh(self.b(torch.relu(x)))).mean(1)


class ActiveNorm(nn.BatchNorm2d):
    """Batch normalisation with an activation, as libraries have it."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        y = functional.batch_norm(x, mean, variance, self.weight, self.bias, self.training)
        return functional.relu(y)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    name: make for name, make in patterns.NETWORKS.items() if name != "4 groups"
} | {"normed": Normed}


def kept(units: Units, seed: int) -> list[list[int]]:
    """Two thirds of each group, at least two where there are two."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for group in units.groups:
        count = max(2, 2 * group.size // 3)
        stays = set(torch.randperm(group.size, generator=generator)[:count].tolist())
        stays |= {unit for each in group.needed if not stays & set(each) for unit in each[:2]}
        made.append(sorted(stays))
    return made


def named(units: Units, keep: list[list[int]]) -> dict[str, list[int]]:
    return {group.name: stays for group, stays in zip(units.groups, keep, strict=True)}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_removals_are_as_one(name: str) -> None:
    torch.manual_seed(0)
    network, x = NETWORKS[name]().double().eval(), patterns.example().double()
    units = find_units(network, x)
    first = kept(units, 1)
    once = remove_units(network, x, named(units, first))
    again = find_units(once, x)
    assert [group.size for group in again.groups] == [len(stays) for stays in first]
    second = kept(again, 2)
    twice = remove_units(once, x, named(again, second))
    both = [[one[unit] for unit in two] for one, two in zip(first, second, strict=True)]
    direct = remove_units(network, x, named(units, both))
    assert torch.allclose(twice(x), direct(x), rtol=0, atol=1e-12)
    assert [p.numel() for p in twice.parameters()] == [p.numel() for p in direct.parameters()]


def test_kinds_of_batch_norm_stay_what_they_are_and_can_be_trained() -> None:
    torch.manual_seed(0)
    layers = (patterns.conv(3, 8), ActiveNorm(8), patterns.conv(8, 4), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(4 * 36, 3)).train()
    smaller = remove_units(network, patterns.example(), {"0": [1, 4, 6]})
    assert isinstance(smaller[1], ActiveNorm)
    assert smaller[1].num_features == 3
    before = smaller[1].running_mean.clone()
    smaller(patterns.example())
    assert not torch.equal(smaller[1].running_mean, before)


def test_groups_that_have_become_narrow_go_as_a_whole() -> None:
    torch.manual_seed(0)
    network, x = patterns.grouped(4), patterns.example()
    once = remove_units(network, x, {"0": [1, 3]})
    assert once[2].groups == 4
    assert find_units(once, x).groups[0].size == 4
    twice = remove_units(once, x, {"0": [0, 2, 3]})
    assert (twice[2].groups, twice[2].in_channels) == (3, 6)


def test_attention_with_fewer_heads_costs_what_its_weights_do() -> None:
    torch.manual_seed(0)
    network, x = patterns.Attention("module"), patterns.example()
    smaller = remove_units(network, x, {"mha.heads": [0, 2]})
    whole = UnitCosts(network, find(network, x), x, "macs")
    stays = torch.tensor([True, False, True, False])
    left = UnitCosts(smaller, find(smaller, x), x, "macs").whole
    assert left == whole.of({"mha.heads": stays})
