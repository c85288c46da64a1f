"""Which nodes of a graph with quantize and dequantize nodes become one integer kernel.

DequantizeLinear → operator → QuantizeLinear      one kernel, where the runtime has it
DequantizeLinear → any other → QuantizeLinear     three kernels, the middle one in floats
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from narrows.graph.cost import NodeCost

# Operators with an integer kernel of their own, and those that move integers as they are.
_COMPUTED = frozenset(
    {"Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Sigmoid", "LeakyRelu", "Softmax", "Where"}
    | {"AveragePool", "GlobalAveragePool"}
)
_MOVED = frozenset(
    {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice"}
    | {"Gather", "Expand", "Tile", "Resize", "DepthToSpace", "SpaceToDepth"}
)
_GIVES_FLOATS_TOO = frozenset({"Gemm", "MatMul"})
_ABSORBED = frozenset({"Relu", "Clip"})
# Those that read two values or a value and a constant, which then must be an integer as well.
_OPERANDS = frozenset({"Conv", "Gemm", "MatMul", "Add", "Mul"})


def integer_kernels(costs: Sequence[NodeCost]) -> Mapping[int, tuple[int, ...]]:
    """Position of the operator inside each integer kernel → all its nodes, itself first.

    A dequantize node that several kernels read is told to the first of them, and to none if an
    operator that computes in floats reads it too.

    Args:
        costs: The nodes in execution order.
    """
    graph = _Graph(costs)
    found: dict[int, list[int]] = {}
    for position, cost in enumerate(costs):
        after = graph.after(position)
        whole = bool(after) or cost.op_type in _GIVES_FLOATS_TOO
        if whole and cost.op_type in _COMPUTED | _MOVED and graph.reads_integers(cost):
            found[position] = [position, *after]
    taken: set[int] = set()
    for position, members in found.items():
        for name in costs[position].reads:
            before = graph.maker[name]
            if before not in taken and found.keys() >= set(graph.readers[name]):
                taken.add(before)
                members.append(before)
    return {position: tuple(members) for position, members in found.items()}


class _Graph:
    """Who makes and who reads each value."""

    def __init__(self, costs: Sequence[NodeCost]) -> None:
        self.costs = costs
        self.maker = {name: i for i, c in enumerate(costs) if c.is_data for name in c.makes}
        self.readers: dict[str, list[int]] = {}
        for position, cost in enumerate(costs):
            for name in cost.reads:
                self.readers.setdefault(name, []).append(position)

    def reads_integers(self, cost: NodeCost) -> bool:
        """Whether all an operator reads comes out of dequantize nodes."""
        makers = [self.maker.get(name) for name in cost.reads]
        integers = [i is not None and self._is(i, "DequantizeLinear") for i in makers]
        constants = cost.decoded if cost.op_type in _OPERANDS else (1,)
        return bool(integers) and all(integers) and (len(integers) > 1 or bool(constants))

    def after(self, position: int) -> list[int]:
        """The quantize nodes that alone read what it makes, and a cut of the range before them.

        Empty if anything else reads it.
        """
        found: list[int] = []
        for name in self.costs[position].makes:
            readers = self.readers.get(name, [])
            if len(readers) != 1:
                return []
            if self._is(readers[0], *_ABSORBED):
                inner = self.after(readers[0])
                if not inner:
                    return []
                found += [readers[0], *inner]
            elif self._is(readers[0], "QuantizeLinear"):
                found.append(readers[0])
            else:
                return []
        return found

    def _is(self, position: int, *kinds: str) -> bool:
        return self.costs[position].op_type in kinds
