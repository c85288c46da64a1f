"""The compressor's probabilities are equation 3's; its gradient is that of the expected loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from narrows.compress.compressor import Compressor, draw, log_likelihood, suppressed


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_probabilities_are_those_of_the_papers_equation() -> None:
    random = np.random.default_rng(0)
    sizes = {"conv": (5, 9), "fc": (3, 20)}
    matrices = {
        name: torch.tensor(random.normal(size=size)).float() for name, size in sizes.items()
    }
    made = Compressor(matrices, width=4, seed=1)
    found = made(matrices)
    h = c = np.zeros(4)
    for number, (name, matrix) in enumerate(matrices.items()):
        w_c, w_i, w_o = (
            getattr(made, f"{part}_{number}").detach().numpy() for part in ("left", "right", "out")
        )
        v = w_c @ matrix.numpy().T @ w_i
        u = (made.hidden.detach().numpy() @ h).reshape(4, 4)
        i, f, o = (sigmoid(v[k] + u[k]) for k in range(3))
        c = f * c + i * np.tanh(v[3] + u[3])
        h = o * np.tanh(c)
        np.testing.assert_allclose(found[name].detach(), sigmoid(w_o @ h), rtol=1e-5)


def test_the_first_weights_are_a_cut_normal_and_repeat() -> None:
    matrices = {"a": torch.zeros(300, 500)}
    made, again = (Compressor(matrices, width=64, seed=3) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True)
    )
    wide = (2 / 364) ** 0.5
    assert float(made.right_0.detach().abs().max()) <= 2 * wide
    assert float(made.right_0.detach().std()) == pytest.approx(0.88 * wide, rel=0.02)


def test_the_policy_gradient_is_unbiased() -> None:
    """Two units and a table of losses: the mean over many draws is the exact gradient."""
    table = {(0, 0): 2.0, (0, 1): -1.0, (1, 0): 0.5, (1, 1): 3.0}
    p = torch.tensor([0.3, 0.6], requires_grad=True)
    expected = sum(
        loss * torch.stack([p[k] if z[k] else 1 - p[k] for k in range(2)]).prod()
        for z, loss in table.items()
    )
    exact = torch.autograd.grad(expected, p)[0]
    torch.manual_seed(0)
    count = 400_000
    masks = draw(p, count)
    losses = torch.tensor([table[z] for z in itertools.product((0, 1), repeat=2)])
    found = losses[(masks[:, 0] * 2 + masks[:, 1]).long()]
    for baseline in (0.0, 1.2):
        estimate = torch.autograd.grad((log_likelihood(masks, p) * (found - baseline)).mean(), p)[0]
        spread = 3.5 / (0.3 * count**0.5)  # losses up to 3, score up to 1 / 0.3, four deviations
        assert torch.allclose(estimate, exact, atol=4 * spread), (estimate, exact)


def test_a_suppressed_unit_keeps_its_gradient_and_can_return() -> None:
    """It is drawn with half its probability; rewarded when it is there, it rises over τ again."""
    logit = torch.tensor([-0.5], requires_grad=True)
    torch.manual_seed(0)
    threshold = 0.5
    assert float(logit.detach().sigmoid()) < threshold
    for _ in range(200):
        p = suppressed(logit.sigmoid(), threshold, 0.5)
        masks = draw(p, 64)
        loss = 1 - masks[:, 0]
        value = (log_likelihood(masks, p) * (loss - loss.mean())).mean()
        logit.data -= 0.5 * torch.autograd.grad(value, logit)[0]
    assert float(logit.detach().sigmoid()) > threshold


def test_it_learns_which_unit_matters() -> None:
    matrices = {"layer": torch.randn(4, 6, generator=torch.Generator().manual_seed(0))}
    made = Compressor(matrices, width=8, seed=0)
    torch.manual_seed(0)
    for _ in range(1500):
        p = made(matrices)["layer"]
        masks = draw(p, 32)
        loss = 5 * (1 - masks[:, 2]) + masks[:, [0, 1, 3]].sum(1)
        made.learn_(log_likelihood(masks, p), loss, rate=0.01)
    p = made(matrices)["layer"].detach()
    assert float(p[2]) > 0.9
    assert float(p[[0, 1, 3]].max()) < 0.3


def test_the_moving_averages_are_of_mean_and_variance() -> None:
    matrices = {"layer": torch.ones(2, 3)}
    made = Compressor(matrices, width=4)
    for losses in ([1.0, 3.0], [5.0, 5.0]):
        p = made(matrices)["layer"]
        made.learn_(log_likelihood(draw(p, 2), p), torch.tensor(losses), rate=0.0)
    assert float(made.baseline) == pytest.approx(0.9 * 2 + 0.1 * 5)
    assert float(made.variance) == pytest.approx(0.9 * 1 + 0.1 * 0)
