"""A network as a graph of calls, its layers whole."""

from __future__ import annotations

from typing import Any, TypeAlias, final

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from narrows.compress.attention import ReducedAttention
from narrows.compress.binary_layers import BinaryActivation, ShiftBatchNorm
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm, counted_layer_norm
from narrows.errors import ModelError

Example: TypeAlias = Tensor | tuple[Tensor, ...]
Origins: TypeAlias = dict[fx.Node, fx.Node]

_WHOLE = (
    *(ReducedAttention, CountedLayerNorm, CountedGroupNorm, BinaryActivation, ShiftBatchNorm),
    *(_BatchNorm, _ConvNd),
)


@final
class _LayerTracer(fx.Tracer):  # type: ignore[misc]
    """Keeps layers of torch.nn whole, those that stand for them, and others with branches.

    So are convolutions and batch normalisations that libraries derive from torch.nn's: what they
    do besides (padding, an activation) leaves units where they are, and every removal is checked.
    """

    def __init__(self, whole: tuple[type[nn.Module], ...]) -> None:
        super().__init__(autowrap_functions=(counted_layer_norm,))
        self._whole = (*_WHOLE, *whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one call of the graph."""
        whole = isinstance(m, self._whole) or type(m).__name__ == "StochasticDepth"
        return whole or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, *, whole: tuple[type[nn.Module], ...] = ()) -> fx.GraphModule:
    """The graph of calls of a network, as it runs when it does not train.

    Args:
        model: The network.
        whole: Kinds of layers that are one call, also where they are not torch.nn's own.

    Raises:
        ModelError: If the network's forward depends on values, so that it has no one graph.
    """
    try:
        graph = _LayerTracer(whole).trace(model)
    except Exception as error:
        name = type(model).__name__
        raise ModelError(
            f"{name} cannot be taken apart: torch.fx cannot trace it ({error}); take branches "
            "and loops that depend on values of tensors out of forward, or compress the part of "
            "the network that has none"
        ) from error
    return fx.GraphModule(model, graph)


def as_inputs(example: Example) -> tuple[Tensor, ...]:
    """The example as a tuple of inputs."""
    return (example,) if isinstance(example, Tensor) else tuple(example)


def name_of(target: Any) -> str:
    """The name of what a node calls: of a function, or of a tensor's method."""
    if isinstance(target, str):
        return target
    return str(getattr(target, "__name__", target))


def copy_graph(traced: fx.GraphModule, root: nn.Module) -> tuple[fx.GraphModule, Origins]:
    """The graph of a traced network over another copy of the network.

    Returns:
        The copy, and which node of the trace each of its nodes stands for.
    """
    graph = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(traced.graph, nodes))
    for node in graph.nodes:
        if node.op == "get_attr" and not hasattr(root, str(node.target).partition(".")[0]):
            setattr(root, str(node.target), getattr(traced, str(node.target)))
    return fx.GraphModule(root, graph), {new: old for old, new in nodes.items()}
