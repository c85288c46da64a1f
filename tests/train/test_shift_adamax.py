"""Shift-based AdaMax against its rule written out with scalars."""

import math

import pytest
import torch
from torch import nn

from narrows.errors import ConfigError
from narrows.train import TrainSettings
from narrows.train.shift_adamax import ShiftAdaMax, ap2


def naive_ap2(x: float) -> float:
    return math.copysign(2.0 ** round(math.log2(abs(x))), x) if x else 0.0


def test_powers_of_two_next_to_values() -> None:
    x = [0.0, 3.0, -0.3, 1.0, -2.0, 1.4, 1.5, 1e-30]
    assert ap2(torch.tensor(x)).tolist() == pytest.approx([naive_ap2(v) for v in x])
    assert ap2(torch.tensor([0.0, 3.0, -0.3])).tolist() == [0.0, 4.0, -0.25]


def test_steps_are_those_of_the_rule() -> None:
    start, gradients = [0.5, -1.0, 2.0], [[0.3, 0.0, -4.0], [0.1, 0.0, 5.0], [-2.0, 0.0, 0.01]]
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = ShiftAdaMax([weight], lr=2**-6)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    for place, value in enumerate(start):
        w, m, v = value, 0.0, 0.0
        for number, gradient in enumerate(gradients, start=1):
            m = 0.9 * m + 0.1 * gradient[place]
            v = naive_ap2(max(0.999 * v, abs(gradient[place]))) + 2**-27
            w -= naive_ap2(2**-6 / (1 - 0.9**number)) * m / v
        assert weight[place].item() == pytest.approx(w, rel=1e-12)


def test_settings_build_it_and_take_no_weight_decay() -> None:
    settings = TrainSettings(epochs=1, optimizer="shift_adamax", weight_decay=0.0)
    assert isinstance(settings.build(nn.Linear(2, 2)), ShiftAdaMax)
    with pytest.raises(ConfigError, match="weight_decay"):
        TrainSettings(epochs=1, optimizer="shift_adamax")


def test_every_exponent_and_both_sides_of_the_middle_between_two_powers() -> None:
    powers = torch.exp2(torch.arange(-126.0, 127.0))
    middle = (powers.double() * math.sqrt(2)).float()
    near = [middle, torch.nextafter(middle, powers), torch.nextafter(middle, 2 * powers)]
    x = torch.cat([powers, *near, 1.2 * powers, 1.7 * powers])
    wanted = [naive_ap2(value) for value in x.tolist()]
    assert ap2(x).tolist() == wanted
    assert ap2(-x).tolist() == [-value for value in wanted]
    assert ap2(x.double()).tolist() == wanted
    assert not ap2(torch.zeros(3)).any()
    for kind in (torch.float32, torch.float64):
        odd = ap2(torch.tensor([math.nan, -math.nan, math.inf, -math.inf], dtype=kind))
        assert odd[:2].isnan().all()
        assert odd[2:].tolist() == [math.inf, -math.inf]
    rows = torch.arange(1.0, 7.0).reshape(2, 3).T
    assert ap2(rows).tolist() == [[1.0, 4.0], [2.0, 4.0], [4.0, 8.0]]
