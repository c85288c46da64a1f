"""Recurrent layers with fewer units: which weights belong to a unit, and layers of unequal size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def gates(layer: nn.RNNBase) -> int:
    """How many rows of the weights a unit has: 4 in an LSTM, 3 in a GRU, 1 in an RNN."""
    return {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)


def is_plain(layer: nn.RNNBase) -> bool:
    """Whether the layer answers with its hidden units and not with a projection of them."""
    return getattr(layer, "proj_size", 0) == 0


def runs(layer: nn.RNNBase, depth: int) -> tuple[str, ...]:
    """The names PyTorch gives the directions of one layer of a stack: "l0", "l0_reverse"."""
    return (f"l{depth}", f"l{depth}_reverse")[: 2 if layer.bidirectional else 1]


def all_runs(layer: nn.RNNBase) -> list[str]:
    """The names of all directions of all layers of a stack, in the order of its states."""
    return [name for depth in range(layer.num_layers) for name in runs(layer, depth)]


def smaller(layer: nn.RNNBase, weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """A recurrent layer with these weights, of PyTorch's own kind where all sizes are equal.

    Args:
        layer: The layer that was.
        weights: Of each of its parameters: what is left.
    """
    sizes = {weights[f"weight_hh_{name}"].shape[1] for name in all_runs(layer)}
    if len(sizes) > 1:
        return RecurrentStack(layer, weights)
    made = _like(layer, weights["weight_ih_l0"].shape[1], sizes.pop())
    return _filled(made, weights)


def _like(layer: nn.RNNBase, inputs: int, hidden: int, **changes: Any) -> nn.RNNBase:
    options = {
        "num_layers": layer.num_layers,
        "bias": layer.bias,
        "batch_first": layer.batch_first,
        "dropout": layer.dropout,
        "bidirectional": layer.bidirectional,
    } | changes
    if isinstance(layer, nn.RNN):
        options["nonlinearity"] = layer.nonlinearity
    weight = layer.weight_ih_l0
    made = type(layer)(inputs, hidden, device="meta", dtype=weight.dtype, **options)
    return made.to_empty(device=weight.device)  # no random numbers are drawn


def _filled(layer: nn.RNNBase, weights: Mapping[str, nn.Parameter]) -> nn.RNNBase:
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(weights[name])
            parameter.requires_grad_(weights[name].requires_grad)
    return layer


@final
class RecurrentStack(nn.Module):  # type: ignore[misc]
    """A stack of recurrent layers and directions each of which has its own number of units.

    It is called as the layer of PyTorch it stands for. Where sizes differ the states it ends in
    are a tuple with one array (batch, units) for each direction of each layer, which is taken
    apart by index as PyTorch's array is.

    Args:
        layer: The layer it stands for.
        weights: Of each of its parameters: what is left.
    """

    def __init__(self, layer: nn.RNNBase, weights: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.batch_first = bool(layer.batch_first)
        self.directions = 2 if layer.bidirectional else 1
        self.lstm = isinstance(layer, nn.LSTM)
        self.dropout = nn.Dropout(layer.dropout)
        self.parts = nn.ModuleList()
        for name in all_runs(layer):
            own = {
                f"{part}_l0": weights[f"{part}_{name}"]
                for part in PARTS
                if f"{part}_{name}" in weights
            }
            inputs, hidden = own["weight_ih_l0"].shape[1], own["weight_hh_l0"].shape[1]
            single = {"num_layers": 1, "dropout": 0.0, "bidirectional": False}
            self.parts.append(_filled(_like(layer, inputs, hidden, **single), own))

    def forward(self, sequence: Tensor) -> tuple[Tensor, Any]:
        """Outputs (..., units of both directions of the last layer) and final states."""
        time = -2 if self.batch_first else 0  # with and without an axis of samples
        states: list[Any] = []
        outputs: list[Tensor] = []
        for number, part in enumerate(self.parts):
            backwards = number % self.directions == 1
            if number and not backwards:
                sequence, outputs = self.dropout(torch.cat(outputs, -1)), []
            made, state = part(sequence.flip(time) if backwards else sequence)
            outputs.append(made.flip(time) if backwards else made)
            states.append(state)
        return torch.cat(outputs, -1), self._joined(states)

    def _joined(self, states: list[Any]) -> Any:
        if self.lstm:
            return tuple(self._rows([state[part] for state in states]) for part in range(2))
        return self._rows(states)

    def _rows(self, states: list[Tensor]) -> Any:
        """One array of states where they are equally large."""
        if len({part.hidden_size for part in self.parts}) == 1:
            return torch.cat(states)
        return tuple(state[0] for state in states)
