"""Layers with the weights that are left."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, instancenorm

from narrows.compress.analysis import Analysis, named_weights
from narrows.compress.attention import ReducedAttention
from narrows.compress.binary_layers import ShiftBatchNorm
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm
from narrows.compress.recurrent import smaller


@final
class Removal:
    """Which classes go, and what that makes of labels, shapes and weights.

    Args:
        analysis: Of the network.
        removed: The classes that go (n,).
    """

    def __init__(self, analysis: Analysis, removed: Tensor) -> None:
        self.analysis = analysis
        self.removed = removed

    def kept(self, labels: Tensor) -> Tensor:
        """Whether each element is left."""
        return ~torch.isin(self.analysis.classes.of(labels), self.removed)

    def count(self, labels: Tensor) -> int:
        """How many elements are left."""
        return int(self.kept(labels).sum())

    def shape(self, labels: Tensor) -> list[int]:
        """The shape that is left of an array of labels."""
        sizes = list(labels.shape)
        for axis in self.analysis.classes.varying(labels):
            sizes[axis] = self.count(labels.movedim(axis, 0).reshape(sizes[axis], -1)[:, 0])
        return sizes

    def slice(self, tensor: Tensor, axis: int, labels: Tensor) -> Tensor:
        """What is left of a tensor along an axis."""
        places = self.kept(labels).nonzero().reshape(-1)
        return tensor.index_select(axis, places.to(tensor.device))


def slice_weights_(model: nn.Module, removal: Removal) -> None:
    """Replace the layers of a network, and their weights, by what is left of them.

    Args:
        model: A copy of the network that was analysed.
        removal: What goes.
    """
    left = _left(model, removal)
    for name, module in list(model.named_modules()):
        own = {
            f"{part}": left[f"{name}.{part}" if name else part]
            for part, _ in named_weights(module)
            if (f"{name}.{part}" if name else part) in left
        }
        if own and isinstance(module, nn.RNNBase | nn.MultiheadAttention | ReducedAttention):
            weights = dict(module.named_parameters()) | own
            kind = smaller if isinstance(module, nn.RNNBase) else ReducedAttention
            model.set_submodule(name, kind(module, weights))
            continue
        for part, tensor in own.items():
            if "." not in part:
                holder = module._parameters if part in module._parameters else module._buffers
                holder[part] = tensor
        _tell_sizes_(module, name, removal)
        if name in removal.analysis.normalised:
            _tell_absent_(model, name, module, removal)


def _left(model: nn.Module, removal: Removal) -> dict[str, Tensor]:
    """What is left of each weight that changes, by each of its names."""
    names: dict[int, list[str]] = {}
    for name, tensor in named_weights(model):
        names.setdefault(id(tensor), []).append(name)
    made = {
        id(tensor): _sliced(tensor, names[id(tensor)], removal)
        for _, tensor in named_weights(model)
    }
    return {
        name: made[id(tensor)]
        for name, tensor in named_weights(model)
        if made[id(tensor)] is not tensor
    }


def _sliced(tensor: Tensor, names: list[str], removal: Removal) -> Tensor:
    axes: dict[int, Tensor] = {}
    for name in names:
        axes |= removal.analysis.weights.get(name, {})
    for labels in [removal.analysis.attributes.get(name) for name in names]:
        if labels is None:
            continue
        for axis in removal.analysis.classes.varying(labels):
            row = labels.movedim(axis, 0).reshape(labels.shape[axis], -1)[:, 0]
            axes.setdefault(axis, row)
    values = tensor.detach()
    for axis, row in axes.items():
        if removal.count(row) < len(row):
            values = removal.slice(values, axis, row)
    if values.shape == tensor.shape:
        return tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values.clone(), requires_grad=tensor.requires_grad)
    return values.clone()


def _tell_sizes_(module: Any, name: str, removal: Removal) -> None:
    """Let the numbers a layer tells about itself follow its weights."""
    groups = removal.analysis.groups_of.get(name)
    if isinstance(module, conv._ConvNd):
        if groups is not None:
            module.groups = removal.count(groups)
        rows, columns = module.weight.shape[:2]
        if isinstance(module, conv._ConvTransposeNd):
            module.in_channels, module.out_channels = rows, columns * module.groups
        else:
            module.in_channels, module.out_channels = columns * module.groups, rows
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def _tell_absent_(model: nn.Module, name: str, module: Any, removal: Removal) -> None:
    labels = removal.analysis.normalised[name]
    left = removal.count(labels)
    absent = len(labels) - left
    if not absent:
        return
    if isinstance(module, batchnorm._BatchNorm | instancenorm._InstanceNorm | ShiftBatchNorm):
        module.num_features = left
    elif isinstance(module, nn.LayerNorm):
        model.set_submodule(name, CountedLayerNorm(module, absent))
    elif name in removal.analysis.groups_of:
        module.num_groups = removal.count(removal.analysis.groups_of[name])
        if isinstance(module, nn.GroupNorm):
            module.num_channels = left
    elif isinstance(module, CountedLayerNorm):
        module.absent += absent
    elif isinstance(module, CountedGroupNorm):
        module.absent += absent // module.num_groups
    elif isinstance(module, nn.GroupNorm):
        model.set_submodule(name, CountedGroupNorm(module, absent // module.num_groups))
