"""The smaller network: sliced layers, and a graph whose constants fit them."""

from __future__ import annotations

import copy
import operator
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from narrows.compress.counted import counted_layer_norm
from narrows.compress.slicing import Removal, slice_weights_
from narrows.compress.tracing import copy_graph, name_of

_SHAPING = frozenset({"view", "reshape", "expand"})
_PARTING = frozenset({"chunk", "split", "tensor_split"})


def rewrite(model: nn.Module, removal: Removal, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A copy of a network without the units that go.

    Args:
        model: The network that was analysed, or a copy with other values.
        removal: What goes.
        inputs: The example of the analysis.

    Returns:
        The copied module where no constant of its forward had to change, else its graph; its
        graph, too, where parts of the network (auxiliary classifiers) have no part in the answer.
    """
    smaller = copy.deepcopy(model)
    training = {name: module.training for name, module in smaller.named_modules()}
    slice_weights_(smaller, removal)
    smaller.eval()
    module, origins = copy_graph(removal.analysis.module, smaller)
    adjusting = _Adjusting(module, origins, removal)
    with torch.no_grad():
        adjusting.run(*inputs)
    result = smaller
    unused = {name for name, _ in smaller.named_parameters()} - {
        name for name, _ in module.named_parameters()
    }
    if adjusting.changed or unused:
        module.graph.lint()
        module.recompile()
        result = module
    for name, part in result.named_modules():
        part.training = training.get(name, model.training)
    return result


@final
class _Adjusting(fx.Interpreter):  # type: ignore[misc]
    """Runs the smaller network and sets right, before each call, the sizes written into it."""

    def __init__(
        self, module: fx.GraphModule, origins: dict[fx.Node, fx.Node], removal: Removal
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._origins = origins
        self._removal = removal
        self.changed = False

    def run_node(self, n: fx.Node) -> Any:
        """One node, its constants set right before."""
        old = self._origins.get(n)
        if old is not None and n.op in ("call_function", "call_method"):
            before = (n.target, n.args, n.kwargs)
            self._adjust(n, old, name_of(n.target))
            self.changed = self.changed or before != (n.target, n.args, n.kwargs)
        elif old is not None and n.op == "call_module":
            self._adjust_layer(n, old)
        return super().run_node(n)

    def _adjust(self, node: fx.Node, old: fx.Node, name: str) -> None:
        labels = self._removal.analysis.labels
        made = labels[old]
        source = labels[old.args[0]] if old.args and isinstance(old.args[0], fx.Node) else None
        if name in _SHAPING and isinstance(made, Tensor):
            self._reshape(node, made)
        elif name == "unflatten" and isinstance(made, Tensor) and len(node.args) == 3:
            axis, sizes = node.args[1] % made.ndim, node.args[2]
            left = self._removal.shape(made)[axis : axis + len(sizes)]
            node.args = (node.args[0], axis, self._sizes(sizes, left))
        elif name in _PARTING and isinstance(made, tuple):
            self._part(node, made)
        elif node.target is operator.getitem and isinstance(source, Tensor):
            if isinstance(made, Tensor):
                node.args = (node.args[0], self._index(node.args[1], source))
        elif name in ("layer_norm", "counted_layer_norm"):
            self._normalise(node, old, name)

    def _adjust_layer(self, node: fx.Node, old: fx.Node) -> None:
        layer = self.module.get_submodule(str(node.target))
        made = self._removal.analysis.labels[old]
        if isinstance(layer, nn.Unflatten) and isinstance(made, Tensor):
            count = len(layer.unflattened_size)
            axis = layer.dim % (made.ndim - count + 1)
            left = self._removal.shape(made)[axis : axis + count]
            layer.unflattened_size = self._sizes(tuple(layer.unflattened_size), left)

    def _value(self, argument: Any) -> Any:
        return self.env[argument] if isinstance(argument, fx.Node) else argument

    def _sizes(self, sizes: Any, left: list[int]) -> Any:
        """Sizes of a view: those that no longer fit are written anew."""
        result = []
        for size, wanted in zip(sizes, left, strict=True):
            value = self._value(size)
            result.append(size if value in (-1, wanted) else wanted)
        return type(sizes)(result)

    def _reshape(self, node: fx.Node, made: Tensor) -> None:
        left = self._removal.shape(made)
        if len(node.args) == 2 and not isinstance(node.args[1], int):
            whole = node.args[1]
            if isinstance(whole, fx.Node):
                value = self.env[whole]
                if isinstance(value, int):
                    return
                if list(value) != left:
                    node.args = (node.args[0], tuple(left))
                return
            node.args = (node.args[0], self._sizes(tuple(whole), left))
            return
        node.args = (node.args[0], *self._sizes(tuple(node.args[1:]), left))

    def _part(self, node: fx.Node, made: tuple[Any, ...]) -> None:
        axis = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        axis = int(axis) % made[0].ndim
        left = [self._removal.shape(part)[axis] for part in made]
        if left != [part.shape[axis] for part in made]:
            node.op, node.target = "call_function", torch.split
            node.args, node.kwargs = (node.args[0], left, axis), {}

    def _index(self, index: Any, source: Tensor) -> Any:
        """Bounds of slices, and single places, among what is left."""
        axes = self._removal.analysis.classes.varying(source)
        if len(axes) != 1:
            return index
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(isinstance(part, Tensor | list) for part in parts):
            return index
        axis, place = 0, None
        for number, part in enumerate(parts):
            if part is Ellipsis:
                taken = sum(each is not None for each in parts[number + 1 :])
                axis = source.ndim - taken
                continue
            if part is None:
                continue
            if axis == axes[0]:
                place = number
            axis += 1
        if place is None:
            return index
        row = source.movedim(axes[0], 0).reshape(source.shape[axes[0]], -1)[:, 0]
        parts[place] = self._bounds(parts[place], self._removal.kept(row))
        return tuple(parts) if isinstance(index, tuple) else parts[0]

    def _bounds(self, part: Any, kept: Tensor) -> Any:
        if isinstance(part, int):
            return int(kept[: part % len(kept)].sum())
        whole = isinstance(part, slice) and part.start is None and part.stop is None
        if whole or not isinstance(part, slice) or part.step not in (None, 1):
            return part
        if isinstance(part.start, fx.Node) or isinstance(part.stop, fx.Node):
            return part
        start, stop, _ = part.indices(len(kept))
        ends = part.stop is None
        return slice(int(kept[:start].sum()), None if ends else int(kept[:stop].sum()))

    def _normalise(self, node: fx.Node, old: fx.Node, name: str) -> None:
        labels = self._removal.analysis.labels[old.args[0]]
        assert isinstance(labels, Tensor)
        size = labels.shape[-1]
        absent = size - self._removal.shape(labels)[-1]
        if not absent:
            return
        names = ["weight", "bias", "eps", "absent"]
        if name == "layer_norm":
            names.insert(0, "normalized_shape")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        absent += given.get("absent", 0)
        node.target, node.kwargs = counted_layer_norm, {}
        node.args = (
            node.args[0], given.get("weight"), given.get("bias"), given.get("eps", 1e-5), absent
        )  # fmt: skip
