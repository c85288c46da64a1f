"""A network with a mask wherever units are read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from narrows.compress.attention import ReducedAttention
from narrows.compress.recurrent import PARTS, runs
from narrows.compress.recurrent_runs import run
from narrows.compress.tracing import Example, copy_graph
from narrows.compress.units import Found, Units, find
from narrows.errors import ModelError


@final
class UnitMask(nn.Module):  # type: ignore[misc]
    """Multiplies what a layer reads by the masks of the units that lie along an axis.

    Args:
        masks: All masks that are set, by group; shared by the whole network.
        places: For each group: the places along the axis, and the unit at each of them.
        size: Of the axis.
        axis: Of the units.
        batch_axis: Of the samples, for masks with a batch.
    """

    def __init__(
        self,
        masks: dict[str, Tensor],
        places: Mapping[str, tuple[Tensor, Tensor]],
        size: int,
        axis: int,
        batch_axis: int = 0,
    ) -> None:
        super().__init__()
        self._masks, self._places = masks, places
        self.size, self.axis, self.batch_axis = size, axis, batch_axis

    def row(self, like: Tensor) -> Tensor | None:
        """The mask along the axis: (size,), (batch, size), or None where none is set."""
        made: Tensor | None = None
        for group, (places, units) in self._places.items():
            mask = self._masks.get(group)
            if mask is None:
                continue
            mask = mask.to(like)
            if made is None:
                made = torch.ones(self.size, dtype=like.dtype, device=like.device)
            if mask.ndim > made.ndim:
                made = made.expand(len(mask), self.size)
            chosen = mask[..., units.to(like.device)].expand(*made.shape[:-1], len(places))
            made = made.index_copy(-1, places.to(like.device), chosen)
        return made

    def forward(self, values: Tensor) -> Tensor:
        """The input with masked units set to zero, or scaled by a mask that is between."""
        row = self.row(values)
        if row is None:
            return values
        sizes = [1] * values.ndim
        sizes[self.axis] = self.size
        if row.ndim == 2:
            samples = values.shape[self.batch_axis]
            if samples % len(row):
                raise ModelError(
                    f"masks for {len(row)} samples do not fit {samples} rows of a batch; set masks "
                    "of shape (units,), or as many as samples"
                )
            row = row.repeat_interleave(samples // len(row), dim=0)
            sizes[self.batch_axis] = samples
            row = row if self.batch_axis < self.axis else row.T
        return values * row.reshape(sizes)


@final
class MaskedRecurrent(nn.Module):  # type: ignore[misc]
    """A recurrent layer each unit of which reads the others, and itself, through the masks.

    The same mask holds at every step. It is called as the layer it stands for.

    Args:
        layer: PyTorch's layer; its weights are used, not copied.
        masks: For each direction of each layer of the stack: the mask of its own state.
    """

    def __init__(self, layer: nn.RNNBase, masks: Mapping[str, UnitMask]) -> None:
        super().__init__()
        self.layer = layer
        self.masks = nn.ModuleDict(masks)

    def forward(self, sequence: Tensor) -> tuple[Tensor, Any]:
        """Outputs and final states, as the layer answers them."""
        rows = {name: mask.row(sequence) for name, mask in self.masks.items()}
        if all(row is None for row in rows.values()):
            return self.layer(sequence)  # type: ignore[no-any-return]
        unbatched = sequence.ndim == 2
        time_first = not self.layer.batch_first and not unbatched
        steps = sequence.unsqueeze(1) if unbatched else sequence
        steps = steps if time_first or unbatched else steps.transpose(0, 1)
        states: list[tuple[Tensor, ...]] = []
        for depth in range(self.layer.num_layers):
            if depth:
                previous = [
                    _ones_if_none(rows[name], steps, self.layer.hidden_size)
                    for name in runs(self.layer, depth - 1)
                ]
                widest = max(previous, key=lambda row: row.ndim)
                shape = (*widest.shape[:-1], self.layer.hidden_size)
                steps = steps * torch.cat([row.expand(shape) for row in previous], -1)
                steps = nn.functional.dropout(steps, self.layer.dropout, self.training)
            made = [self._run(name, steps, rows[name]) for name in runs(self.layer, depth)]
            steps = torch.cat([outputs for outputs, _ in made], -1)
            states += [state for _, state in made]
        outputs = steps[:, 0] if unbatched else steps if time_first else steps.transpose(0, 1)
        last = [torch.stack(parts) for parts in zip(*states, strict=True)]
        last = [part[:, 0] for part in last] if unbatched else last
        return outputs, tuple(last) if len(last) == 2 else last[0]

    def _run(
        self, name: str, steps: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One direction of one layer over (time, batch, features)."""
        weights = [getattr(self.layer, f"{part}_{name}", None) for part in PARTS]
        backwards = name.endswith("_reverse")
        made, last = run(self.layer.mode, steps.flip(0) if backwards else steps, mask, weights)
        return made.flip(0) if backwards else made, last


def _ones_if_none(row: Tensor | None, like: Tensor, size: int) -> Tensor:
    return like.new_ones(size) if row is None else row


