"""Which nodes of a graph a runtime computes in one kernel, by the rules of ONNX Runtime.

What follows a convolution (batch norm, scale, residual addition, one activation) is done inside
it; Gelu and x·sigmoid(x) written in several nodes are one kernel; quantize and dequantize nodes
around an operator vanish into its integer kernel (`integer_fusion`).

Tensors lie in one of three layouts: plain, channels in blocks (float convolutions), channels last
(integer convolutions). What only passes elements on works in the layout it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from narrows.graph.cost import NodeCost
from narrows.measure.integer_fusion import integer_kernels

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger"})
PRODUCTS = frozenset(
    {"Gemm", "MatMul", "FusedMatMul", "QLinearMatMul", "QGemm", "MatMulInteger"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
CLIPPING = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu"})
_FUSED_ACTIVATIONS = CLIPPING | {"Relu", "Sigmoid", "Tanh"}
_GEMM_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu"})

IN_BLOCKS, LAST = "blocks", "last"

_BLOCKED_PAIRS = frozenset({"Add", "Sum", "Mul"})
_BLOCKED_ALONE = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
    | {"Relu", "Sigmoid", "Tanh", "Clip"}
)
_ANY_LAYOUT = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Pow"}
    | {"Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Exp"}
    | {"Erf", "Log", "Neg", "Abs", "Sqrt", "Softplus", "Gelu", "Cast", "Identity", "Pad", "Slice"}
    | {"Concat", "Split", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Where", "Resize"}
    | {"QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu"}
    | {"QLinearAveragePool", "QLinearGlobalAveragePool"}
)
_ANY_LAYOUT_IN_INTEGERS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Who does whose work.

    Args:
        members: Position of the node a kernel is named after → the nodes it does, itself first.
        layouts: The kernels that work in another layout than the plain one, by that position.
        integer: The kernels that compute in integers between quantize nodes, by that position.
    """

    members: Mapping[int, tuple[int, ...]]
    layouts: Mapping[int, str]
    integer: frozenset[int]


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
    layouts: dict[int, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)
    integer: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def groups(self) -> Groups:
        for position, cost in enumerate(self.costs):
            for name in cost.makes:
                self.maker[name] = position
            for name in cost.reads:
                self.readers.setdefault(name, []).append(position)
        self.integer = integer_kernels(self.costs)
        inside = {member: core for core, members in self.integer.items() for member in members}
        for position, cost in enumerate(self.costs):
            if cost.is_data:
                self._place(position, cost, inside.get(position))
        for position in reversed(list(self.host)):
            self.host[position] = self._prefixed(position)
        members: dict[int, tuple[int, ...]] = {h: (h,) for h in sorted(set(self.host.values()))}
        for position, host in self.host.items():
            if position != host:
                members[host] = (*members[host], position)
        return Groups(members=members, layouts=self.layouts, integer=frozenset(self.integer))

    def _place(self, position: int, cost: NodeCost, core: int | None) -> None:
        if core is not None:
            self.finished.add(core)
        host = self.host[position] = self._host(position, cost) if core is None else core
        found = self._layout(position, cost, host)
        if found and host == position:
            self.layouts[position] = found
        if found and len(cost.out_shape) > 2:
            self.lies.update(dict.fromkeys(cost.makes, found))

    def _layout(self, position: int, cost: NodeCost, host: int) -> str:
        """The layout a node works in; "" is the plain one."""
        if host < position:
            return self.layouts.get(host, "")
        if self.lanes and host == position and self._works_in_blocks(position, cost):
            return IN_BLOCKS
        if cost.op_type == "QLinearConv" or (cost.op_type == "Conv" and position in self.integer):
            return LAST
        agnostic = cost.op_type in _ANY_LAYOUT or (
            cost.op_type in _ANY_LAYOUT_IN_INTEGERS and position in self.integer
        )
        maps = [self.lies.get(name) for name in cost.reads]
        return LAST if agnostic and maps and set(maps) == {LAST} else ""

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
                taken = self.layouts.get(host) == IN_BLOCKS and cost.op_type in _FUSED_ACTIVATIONS
            else:
                taken = cost.op_type in _TAKEN.get(op, frozenset())
            if taken:
                if cost.op_type in _FUSED_ACTIVATIONS:
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

    def _works_in_blocks(self, position: int, cost: NodeCost) -> bool:
        if cost.op_type in ("Conv", "FusedConv") and len(cost.in_shape) == 4:
            constant = not cost.decoded and position not in self.integer
            return constant and convolves_in_blocks(cost, self.lanes)
        if not cost.reads or any(self.lies.get(name) != IN_BLOCKS for name in cost.reads):
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
        same_size = cost.in_bytes == len(cost.reads) * cost.out_bytes
        if cost.op_type == "Add":
            lies = {self.lies.get(name) for name in cost.reads}
            together = self.layouts.get(host) != IN_BLOCKS or lies == {IN_BLOCKS}
            return same_size and together and not self.costs[host].decoded
        return cost.op_type == "Mul" and len(cost.reads) == 1

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
        gelu = op == "Erf" and list(self.host.values()).count(reader) > 1
        swallowed = (gelu and constant and cost.op_type in ("Add", "Div", "Mul")) or (
            constant and op == "MatMul" and cost.op_type in ("Div", "Mul")
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
