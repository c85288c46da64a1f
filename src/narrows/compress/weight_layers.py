"""The weight matrices of a network that can be made sparse, each a layer of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from narrows.compress.attention import ReducedAttention
from narrows.compress.weight_maps import Mask, put_map_
from narrows.errors import ModelError, shown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayer:
    """One weight matrix or kernel, and the bias that goes with it.

    Args:
        name: The module's, e.g. "conv1"; where a module has several matrices with the tensor's,
            e.g. "lstm.weight_hh_l0".
        module: Qualified name of the module that has it.
        weight: Name of the tensor in the module.
        bias: Name of the bias in the module, or None.
    """

    name: str
    module: str
    weight: str
    bias: str | None

    def value(self, model: nn.Module) -> Tensor:
        """The weight as the network uses it, outside any gradient."""
        found: Tensor = getattr(model.get_submodule(self.module), self.weight)
        return found.detach()


def weight_layers(model: nn.Module, skip: Collection[str] = ()) -> tuple[WeightLayer, ...]:
    """The weights of linear, convolutional, recurrent and attention layers, in module order.

    Each of a recurrent layer's matrices (input and hidden, of every level and direction) is a layer
    of its own. Embeddings, normalisation and parameters of a user's own modules are none.

    Args:
        model: Any network.
        skip: Names of layers to leave out.

    Raises:
        ModelError: No layer has a name of `skip`, no layer is left, a weight has no numbers, or is
            shared by two modules.

    Example:
        >>> [layer.name for layer in weight_layers(nn.Sequential(nn.Linear(4, 3), nn.GRU(3, 2)))]
        ['0', '1.weight_ih_l0', '1.weight_hh_l0']
    """
    layers = (layer for each in model.named_modules() for layer in layers_of(*each))
    found = {layer.name: layer for layer in layers}
    refuse_unknown(skip, found)
    kept = tuple(layer for name, layer in found.items() if name not in skip)
    if not kept:
        kinds = "linear, convolutional, recurrent or attention"
        what = f"{shown(tuple(found))}, all skipped" if found else f"no {kinds} layer"
        raise ModelError(f"no layer to make sparse: {type(model).__name__} has {what}")
    for layer in kept:
        refuse_empty(layer.name, layer.value(model))
    _refuse_shared(model, kept)
    return kept


def hold_zeros_(model: nn.Module) -> None:
    """Put masks on layers some of whose weights are zero, so that training leaves these zero.

    A weight that is zero throughout has yet to be learned and is left alone. `bake` takes the masks
    away again.

    Args:
        model: Changed in place.

    Raises:
        ModelError: Such a weight is shared by two modules.
    """
    for layer, mask in masks_of_pruned(model):
        put_map_(model.get_submodule(layer.module), layer.weight, Mask(mask))


def masks_of_pruned(model: nn.Module) -> tuple[tuple[WeightLayer, Tensor], ...]:
    """Where weights are not zero, of the layers in which some are.

    Raises:
        ModelError: Such a weight is shared by two modules.
    """
    pruned = []
    for name, module in model.named_modules():
        for layer in layers_of(name, module):
            share = float((layer.value(model) == 0).double().mean())
            pruned += [layer] if 0 < share < 1 else []
    _refuse_shared(model, tuple(pruned))
    return tuple((layer, layer.value(model) != 0) for layer in pruned)


def refuse_empty(name: str, weight: Tensor) -> None:
    """See that a weight has numbers.

    Raises:
        ModelError: It has none.
    """
    if not weight.numel():
        shape = " × ".join(map(str, weight.shape))
        msg = (
            f"the weight of {name!r} is {shape}, which is no number: take the layer out or skip it"
        )
        raise ModelError(msg)


def refuse_not_finite(model: nn.Module) -> None:
    """See that no parameter or running statistic is infinite, and no other buffer NaN.

    A sign hides what is not finite: a network would train and answer as if it were.

    Raises:
        ModelError: One is; the message names it.
    """
    values = (*model.named_parameters(), *model.named_buffers())
    masks = {name for name, _ in model.named_buffers() if ".running_" not in f".{name}"}
    for name, value in values:
        wrong = value.isnan() if name in masks else ~value.isfinite()
        if bool(wrong.any()):
            msg = f"{name!r} is not finite throughout: train the network again"
            raise ModelError(msg)


def refuse_unknown(asked: Collection[str], known: Collection[str]) -> None:
    """See that all names asked for are names of layers.

    Raises:
        ModelError: One is not.
    """
    if wrong := [name for name in asked if name not in known]:
        msg = f"no layer is named {shown(wrong)}: the layers are {shown(tuple(known))}"
        raise ModelError(msg)


def layers_of(name: str, module: nn.Module) -> Iterator[WeightLayer]:
    """The weights that a module has itself.

    Args:
        name: Of the module in its network.
        module: Any.
    """
    if isinstance(module, nn.Linear | _ConvNd):
        bias = None if module.bias is None else "bias"
        yield WeightLayer(name=name or "weight", module=name, weight="weight", bias=bias)
        return
    pairs: dict[str, str | None] = {}
    if isinstance(module, nn.RNNBase):
        names = [one for one in module._flat_weights_names if one.startswith("weight_")]
        pairs = {one: one.replace("weight", "bias") for one in names}
    elif isinstance(module, nn.RNNCellBase):
        pairs = {"weight_ih": "bias_ih", "weight_hh": "bias_hh"}
    elif isinstance(module, nn.MultiheadAttention | ReducedAttention):
        three = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        joint = module.in_proj_weight is not None
        pairs = {"in_proj_weight": "in_proj_bias"} if joint else dict.fromkeys(three)
    for weight, bias in pairs.items():
        there = bias is not None and getattr(module, bias, None) is not None
        full = f"{name}.{weight}" if name else weight
        yield WeightLayer(name=full, module=name, weight=weight, bias=bias if there else None)


def _refuse_shared(model: nn.Module, layers: tuple[WeightLayer, ...]) -> None:
    owners = defaultdict(list)
    for name, value in model.named_parameters(remove_duplicate=False):
        owners[id(value)].append(name)
    for layer in layers:
        weight = model.get_submodule(layer.module)._parameters.get(layer.weight)
        names = owners.get(id(weight), [])
        if len(names) > 1:
            msg = f"the weight of {layer.name!r} is shared ({shown(names)}): skip these layers"
            raise ModelError(msg)