@final
class MaskedModel(nn.Module):  # type: ignore[misc]
    """A network whose units can be masked where they are read.

    Args:
        network: A copy of the network; the masked one uses its weights, so that training the one
            trains the other.
        found: Its units.
    """

    def __init__(self, network: nn.Module, found: Found) -> None:
        super().__init__()
        self.units: Units = found.units
        self.network = network
        self._masks: dict[str, Tensor] = {}
        self.masked = _with_masks(network, found, self._masks)
        self.train(network.training)

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Set the masks; groups that are not named have none.

        Args:
            masks: Group to (n,), or (batch, n) for a mask of its own for each sample. Ones leave
                units as they are, zeros remove them; gradients pass through.

        Raises:
            ModelError: If there is no such group, or a mask has another number of units.
        """
        sizes = {group.name: group.size for group in self.units.groups}
        for name, mask in masks.items():
            if name not in sizes:
                raise ModelError(f"no units {name!r} to mask; there are {', '.join(sizes)}")
            if mask.ndim not in (1, 2) or mask.shape[-1] != sizes[name]:
                raise ModelError(
                    f"a mask of shape {tuple(mask.shape)} does not fit the {sizes[name]} units of "
                    f"{name!r}; it should be ({sizes[name]},) or (batch, {sizes[name]})"
                )
        self._masks.clear()
        self._masks.update(masks)

    def forward(self, *inputs: Tensor) -> Any:
        """What the masked network answers."""
        return self.masked(*inputs)


def masked(model: nn.Module, example: Example) -> MaskedModel:
    """A copy of a network with a mask at every place where a group's units are read.

    Masked at the readers, a unit is gone whatever function lies between: what is removed later is
    exactly what a mask of zeros takes away. In recurrent layers the same mask acts at each step,
    on the layer's own state too.

    Args:
        model: The network.
        example: An input, or a tuple of them.

    Raises:
        ModelError: If the network cannot be traced or run.
    """
    return masked_copy(find(model, example), model)


def masked_copy(found: Found, model: nn.Module) -> MaskedModel:
    """`masked` where the units are known."""
    return MaskedModel(copy.deepcopy(model), found)


def _with_masks(network: nn.Module, found: Found, masks: dict[str, Tensor]) -> fx.GraphModule:
    module, origins = copy_graph(found.analysis.module, network)
    graph, nodes = module.graph, {old: new for new, old in origins.items()}
    for number, reader in enumerate(found.analysis.readers):
        node = nodes[reader.node]
        batch_axis = _batch_axis(network, reader.node, reader.axis)
        mask = _mask(found, masks, reader.labels, reader.axis, batch_axis)
        if mask is None:
            continue
        name = f"unit_mask_{number}"
        module.add_submodule(name, mask)
        with graph.inserting_before(node):
            read = graph.call_module(name, (node.args[reader.place],))
        arguments = list(node.args)
        arguments[reader.place] = read
        node.args = tuple(arguments)
    module.recompile()
    for target in {str(node.target) for node in graph.nodes if node.op == "call_module"}:
        _mask_inside_(module, target, found, masks)
    return module


def _batch_axis(network: nn.Module, node: fx.Node, axis: int) -> int:
    """Where the samples lie: first, but for recurrent layers and attention that say otherwise."""
    if node.op != "call_module":
        return 0
    layer = network.get_submodule(str(node.target))
    first = getattr(layer, "batch_first", True)
    return 0 if first or axis < 2 else 1


def _mask(
    found: Found, masks: dict[str, Tensor], labels: Tensor, axis: int, batch_axis: int = 0
) -> UnitMask | None:
    """The mask of what lies along an axis, or None where nothing there can be removed."""
    classes = found.analysis.classes.of(labels)
    places = {}
    for group, members in found.members.items():
        here = torch.isin(classes, members).nonzero().reshape(-1)
        if len(here):
            units = (classes[here, None] == members[None]).int().argmax(1)
            places[group] = (here, units)
    return UnitMask(masks, places, len(labels), axis, batch_axis) if places else None


def _mask_inside_(
    module: fx.GraphModule, target: str, found: Found, masks: dict[str, Tensor]
) -> None:
    """Masks within layers that read their own units: recurrent ones, and heads of attention."""
    layer = module.get_submodule(target)
    producers = found.analysis.producers
    if isinstance(layer, nn.RNNBase):
        inside = {}
        for name, producer in producers.items():
            if producer.layer == target:
                mask = _mask(found, masks, producer.labels, 1)
                if mask is not None:
                    inside[name.rpartition(".")[2]] = mask
        if inside:
            module.set_submodule(target, MaskedRecurrent(layer, inside))
    elif isinstance(layer, nn.MultiheadAttention | ReducedAttention):
        heads = producers.get(f"{target}.heads")
        if heads is None:
            return
        mask = _mask(found, masks, heads.labels.repeat_interleave(layer.head_dim), 2)
        if mask is not None:
            attention = ReducedAttention(layer, dict(layer.named_parameters()))
            attention.before_out = mask
            module.set_submodule(target, attention)
