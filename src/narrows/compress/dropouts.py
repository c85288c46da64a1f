"""Dropout of networks with fewer connections: it shrinks with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from narrows.compress.attention import ReducedAttention
from narrows.compress.recurrent import RecurrentStack
from narrows.compress.weight_layers import layers_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledDropout:
    """A dropout ratio of a network, and the layer whose connections it shrinks with.

        D_r = D_o · sqrt(C_r / C_o)

    Args:
        module: Qualified name of the module that has it.
        ratio: D_o, before connections went.
        owner: Qualified name of the module with the connections.
        connections: C_o, weights of it that are not zero.

    Reference:
        Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", NIPS 2015, arXiv 1506.02626, section 3.2.
    """

    module: str
    ratio: float
    owner: str
    connections: int

    def scale_(self, model: nn.Module) -> None:
        """Set the ratio for the connections that are left in a network, in place."""
        inside = dict(model.named_modules())
        if not {self.module, self.owner} <= inside.keys():
            return  # never called, so that the graph of a smaller network is without it
        share = _connections(model, self.owner) / max(self.connections, 1)
        holder, key = _holder(inside[self.module])
        setattr(holder, key, self.ratio * math.sqrt(share))


def scaled_dropouts(model: nn.Module) -> tuple[ScaledDropout, ...]:
    """The dropouts of a network, each with the last layer before it in module order.

    Recurrent and attention layers have their own. Dropout that is called as a function is not seen.
    """
    return tuple(_found(model))


def scale_dropouts_(smaller: nn.Module, whole: nn.Module) -> None:
    """Give dropouts the ratios that fit what is left of a whole network, in place."""
    for dropout in scaled_dropouts(whole):
        dropout.scale_(smaller)


def _found(model: nn.Module) -> Iterator[ScaledDropout]:
    owner, stack = None, None
    for name, module in model.named_modules():
        if isinstance(module, RecurrentStack):
            owner = stack = name
            continue
        inside = stack is not None and name.startswith(f"{stack}.")
        if inside and not isinstance(module, _DropoutNd):
            continue
        if any(True for _ in layers_of(name, module)):
            owner = name
        holder, key = _holder(module)
        if key and owner is not None:
            yield ScaledDropout(
                module=name,
                ratio=getattr(holder, key),
                owner=owner,
                connections=_connections(model, owner),
            )


def _holder(module: nn.Module) -> tuple[nn.Module, str]:
    """What holds a module's own ratio, and under which name; no name where it has none."""
    if isinstance(module, _DropoutNd):
        return module, "p"
    if isinstance(module, RecurrentStack):
        return module.dropout, "p"
    own = isinstance(module, nn.RNNBase | nn.MultiheadAttention | ReducedAttention)
    return module, "dropout" if own else ""


def _connections(model: nn.Module, owner: str) -> int:
    inside = model.get_submodule(owner).named_modules(prefix=owner)
    layers = [layer for each in inside for layer in layers_of(*each)]
    return sum(int(layer.value(model).count_nonzero()) for layer in layers)
