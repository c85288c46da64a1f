"""The activation of one bit and normalisation by shifts against their rules, written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from narrows.compress import BinaryActivation, ShiftBatchNorm, find_units, remove_units
from narrows.store import load_network, save_network
from narrows.train.shift_adamax import ap2 as product_ap2
from narrows.zoo.export import export


def ap2(x: float) -> float:
    return math.copysign(2.0 ** round(math.log2(abs(x))), x) if x else 0.0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_powers_of_two_are_those_of_the_reference(kind: torch.dtype) -> None:
    assert [ap2(x) for x in (0.0, 3.0, -0.3)] == [0.0, 4.0, -0.25]
    random = np.random.default_rng(0)
    x = random.normal(size=500) * 10.0 ** random.integers(-30, 30, 500)
    given = torch.tensor([0.0, *x], dtype=kind)
    assert product_ap2(given).tolist() == [ap2(value) for value in given.tolist()]


def test_zero_is_plus_one_and_the_gradient_passes_up_to_one_both_ends_included() -> None:
    values = [-1.5, -1.0 - 1e-6, -1.0, -0.5, -0.0, 0.0, 1.0, 1.0 + 1e-6, math.inf]
    x = torch.tensor(values, requires_grad=True)
    y = BinaryActivation()(x)
    y.backward(torch.arange(1.0, 10.0))
    assert y.tolist() == [1.0 if value >= 0 else -1.0 for value in values]
    passed = [number if abs(value) <= 1 else 0.0 for number, value in enumerate(values, start=1)]
    assert x.grad.tolist() == passed


def test_drawn_signs_are_unbiased_while_it_trains_and_certain_when_it_does_not() -> None:
    count, x = 20_000, torch.tensor([-1.2, -1.0, -0.4, 0.0, 0.9, 1.0, 3.0])
    torch.manual_seed(0)
    layer = BinaryActivation(stochastic=True)
    drawn = layer(x.expand(count, -1))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    wrong = (drawn.mean(0) - x.clamp(-1, 1)).abs()
    assert float(wrong.max()) < 4 / math.sqrt(count)
    assert not wrong[[0, 1, 5, 6]].any()  # certain
    assert layer.eval()(x).tolist() == [-1, -1, -1, 1, 1, 1, 1]


def naive_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> tuple:
    """Samples (n, features), by loops."""
    y, mean, inverse = np.zeros_like(x), x.mean(0), np.zeros(x.shape[1])
    for j in range(x.shape[1]):
        c = x[:, j] - mean[j]
        variance = sum(value * ap2(value) for value in c) / len(c)
        inverse[j] = (variance + eps) ** -0.5
        for i, value in enumerate(c):
            y[i, j] = ap2(gamma[j]) * value * ap2(inverse[j]) + beta[j]
    return y, mean, inverse


def naive_backward(x: np.ndarray, gamma: np.ndarray, g: np.ndarray, eps: float) -> tuple:
    _, mean, inverse = naive_forward(x, gamma, np.zeros_like(gamma), eps)
    dx, dgamma = np.zeros_like(x), np.zeros_like(gamma)
    for j in range(x.shape[1]):
        c = x[:, j] - mean[j]
        a, s = [ap2(value) for value in c], ap2(inverse[j])
        mean_ag = sum(p * q for p, q in zip(a, g[:, j], strict=True)) / len(c)
        for i in range(len(c)):
            inner = g[i, j] - g[:, j].mean() - a[i] * s**2 * mean_ag
            dx[i, j] = ap2(gamma[j]) * s * inner
            dgamma[j] += ap2(c[i] * s) * g[i, j]
    return dx, dgamma, g.sum(0)


@pytest.mark.parametrize("pictures", [False, True])
def test_shift_normalisation_is_that_of_the_rule_forwards_and_backwards(pictures: bool) -> None:
    random = np.random.default_rng(0)
    flat = random.normal(size=(24, 5)) * [0.1, 1.0, 3.0, 40.0, 1.0] + [0, 3, -8, 100, 0]
    flat[:, 4] = 2.0  # a feature that does not vary
    gamma, beta = np.array([1.0, -0.6, 3.1, 0.0, 1.5]), random.normal(size=5)
    g = random.normal(size=flat.shape)
    layer = ShiftBatchNorm(5, momentum=0.25).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gamma))
        layer.bias.copy_(torch.tensor(beta))

    def shaped(values: np.ndarray) -> torch.Tensor:
        rows = torch.tensor(values)
        return rows.reshape(4, 3, 2, 5).permute(0, 3, 1, 2) if pictures else rows

    def back(values: torch.Tensor) -> np.ndarray:
        return (values.permute(0, 2, 3, 1).reshape(24, 5) if pictures else values).numpy()

    x = shaped(flat).requires_grad_()
    y = layer(x)
    y.backward(shaped(g))
    wanted, mean, inverse = naive_forward(flat, gamma, beta, layer.eps)
    assert np.allclose(back(y.detach()), wanted, rtol=1e-12)
    assert np.allclose(layer.running_mean, 0.25 * mean, rtol=1e-12)
    assert np.allclose(layer.running_inverse_std, 0.75 + 0.25 * inverse, rtol=1e-12)
    dx, dgamma, dbeta = naive_backward(flat, gamma, g, layer.eps)
    assert np.allclose(back(x.grad), dx, rtol=1e-9, atol=1e-12)
    assert np.allclose(layer.weight.grad, dgamma, rtol=1e-9)
    assert np.allclose(layer.bias.grad, dbeta, rtol=1e-12)


def test_when_it_does_not_train_shift_normalisation_takes_its_running_means() -> None:
    layer = ShiftBatchNorm(2).eval()
    with torch.no_grad():
        layer.running_mean.copy_(torch.tensor([1.0, -2.0]))
        layer.running_inverse_std.copy_(torch.tensor([0.3, 3.0]))
        layer.weight.copy_(torch.tensor([-0.7, 0.2]))
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
    x = torch.tensor([[3.0, 1.0]], requires_grad=True)
    y = layer(x)
    # AP2(-0.7) = -0.5, AP2(0.3) = 0.25; AP2(0.2) = 0.25, AP2(3) = 4.
    assert y.tolist() == [[-0.5 * 2 * 0.25 + 0.5, 0.25 * 3 * 4]]
    y.sum().backward()
    assert x.grad.tolist() == [[-0.125, 1.0]]


def test_a_factor_that_is_not_a_number_is_not_hidden() -> None:
    layer = ShiftBatchNorm(2)
    with torch.no_grad():
        layer.weight[0] = torch.nan
    x = torch.randn(4, 2)
    for mode in (True, False):
        assert layer.train(mode)(x).isnan().any(0).tolist() == [True, False]


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1, bias=False), ShiftBatchNorm(6), BinaryActivation()),
        *(nn.Flatten(), nn.Linear(6 * 25, 4), ShiftBatchNorm(4)),
    )
    for _ in range(3):
        made(torch.randn(8, 1, 5, 5))
    return made.eval()


def test_both_are_stored_and_exported(tmp_path: Path) -> None:
    made, x = network(), torch.randn(6, 1, 5, 5)
    save_network(made, tmp_path / "net")
    again = load_network(tmp_path / "net")
    with torch.no_grad():
        wanted = made(x)
        assert torch.equal(again(x), wanted)
    assert [again.get_submodule(name).stochastic for name in ("2",)] == [False]
    session = ort.InferenceSession(export(again, (1, 5, 5)).SerializeToString())
    (found,) = session.run(None, {"input": x.numpy()})
    assert np.allclose(found, wanted, atol=1e-5)


def test_units_before_them_are_found_and_removed() -> None:
    made, x = network(), torch.randn(1, 1, 5, 5)
    assert [group.name for group in find_units(made, x).groups] == ["0"]
    smaller = remove_units(made, x, {"0": [0, 2, 5]})
    assert smaller[1].num_features == 3
    assert smaller[4].in_features == 75
