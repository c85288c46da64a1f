"""The weights that make a unit, as one row of a matrix: what criteria of pruning look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from narrows.compress.units import Found


@final
class UnitWeights:
    """The weights of each group's units, read from a network as it is trained.

    Of a linear layer a row is the weights of one output and its bias, of a convolution those of
    one filter, of a recurrent layer those of all gates of one hidden unit, on inputs and on states.
    Layers that are coupled are put side by side. Where a unit has several channels in a layer they
    are put side by side too, or, if not all units have equally many, averaged.

    Args:
        model: The network that was analysed, or a copy.
        found: Its units.
    """

    def __init__(self, model: nn.Module, found: Found) -> None:
        places = {
            group.name: _places(model, found, group.name, group.layers)
            for group in found.units.groups
        }
        self._places = {name: some for name, some in places.items() if some}

    def of(self, model: nn.Module) -> dict[str, Tensor]:
        """Group to matrix (units, features), in forward order, of groups whose units have weights.

        Args:
            model: The network, or a copy.
        """
        weights: Mapping[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        made = {}
        for group, places in self._places.items():
            parts = []
            for name, axis, index in places:
                channels = weights[name].movedim(axis, 0)
                rows = channels.reshape(len(channels), -1)
                parts.append(_gathered(rows, index))
            made[group] = torch.cat(parts, dim=1)
        return made


def _gathered(rows: Tensor, index: Tensor) -> Tensor:
    """(units, features) from (channels, features): by place, or by shares of channels."""
    if index.is_floating_point():
        return index.to(rows) @ rows
    return rows[index].reshape(len(index), -1)


def _places(
    model: nn.Module, found: Found, group: str, layers: tuple[str, ...]
) -> list[tuple[str, int, Tensor]]:
    """Parameters that make a group's units, the axis of the units, and which channels are whose.

    The channels are (units, k) numbers, or (units, channels) shares where units differ in number.
    """
    members = found.members[group]
    made = []
    for name in layers:
        layer = _submodule(model, name)
        parts = {name: None} if layer is None else dict(layer.named_parameters())
        for part in parts:
            full = name if layer is None else f"{name}.{part}" if name else part
            axis = _unit_axis(layer, part)
            labels = found.analysis.weights.get(full, {}).get(axis)
            if labels is None:
                continue
            mine = found.analysis.classes.of(labels)[None] == members[:, None]
            counts = mine.sum(1)
            if not int(counts.min()):
                continue
            if int(counts.min()) == int(counts.max()):
                index = mine.nonzero()[:, 1].reshape(len(members), -1)
            else:
                index = mine.double() / counts[:, None]
            made.append((full, axis, index))
    return made


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    """The layer of a name, or None where it is a parameter's."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _unit_axis(layer: nn.Module | None, part: str) -> int:
    """The axis of a weight along which the units lie that it makes."""
    if isinstance(layer, _ConvTransposeNd | nn.Embedding) and part == "weight":
        return 1
    return 0
