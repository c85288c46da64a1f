"""The definition of a cut, computed the slow way: take a tensor out and see what still connects."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

Edges = Sequence[tuple[set[str], set[str]]]


def separating(proto: onnx.ModelProto) -> set[str]:
    """Tensors whose removal leaves no path from the input to an output.

    Shape and Size are no paths: what they give depends on the batch size alone. Graphs in which a
    shape depends on the numbers themselves (NonZero and the like) are beyond this definition.

    Args:
        proto: A model with one input, its nodes in execution order.
    """
    source = proto.graph.input[0].name
    edges = [
        (_reads(node), set(node.output))
        for node in proto.graph.node
        if node.op_type not in ("Shape", "Size")
    ]
    data = _reached(edges, source, without=None)
    ends = {value.name for value in proto.graph.output} & data
    alive = {name for name in data if _reached(edges, name, without=None) & ends}
    return {name for name in alive if not _reached(edges, source, without=name) & ends}


def _reads(node: onnx.NodeProto) -> set[str]:
    """Inputs of a node and of the nodes in its subgraphs."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= _reads(inner)
    return names


def _reached(edges: Edges, start: str, *, without: str | None) -> set[str]:
    known = {start} - {without}
    for reads, makes in edges:
        if not known.isdisjoint(reads):
            known |= makes - {without}
    return known
