"""The order of layers in a binary network: a chain in which only signs meet binary weights.

    input ─► linear or convolution ─► (maximum) ─► normalisation ─► activation ─► ... the next
                                                             last ─► normalisation ─► output

Dropout may stand anywhere, and so may flattening, of all axes but the first. What is in another
order is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, final

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from narrows.compress.binary_layers import ShiftBatchNorm
from narrows.compress.layer_rules import ELEMENTWISE
from narrows.compress.tracing import name_of, trace
from narrows.errors import ModelError

_WEIGHTS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS: Final = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_NORMS: Final = (_BatchNorm, ShiftBatchNorm)
_PASSING: Final = (nn.Identity, nn.Flatten, _DropoutNd)
# What a layer gives, by what may come of it.
_INPUT, _SUMS, _NORMAL = "the input", "sums", "normalised values"
_SIGNS, _REAL = "signs", "real values"


@final
@dataclass(slots=True, kw_only=True)
class Block:
    """One layer with binary weights, with what stands around it; names of modules.

    Args:
        weight: The linear layer or convolution.
        reads: The activation whose signs it reads, or None where it reads the network's input.
        flatten: Whether its input was flattened, since the layer before or by itself.
        pool: The maximum after it, or None.
        norm: Its normalisation.
        ends: Whether the network ends with it.
    """

    weight: str
    reads: str | None
    flatten: bool
    pool: str | None = None
    norm: str = ""
    ends: bool = False


def binary_blocks(model: nn.Module, skip: Collection[str] = ()) -> tuple[Block, ...]:
    """The layers that have or will have binary weights, in their order.

    Args:
        model: A network that is one chain.
        skip: Names of layers whose weights stay real; any values may meet these, and they need no
            normalisation at the end.

    Raises:
        ModelError: The network is no such chain; the message names the layer and says why.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> binary_blocks(net)
        Traceback (most recent call last):
        narrows.errors.ModelError: layer '3': the last one has no normalisation: put one after it
        >>> [block.reads for block in binary_blocks(net.append(nn.BatchNorm1d(2)))]
        [None, '2']
    """
    walk = _Walk(model=model, skip=tuple(skip))
    before: fx.Node | None = None
    for node in trace(model).graph.nodes:
        read = [each for each in node.all_input_nodes if each.op != "get_attr"]
        if node.op == "output":
            break
        if node.op == "get_attr" or read != ([] if before is None else [before]):
            name = str(node.target) if node.op in ("call_module", "get_attr") else node.name
            what = "it reads more, or other things, than what the layer before gives"
            raise _refused(name, what, "binary networks are one chain of layers")
        before = node
        if node.op == "call_module":
            walk.layer(str(node.target), model.get_submodule(str(node.target)))
        elif node.op != "placeholder":
            walk.call(node)
    return walk.end()


@final
@dataclass(slots=True, kw_only=True)
class _Walk:
    """What was met so far."""

    model: nn.Module
    skip: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)
    given: str = _INPUT
    last: str = ""
    real: bool = False  # whether the weights met last stay real
    flat: bool = False  # whether what the weights met last gave is flattened
    pictures: bool = False  # whether what is given surely has positions

    def layer(self, name: str, layer: nn.Module) -> None:
        """Take the next layer in."""
        if isinstance(layer, _PASSING):
            if isinstance(layer, nn.Flatten):
                self._flatten(name, layer.start_dim, layer.end_dim)
        elif isinstance(layer, _WEIGHTS):
            self._weight(name, layer)
        elif isinstance(layer, _NORMS) and self.given == _SUMS:
            self._norm(name, layer)
        elif isinstance(layer, ELEMENTWISE) and self.given == _NORMAL:
            self.given, self.last = _SIGNS, name
        elif self.real:
            pooled = isinstance(layer, _POOLS)
            self.given = _SUMS if pooled and self.given == _SUMS else _REAL
            self.pictures = self.pictures and pooled
        elif isinstance(layer, _POOLS):
            self._pool(name)
        else:
            self._refuse(name, layer)

    def call(self, node: fx.Node) -> None:
        """Take a call of a function in; only flattening is known."""
        name = name_of(node.target)
        if name == "flatten":
            asked = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False))
            asked = {"start_dim": 0, "end_dim": -1} | asked | node.kwargs
            self._flatten(node.name, asked["start_dim"], asked["end_dim"])
            return
        advice = "make it a layer of torch.nn, e.g. nn.ReLU or nn.Flatten"
        raise _refused(str(node.name), f"{name} is called as a function", advice)

    def end(self) -> tuple[Block, ...]:
        """What was found.

        Raises:
            ModelError: The end is not normalised, or there is nothing.
        """
        if not self.real and self.given == _SIGNS:
            raise _refused(self.last, "the network ends with it", "leave this activation out")
        if not self.real and self.given == _SUMS:
            raise _refused(self.last, "the last one has no normalisation", "put one after it")
        if not self.blocks:
            msg = f"no layer of {type(self.model).__name__} can have binary weights: add one"
            raise ModelError(msg)
        self.blocks[-1].ends = not self.real
        return tuple(self.blocks)

    def _flatten(self, name: str, first: Any, last: Any) -> None:
        if (first, last) != (1, -1):
            what = f"it flattens axes {first} to {last}"
            raise _refused(name, what, "flatten all but the first, e.g. by nn.Flatten()")
        self.flat, self.pictures = True, False

    def _weight(self, name: str, layer: nn.Module) -> None:
        self.real = name in self.skip
        linear = isinstance(layer, nn.Linear)
        if not self.real:
            if self.given not in (_INPUT, _SIGNS):
                advice = "put a normalisation and an activation before it"
                raise _refused(name, f"it reads {self.given}, not signs", advice)
            if linear and self.pictures:
                what = "it is linear along the last axis of pictures"
                raise _refused(name, what, "put nn.Flatten before it")
            reads = self.last if self.given == _SIGNS else None
            self.blocks.append(Block(weight=name, reads=reads, flatten=self.flat))
        self.given, self.last, self.flat = _SUMS, name, False
        self.pictures = self.pictures if linear else True

    def _norm(self, name: str, layer: nn.Module) -> None:
        if layer.running_mean is None:
            raise _refused(name, "it keeps no running means", "set track_running_stats")
        self.given = _NORMAL
        if not self.real:
            self._check_norm(name, layer)
            self.blocks[-1].norm = name

    def _check_norm(self, name: str, layer: nn.Module) -> None:
        """See that it normalises outputs of the weights, each over all positions."""
        owner = self.model.get_submodule(self.last)
        outputs = len(owner.weight)
        if layer.num_features != outputs:
            what = f"it normalises {layer.num_features} values, layer {self.last!r} has {outputs}"
            raise _refused(name, f"{what} outputs", "flatten after it, or give it as many")
        if isinstance(owner, nn.Linear) and isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            what = f"it is a {type(layer).__name__} after the linear layer {self.last!r}"
            raise _refused(name, what, "take nn.BatchNorm1d, and nn.Flatten before pictures")

    def _pool(self, name: str) -> None:
        if self.given != _SUMS:
            advice = "put it between the convolution and its normalisation"
            raise _refused(name, f"it takes the maximum of {self.given}", advice)
        if self.blocks[-1].pool is not None:
            raise _refused(name, "it is a second maximum", "leave one out")
        self.blocks[-1].pool = name

    def _refuse(self, name: str, layer: nn.Module) -> None:
        """Say why a layer cannot stand here."""
        if isinstance(layer, _NORMS):
            advice = "put it after a linear layer or convolution and before the activation"
            raise _refused(name, f"it normalises {self.given}", advice)
        if isinstance(layer, ELEMENTWISE):
            raise _refused(name, f"it activates {self.given}", "put a normalisation before it")
        what = f"it is a {type(layer).__name__}"
        advice = "binary networks have linear layers, convolutions, maxima, normalisation and "
        raise _refused(name, what, advice + "activations only")


def _refused(name: str, what: str, advice: str) -> ModelError:
    return ModelError(f"layer {name!r}: {what}: {advice}")
