"""Masked recurrent layers answer the same from PyTorch's kernels and from the equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from narrows.compress.recurrent_runs import run

KINDS = {
    "LSTM": lambda: nn.LSTM(3, 5),
    "GRU": lambda: nn.GRU(3, 5),
    "RNN_TANH": lambda: nn.RNN(3, 5),
    "LSTM without bias": lambda: nn.LSTM(3, 5, bias=False),
    "GRU without bias": lambda: nn.GRU(3, 5, bias=False),
}
MASKS = {
    "none": None,
    "one for all": torch.tensor([1.0, 0.0, 0.3, 1.0, 0.0]),
    "each its own": (torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) > 0.5).float(),
    "between": torch.rand(4, 5, generator=torch.Generator().manual_seed(2)),
}


def naive(layer: nn.RNNBase, steps: Tensor, mask: Tensor) -> Tensor:
    """What readers behind the mask see, (time, batch, units)."""
    parts = [getattr(layer, name, None) for name in ("bias_ih_l0", "bias_hh_l0")]
    b_ih, b_hh = (0.0 if part is None else part for part in parts)
    state = cell = torch.zeros(steps.shape[1], 5, dtype=steps.dtype)
    seen = []
    for step in steps:
        given = step @ layer.weight_ih_l0.T + b_ih
        own = (state * mask) @ layer.weight_hh_l0.T + b_hh
        if layer.mode == "LSTM":
            i, f, g, o = (given + own).chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            state = o.sigmoid() * cell.tanh()
        elif layer.mode == "GRU":
            (a, b, c), (d, e, h) = given.chunk(3, -1), own.chunk(3, -1)
            z = (b + e).sigmoid()
            state = z * state + (1 - z) * (c + (a + d).sigmoid() * h).tanh()
        else:
            state = (given + own).tanh()
        seen.append(state * mask)
    return torch.stack(seen)


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_those_of_the_equations_and_so_are_their_gradients(kind: str, masks: str) -> None:
    torch.manual_seed(0)
    layer, mask = KINDS[kind]().double(), MASKS[masks]
    mask = mask if mask is None else mask.double()
    steps = torch.randn(6, 4, 3, dtype=torch.float64)
    weights = [
        getattr(layer, f"{part}_l0", None)
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    made, last = run(layer.mode, steps, mask, weights)
    behind = torch.ones(5, dtype=torch.float64) if mask is None else mask
    expected = naive(layer, steps, behind)
    assert torch.allclose(made * behind, expected, atol=1e-12)
    assert torch.allclose(last[0] * behind, expected[-1], atol=1e-12)
    assert len(last) == (2 if layer.mode == "LSTM" else 1)
    pairs = [
        torch.autograd.grad(value.square().sum(), list(layer.parameters()))
        for value in (made * behind, expected)
    ]
    for found, wanted in zip(*pairs, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)
