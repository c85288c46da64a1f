"""A traced network run call by call, so that a method can change what chosen calls give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, fx, nn

from narrows.compress.tracing import name_of

After = Callable[[fx.Node, Tensor], Tensor]


def run_nodes(traced: fx.GraphModule, x: Tensor, after: After) -> Any:
    """The answer of a network, of which each tensor that a call gives goes through `after`.

    Args:
        traced: Takes one input.
        x: A batch; it goes through `after`, too.
        after: From a call and its tensor to the tensor that goes on.
    """
    return _Running(traced, after).run(x)


def kind_of(traced: fx.GraphModule, node: fx.Node) -> str:
    """What a node calls: the class of a layer, or the name of a function or method.

    Example:
        >>> from narrows.compress.tracing import trace
        >>> traced = trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        >>> [kind_of(traced, node) for node in traced.graph.nodes]
        ['placeholder', 'Linear', 'ReLU', 'output']
    """
    if node.op == "call_module":
        return type(layer_of(traced, node)).__name__.removeprefix("Parametrized")
    return name_of(node.target) if node.op in ("call_function", "call_method") else node.op


def layer_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The layer that a node calls."""
    return traced.get_submodule(str(node.target))


def called(traced: fx.GraphModule, node: fx.Node) -> str:
    """A node as a message names it: the layer's name or the call's, and what it is."""
    name = node.target if node.op == "call_module" else node.name
    return f"{str(name)!r} ({kind_of(traced, node)})"


@final
class _Running(fx.Interpreter):  # type: ignore[misc]
    """Runs every node, and hands its tensor on."""

    def __init__(self, traced: fx.GraphModule, after: After) -> None:
        super().__init__(traced)
        self._after = after

    def run_node(self, n: fx.Node) -> Any:
        """What the node gives, after `after`."""
        found = super().run_node(n)
        passed = n.op not in ("output", "get_attr") and isinstance(found, Tensor)
        return self._after(n, found) if passed else found
