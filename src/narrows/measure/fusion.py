"""Which nodes of a graph a runtime computes in one kernel, by the rules of ONNX Runtime.

What follows a convolution (batch norm, scale, residual addition, one activation) is done inside
it; Gelu and x·sigmoid(x) written in several nodes are one kernel; quantize and dequantize nodes
around an operator vanish into its integer kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from narrows.graph.cost import NodeCost

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger"})
PRODUCTS = frozenset(
    {"Gemm", "MatMul", "FusedMatMul", "QLinearMatMul", "QGemm", "MatMulInteger"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
CLIPPING = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu"})
_FUSED_ACTIVATIONS = CLIPPING | {"Relu", "Sigmoid", "Tanh"}
_GEMM_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu"})


_BLOCKED_PAIRS = frozenset({"Add", "Sum", "Mul"})
_BLOCKED_ALONE = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
    | {"Relu", "Sigmoid", "Tanh", "Clip"}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Who does whose work.

    Args:
        members: Position of the node a kernel is named after → the nodes it does, itself first.
        in_blocks: The kernels that work on channels in blocks, by that position.
    """

    members: Mapping[int, tuple[int, ...]]
    in_blocks: frozenset[int]


def groups(costs: Sequence[NodeCost], *, lanes: int) -> Groups:
    """The kernels of a graph.

    Args:
        costs: The nodes in execution order; nodes that work on constants and shapes are left out.
        lanes: Channels in a block of the convolutions' layout; 0 where there is none.
    """
    return _Grouping(costs=costs, lanes=lanes).groups()


@dataclass(slots=True, kw_only=True)
class _Grouping:
    """Which node's kernel does the work of which nodes."""

    costs: Sequence[NodeCost]
    lanes: int
    maker: dict[str, int] = field(default_factory=dict)
    readers: dict[str, list[int]] = field(default_factory=dict)
    host: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    in_blocks: set[int] = field(default_factory=set)

    def groups(self) -> Groups:
        for position, cost in enumerate(self.costs):
            for name in cost.makes:
                self.maker[name] = position
            for name in cost.reads:
                self.readers.setdefault(name, []).append(position)
        for position, cost in enumerate(self.costs):
            if cost.is_data:
                self._place(position, cost)
        for position in reversed(list(self.host)):
            self.host[position] = self._prefixed(position)
        members: dict[int, tuple[int, ...]] = {h: (h,) for h in sorted(set(self.host.values()))}
        for position, host in self.host.items():
            if position != host:
                members[host] = (*members[host], position)
        return Groups(members=members, in_blocks=frozenset(self.in_blocks))

    def _place(self, position: int, cost: NodeCost) -> None:
        host = self._host(position, cost)
        self.host[position] = host
        if host == position and self.lanes and self._works_in_blocks(cost):
            self.in_blocks.add(position)
        if host in self.in_blocks:
            self.blocked.update(cost.makes)

    def _host(self, position: int, cost: NodeCost) -> int:
        """The latest kernel before this node that does its work too, or the node itself."""
        makers = [self.maker[name] for name in cost.reads if name in self.maker]
        for maker in sorted(makers, reverse=True):
            host = self.host[maker]
            if host in self.finished or not self._closes(position, maker, host):
                continue
            op = self.costs[host].op_type
            if op in CONVOLUTIONS and len(self.costs[host].in_shape) == 4:
                taken = self._convolution_takes(host, cost)
            elif op == "BatchNormalization":
                taken = host in self.in_blocks and cost.op_type in _FUSED_ACTIVATIONS
            else:
                taken = cost.op_type in _TAKEN.get(op, frozenset())
            if taken:
                if cost.op_type in _FUSED_ACTIVATIONS or cost.op_type == "QuantizeLinear":
                    self.finished.add(host)
                return host
        return position

    def _closes(self, position: int, maker: int, host: int) -> bool:
        """Whether what the host has made so far is read by this node alone.

        x·sigmoid(x) and Gelu read their own input a second time.
        """
        inside = self.costs[host].op_type in ("Sigmoid", "HardSigmoid", "Erf")
        if inside and self.costs[position].op_type == "Mul":
            start = set(self.costs[host].reads)
            for before in self.costs[host].reads:
                start.update(self.costs[self.maker[before]].reads if before in self.maker else ())
            reads = set(self.costs[position].reads) - set(self.costs[maker].makes)
            if not reads <= start or (not reads and self.costs[host].op_type != "Erf"):
                return False
        return all(
            self.readers[n] == [position] for n in self.costs[maker].makes if n in self.readers
        )

    def _works_in_blocks(self, cost: NodeCost) -> bool:
        if cost.op_type in ("Conv", "FusedConv") and len(cost.in_shape) == 4:
            return convolves_in_blocks(cost, self.lanes)
        if not cost.reads or any(name not in self.blocked for name in cost.reads):
            return False
        if len(cost.out_shape) != 4 or cost.out_shape[1] % self.lanes:
            return False
        if cost.op_type in _BLOCKED_PAIRS:
            return len(cost.reads) > 1 and cost.in_bytes == len(cost.reads) * cost.out_bytes
        return cost.op_type in _BLOCKED_ALONE or (
            cost.op_type == "Concat" and cost.in_shape[1] % self.lanes == 0
        )

    def _convolution_takes(self, host: int, cost: NodeCost) -> bool:
        if cost.op_type in _FUSED_ACTIVATIONS or cost.op_type == "BatchNormalization":
            return True
        if cost.op_type == "QuantizeLinear":
            return self._reads_integers(host)
        same_size = cost.in_bytes == len(cost.reads) * cost.out_bytes
        if cost.op_type == "Add":
            together = host not in self.in_blocks or self.blocked.issuperset(cost.reads)
            return same_size and together and not self._reads_integers(host)
        return cost.op_type == "Mul" and len(cost.reads) == 1

    def _reads_integers(self, position: int) -> bool:
        makers = [self.maker.get(name, -1) for name in self.costs[position].reads]
        return bool(makers) and all(
            maker >= 0 and self.costs[maker].op_type == "DequantizeLinear" for maker in makers
        )

    def _prefixed(self, position: int) -> int:
        """The reader that swallows this node, where it does; its own host otherwise."""
        cost, host = self.costs[position], self.host[position]
        readers = [r for name in cost.makes for r in self.readers.get(name, ())]
        into = {self.host.get(reader, reader) for reader in readers}
        if host != position or len(into) != 1:
            return host
        reader = into.pop()
        op = self.costs[reader].op_type
        constant = len(cost.reads) == 1
        swallowed = (
            (constant and op == "Erf" and cost.op_type in ("Add", "Div", "Mul"))
            or (constant and op == "MatMul" and cost.op_type in ("Div", "Mul"))
            or (cost.op_type == "DequantizeLinear" and self._reads_integers(reader))
        )
        return reader if swallowed else host


_TAKEN: dict[str, frozenset[str]] = {
    "Conv": _GEMM_ACTIVATIONS,
    "Gemm": _GEMM_ACTIVATIONS,
    "Erf": frozenset({"Add", "Mul"}),
    "Sigmoid": frozenset({"Mul"}),
    "HardSigmoid": frozenset({"Mul"}),
}


def convolves_in_blocks(cost: NodeCost, lanes: int) -> bool:
    """Whether the runtime has a blocked kernel for these channels and groups."""
    into, out = cost.in_shape[1] // cost.group, cost.out_shape[1]
    if cost.group == 1:
        return into < lanes or into % 4 == 0
    if into == 1 and out == cost.group:
        return out % 4 == 0
    return into % lanes == 0 and (out // cost.group) % lanes == 0
