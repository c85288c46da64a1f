"""One direction of a recurrent layer whose units read each other through a mask."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

States = tuple[Tensor, ...]

# Which gate, and at which end, keeps a state at zero: the output gate of an LSTM is shut, the
# update gate of a GRU keeps what is there. So far out a sigmoid is exactly 0 or 1.
_STILL: Final = MappingProxyType({"LSTM": (3, -1e4), "GRU": (1, 1e4)})


def run(
    mode: str, steps: Tensor, mask: Tensor | None, weights: Sequence[Tensor | None]
) -> tuple[Tensor, States]:
    """Run over the steps, from a state of zeros; the same mask holds at every step.

    PyTorch's own kernels do it wherever they can, several times faster than step by step. What is
    given back of masked units is not masked, or is zero where that was faster: a reader behind the
    mask cannot tell.

    Args:
        mode: PyTorch's name of the layer, e.g. "LSTM".
        steps: (time, batch, features).
        mask: None, (units,), or (batch, units) for one of its own for each sample.
        weights: Of inputs, of states, and their biases or None.

    Returns:
        Outputs (time, batch, units) and final states, each (batch, units).
    """
    w_ih, w_hh, b_ih, b_hh = weights
    if mask is not None and mask.ndim == 1 and w_hh is not None:
        return run(mode, steps, None, (w_ih, w_hh * mask, b_ih, b_hh))
    if mode not in _STILL or (mask is not None and not _is_binary(mask)):
        return _by_steps(mode, steps, mask, weights)
    if mask is not None:
        w_ih, steps = _held_still(mode, steps, mask, w_ih)
    return _whole(mode, steps, (w_ih, w_hh, b_ih, b_hh))


def _is_binary(mask: Tensor) -> bool:
    return bool(((mask == 0) | (mask == 1)).all())


def _held_still(
    mode: str, steps: Tensor, mask: Tensor, w_ih: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weights and inputs with one input more for each unit, which holds it at zero if it is masked.

    Masks of zeros and ones need no more than that.
    """
    assert w_ih is not None
    (gate, value), units = _STILL[mode], mask.shape[1]
    still = torch.eye(units, dtype=w_ih.dtype, device=w_ih.device) * value
    rows = (0, 0, gate * units, len(w_ih) - (gate + 1) * units)
    masked = (1 - mask).to(steps).expand(len(steps), *mask.shape)
    return torch.cat([w_ih, nn.functional.pad(still, rows)], 1), torch.cat([steps, masked], -1)


def _whole(mode: str, steps: Tensor, weights: Sequence[Tensor | None]) -> tuple[Tensor, States]:
    flat = [part for part in weights if part is not None]
    zeros = steps.new_zeros(1, steps.shape[1], flat[1].shape[1])
    options = (flat, len(flat) > 2, 1, 0.0, False, False, False)
    if mode == "LSTM":
        made, *last = torch._VF.lstm(steps, (zeros, zeros), *options)
    else:
        made, *last = torch._VF.gru(steps, zeros, *options)
    return made, tuple(state[0] for state in last)


def _by_steps(
    mode: str, steps: Tensor, mask: Tensor | None, weights: Sequence[Tensor | None]
) -> tuple[Tensor, States]:
    w_hh = weights[1]
    assert w_hh is not None
    state = steps.new_zeros(steps.shape[1], w_hh.shape[1])
    cell = torch.zeros_like(state)
    outputs = []
    for step in steps:
        seen = state if mask is None else state * mask
        if mode == "LSTM":
            state, cell = torch.lstm_cell(step, (seen, cell), *weights)
        elif mode == "GRU":
            state = _gru_step(step, seen, state, weights)
        else:
            kind = torch.rnn_tanh_cell if mode == "RNN_TANH" else torch.rnn_relu_cell
            state = kind(step, seen, *weights)
        outputs.append(state)
    return torch.stack(outputs), (state, cell) if mode == "LSTM" else (state,)


def _gru_step(
    step: Tensor, seen: Tensor, state: Tensor, weights: Sequence[Tensor | None]
) -> Tensor:
    """A step of a GRU that reads the masked state and carries over its own."""
    w_ih, w_hh, b_ih, b_hh = weights
    read_r, read_z, read_n = nn.functional.linear(step, w_ih, b_ih).chunk(3, -1)
    own_r, own_z, own_n = nn.functional.linear(seen, w_hh, b_hh).chunk(3, -1)
    update = torch.sigmoid(read_z + own_z)
    new = torch.tanh(read_n + torch.sigmoid(read_r + own_r) * own_n)
    return (1 - update) * new + update * state
