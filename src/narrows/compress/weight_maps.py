"""Weights that are used in another form than they are learned: W_used = f(W).

    learned W ──f1──► ──f2──► used W      forward, in the order they were put on
            ◄──────── gradients ────────  through f, or straight through where the paper says so

A map sits on a tensor by `torch.nn.utils.parametrize`, so that any code that reads the weight gets
the used one, and its state is part of the network's `state_dict`. `bake` gives the same network
with the used weights as plain ones.

Recurrent layers keep a list of their weights of their own, which PyTorch does not bring up to date
in every version: a map would act on what is read and not on what is computed. Here that list is
made anew from the used weights whenever it is read.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from narrows.errors import ModelError


class WeightMap(nn.Module, ABC):  # type: ignore[misc]
    """From a weight as learned to the weight as used; what it remembers are buffers."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """The weight as used, of the same shape and type.

        It is called whenever the weight is read, so it changes nothing and draws nothing.
        """


@final
class Mask(WeightMap):
    """Use a weight where a mask is true, and zero elsewhere; no gradient reaches what is masked.

    So a masked weight is used as zero for good, whatever momentum and weight decay do to the
    learned one.

    Args:
        mask: Of the weight's shape, bool.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with zeros where it is masked."""
        return weight.masked_fill(~self.mask, 0.0)


def straight_through(learned: Tensor, used: Tensor) -> Tensor:
    """Exactly the used values; the gradient goes to the learned ones as if nothing were between.

    Example:
        >>> import torch
        >>> learned = torch.tensor([0.3, -0.1], requires_grad=True)
        >>> used = straight_through(learned, torch.tensor([1.0, 0.0]))
        >>> (used * torch.tensor([2.0, 5.0])).sum().backward()
        >>> used.tolist(), learned.grad.tolist()
        ([1.0, 0.0], [2.0, 5.0])
    """
    through: Tensor = _StraightThrough.apply(learned, used)
    return through


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]
    """One value forwards, another's gradient backwards, and no arithmetic in either."""

    @staticmethod
    def forward(ctx: Any, learned: Tensor, used: Tensor) -> Tensor:
        """The used values."""
        return used.view_as(used)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """By the learned ones."""
        return gradient, None


def put_map_(owner: nn.Module, tensor: str, made: WeightMap) -> None:
    """Put a map on a weight, after those that are on it; changes the layer in place.

    Args:
        owner: The layer that has the weight itself.
        tensor: Name of the weight in it, e.g. "weight" or "weight_hh_l0".
        made: The map.

    Raises:
        ModelError: The layer has no such weight.
    """
    mapped = parametrize.is_parametrized(owner, tensor)
    if not mapped and owner._parameters.get(tensor) is None:
        known = ", ".join(name for name, value in owner._parameters.items() if value is not None)
        msg = f"a {type(owner).__name__} has no weight {tensor!r}: it has {known or 'none'}"
        raise ModelError(msg)
    parametrize.register_parametrization(owner, tensor, made)
    if isinstance(owner, nn.RNNBase):
        # The class is the one parametrize made for this layer alone. A property also keeps
        # tensors inside a gradient graph, which cannot be copied, out of the layer's state.
        owner.__dict__.pop("_flat_weights", None)
        kind = type(owner)
        kind._flat_weights = property(_used_weights, _ignored)
        kind.flatten_parameters = _ignored


def maps_in(model: nn.Module) -> Iterator[tuple[nn.Module, str, WeightMap]]:
    """Every map of a network, with the layer and the name of the weight it is on."""
    for owner in model.modules():
        if parametrize.is_parametrized(owner):
            for tensor, stack in owner.parametrizations.items():
                yield from ((owner, tensor, one) for one in stack if isinstance(one, WeightMap))


def before_map(owner: nn.Module, tensor: str, made: WeightMap) -> Tensor:
    """The weight as a map on it is given it: as learned, through the maps before.

    Args:
        owner: The layer.
        tensor: Name of the weight in it.
        made: A map that is on it.
    """
    stack = owner.parametrizations[tensor]
    value: Tensor = stack.original
    for one in stack:
        if one is made:
            break
        value = one(value)
    return value


def bake(model: nn.Module) -> nn.Module:
    """A copy of a network whose used weights are its plain weights, with no maps.

    Args:
        model: Left as it is.
    """
    made = copy.deepcopy(model)
    for owner in list(made.modules()):
        if parametrize.is_parametrized(owner):
            _bake_(owner)
    return made


def _bake_(owner: nn.Module) -> None:
    used: dict[str, nn.Parameter] = {}
    for tensor, stack in owner.parametrizations.items():
        learned = any(value.requires_grad for value in stack.parameters())
        used[tensor] = nn.Parameter(getattr(owner, tensor).detach().clone(), learned)
    # Not remove_parametrizations: copies of a layer share the class it takes properties from.
    owner.__class__ = parametrize.type_before_parametrizations(owner)
    del owner.parametrizations
    found = used | owner._parameters
    if isinstance(owner, nn.RNNBase):
        owner._parameters = {name: found[name] for name in owner._flat_weights_names}
        owner._init_flat_weights()
    else:
        owner._parameters = found


def _used_weights(owner: nn.RNNBase) -> list[Tensor | None]:
    return [getattr(owner, name, None) for name in owner._flat_weights_names]


def _ignored(owner: nn.RNNBase, weights: object = None) -> None:
    """The list is never kept, so there is none to set or to put into one block of memory."""
