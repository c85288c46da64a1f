"""A traced network run call by call, so that a method can change what chosen calls give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from narrows.compress.tracing import name_of

After = Callable[[fx.Node, Tensor], Tensor]


def run_nodes(traced: fx.GraphModule, x: Tensor, after: After) -> Any:
    """The answer of a network, of which each tensor that a call gives goes through `after`.

    Args:
        traced: Takes one input.
        x: A batch; it goes through `after`, too, and so do parameters and buffers that calls read.
        after: From a call and its tensor to the tensor that goes on.
    """
    return _Running(traced, after).run(x)


def kind_of(traced: fx.GraphModule, node: fx.Node) -> str:
    """What a node calls: the class of a layer, or the name of a function or method.

    A layer that a library derives from one of torch.nn is taken for that one.

    Example:
        >>> from narrows.compress.tracing import trace
        >>> traced = trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        >>> [kind_of(traced, node) for node in traced.graph.nodes]
        ['placeholder', 'Linear', 'ReLU', 'output']
    """
    if node.op == "call_module":
        kinds = type(layer_of(traced, node)).__mro__
        known = [kind for kind in kinds if kind.__module__.startswith("torch.nn.modules.")]
        return (kinds[0] if known[0] is nn.Module else known[0]).__name__
    return name_of(node.target) if node.op in ("call_function", "call_method") else node.op


def layer_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The layer that a node calls."""
    return traced.get_submodule(str(node.target))


def called(traced: fx.GraphModule, node: fx.Node) -> str:
    """A node as a message names it: the layer's name or the call's, and what it is."""
    name = node.target if node.op == "call_module" else node.name
    return f"{str(name)!r} ({kind_of(traced, node)})"


def with_weights(model: nn.Module, traced: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation mode, with what another of the same names has learned.

    Args:
        model: Copied; it says type and place of everything.
        traced: Made of it, and trained; it may lack what is not called.
    """
    made, found = copy.deepcopy(model), traced.state_dict()
    with torch.no_grad():
        for name, value in (*made.named_parameters(), *made.named_buffers()):
            if name in found:
                value.copy_(found[name])
    made.eval()
    return made


@final
class _Running(fx.Interpreter):  # type: ignore[misc]
    """Runs every node, and hands its tensor on."""

    def __init__(self, traced: fx.GraphModule, after: After) -> None:
        super().__init__(traced)
        self._after = after

    def run_node(self, n: fx.Node) -> Any:
        """What the node gives, after `after`."""
        found = super().run_node(n)
        passed = n.op != "output" and isinstance(found, Tensor)
        return self._after(n, found) if passed else found
