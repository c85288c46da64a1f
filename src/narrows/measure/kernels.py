"""From nodes of a graph to the kernels a runtime makes of them.

Convolutions work on layouts (channels in blocks of the vector's width, or last where they compute
in integers) that most other operators do not share, so tensors are reordered on the way. These
rules follow ONNX Runtime's.

    nodes ──groups──► who does whose work ──layout?──► kernels with features, and the reorders
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from narrows.graph.cost import NodeCost
from narrows.measure.fusion import CLIPPING, CONVOLUTIONS, IN_BLOCKS, groups
from narrows.measure.kernel_kinds import TILE_INNER, TILE_OUT, float_kind, integer_kind, is_integer

FEATURES = (
    "call",
    "mac",
    "byte_in",
    "byte_out",
    "byte_weight",
    "byte_cold",
    "byte_added",
    "byte_near",
    "byte_far",
    "window",
    "row",
    "byte_clipped",
    "byte_activated",
)
"""What a kernel's time is made of: sizes after channels are padded to the vector's width.

byte_cold is byte_weight in a network whose weights do not all stay in a cache of two MiB from one
call to the next, else 0; byte_added is what a fused addition reads; byte_near and byte_far are
data beyond one and four MiB (a second- and third-level cache); window is output elements by kernel
area; row is output rows by channel blocks by kernel rows (of a kernel in integers: output positions
by kernel area, the pointers it follows); byte_clipped and byte_activated are
outputs that a fused activation other than Relu passes over, cheap ones and transcendental ones.
"""

_NEAR_BYTES = 2**20
_FAR_BYTES = 2**22
_WARM_BYTES = 2**21
_FLOAT_BYTES = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Work done in one go.

    Args:
        kind: Its class, e.g. "conv-depthwise"; rates are fitted for each.
        nodes: Positions of the nodes whose work it does, the one it is named after first; for a
            reorder the node that needs it.
        features: One number for each of `FEATURES`.
    """

    kind: str
    nodes: tuple[int, ...]
    features: tuple[float, ...]

    @property
    def is_reorder(self) -> bool:
        """Whether it only changes the layout."""
        return self.kind.startswith("reorder-")


def reorder_features(size_bytes: float) -> tuple[float, ...]:
    """Features of a change of layout of a tensor."""
    return _features(call=1, byte_in=size_bytes, byte_out=size_bytes, **_beyond(2 * size_bytes))


def kernels(costs: Sequence[NodeCost], *, lanes: int) -> tuple[Kernel, ...]:
    """The kernels of a graph, reorders between layouts included, in execution order.

    Args:
        costs: Its nodes in execution order.
        lanes: Channels in a block of the convolutions' layout (16 with AVX-512, 8 with AVX);
            0 where the runtime has no such layout.
    """
    found = groups(costs, lanes=lanes)
    reorders = _Reorders(costs=costs, lanes=lanes)
    made: list[Kernel] = []
    cold = sum(cost.weight_bytes for cost in costs) > _WARM_BYTES
    for position, members in found.members.items():
        layout = found.layouts.get(position, "")
        integer = position in found.integer
        made.extend(reorders.before(position, members, layout=layout))
        if not integer:
            made.extend(_decoding(position, costs[position]))
        in_lanes = lanes if layout == IN_BLOCKS else 0
        made.append(_kernel(costs, members, in_lanes, cold=cold, integer=integer))
    made.extend(reorders.of_outputs())
    return tuple(made)


@dataclass(slots=True, kw_only=True)
class _Reorders:
    """The layout each tensor lies in, and the reorders where two layouts meet."""

    costs: Sequence[NodeCost]
    lanes: int
    lies: dict[str, str] = field(default_factory=dict)
    also: set[tuple[str, str]] = field(default_factory=set)

    def before(self, position: int, members: tuple[int, ...], *, layout: str) -> list[Kernel]:
        """The reorders a kernel needs before it; each tensor is reordered once."""
        made: list[Kernel] = []
        if self.costs[position].op_type == "Transpose":  # takes one layout for another itself
            return made
        inside = {name for member in members for name in self.costs[member].makes}
        for member in members:
            for name in self.costs[member].reads:
                there = self.lies.get(name, "")
                if name in inside or there == layout or (name, layout) in self.also:
                    continue
                if member != position or self._reorders_input(self.costs[position], there):
                    self.also.add((name, layout))
                    made.append(self._reorder(member, there, layout))
        if layout:
            kept = (m for m in members if len(self.costs[m].out_shape) > 2)
            self.lies.update({name: layout for m in kept for name in self.costs[m].makes})
        return made

    def of_outputs(self) -> list[Kernel]:
        """The reorders of what nobody reads: the outputs of the graph, given back as they were."""
        read = {name for cost in self.costs for name in cost.reads}
        made = []
        for position, cost in enumerate(self.costs):
            for name in set(cost.makes) & self.lies.keys() - read:
                size = cost.out_bytes / len(cost.makes)
                kind = _reorder_kind(self.lies[name], "")
                made.append(Kernel(kind=kind, nodes=(position,), features=reorder_features(size)))
        return made

    def _reorders_input(self, cost: NodeCost, there: str) -> bool:
        """A convolution of fewer channels than a block reads the plain layout itself."""
        direct = cost.op_type == "Conv" and cost.group == 1 and cost.in_shape[1] < self.lanes
        return bool(there) or not direct

    def _reorder(self, position: int, before: str, after: str) -> Kernel:
        cost = self.costs[position]
        size = cost.in_bytes / max(1, len(cost.reads))
        return Kernel(
            kind=_reorder_kind(before, after),
            nodes=(position,),
            features=reorder_features(size),
        )


def _reorder_kind(before: str, after: str) -> str:
    if IN_BLOCKS in (before, after):
        return "reorder-in" if after == IN_BLOCKS else "reorder-out"
    return "reorder-last"


def _decoding(position: int, cost: NodeCost) -> list[Kernel]:
    """Constants stored as integers that an operator in floats has decoded in every call."""
    return [
        Kernel(kind="decode", nodes=(position,), features=decode_features(4 * elements))
        for elements in cost.decoded
    ]


def decode_features(out_bytes: float) -> tuple[float, ...]:
    """Features of making stored integers floats."""
    return _features(call=1, byte_in=out_bytes / 4, byte_out=out_bytes, **_beyond(1.25 * out_bytes))


def _kernel(
    costs: Sequence[NodeCost], members: tuple[int, ...], lanes: int, *, cold: bool, integer: bool
) -> Kernel:
    cost = costs[members[0]]
    if integer or is_integer(cost.op_type):
        return _integer_kernel(costs, members, cold=cold, between=integer)
    kind = float_kind(cost, lanes)
    grow_in, grow_out = _growth(cost.in_shape, lanes), _growth(cost.out_shape, lanes)
    if cost.op_type in CONVOLUTIONS and cost.in_shape[1] < lanes:
        grow_in = 1.0
    area = math.prod(cost.kernel)
    elements = math.prod(cost.out_shape) * grow_out
    byte_in, byte_out = cost.in_bytes * grow_in, cost.out_bytes * grow_out
    channels = cost.out_shape[1] if len(cost.out_shape) > 1 else 1
    added = sum(costs[m].in_bytes / 2 for m in members[1:] if len(costs[m].reads) == 2)
    features = _features(
        call=1,
        mac=cost.macs * (grow_in if cost.group == 1 else 1.0) * grow_out,
        byte_in=byte_in,
        byte_out=byte_out,
        byte_weight=cost.weight_bytes,
        byte_cold=cost.weight_bytes if cold else 0.0,
        byte_added=added,
        window=elements * area if cost.kernel else 0.0,
        row=_rows(cost, channels) if cost.kernel else 0.0,
        byte_clipped=byte_out if _fuses(costs, members, CLIPPING) else 0.0,
        byte_activated=byte_out if _fuses(costs, members, {"Sigmoid", "Tanh"}) else 0.0,
        **_beyond(byte_in + byte_out + cost.weight_bytes + added),
    )
    return Kernel(kind=kind, nodes=members, features=features)


def _integer_kernel(
    costs: Sequence[NodeCost], members: tuple[int, ...], *, cold: bool, between: bool
) -> Kernel:
    """A kernel in integers; `between`: between quantize nodes, so that its own bytes are floats."""
    cost = costs[members[0]]
    quantizes = any(costs[m].op_type == "QuantizeLinear" for m in members[1:])
    byte_in = cost.in_bytes / (_FLOAT_BYTES if between else 1)
    byte_out = cost.out_bytes / (_FLOAT_BYTES if between and quantizes else 1)
    is_conv = cost.op_type in CONVOLUTIONS
    area = math.prod(cost.kernel)
    features = _features(
        call=1,
        mac=cost.macs * (_padding(cost) if is_conv else 1.0),
        byte_in=byte_in,
        byte_out=byte_out,
        byte_weight=cost.weight_bytes,
        byte_cold=cost.weight_bytes if cold else 0.0,
        window=math.prod(cost.out_shape) * area if cost.kernel else 0.0,
        row=_pointers(cost) if is_conv else _positions(cost),
        **_beyond(byte_in + byte_out + cost.weight_bytes),
    )
    kind = integer_kind(cost)
    return Kernel(kind=kind, nodes=members, features=features)


def _positions(cost: NodeCost) -> int:
    return math.prod(cost.out_shape[2:]) if len(cost.out_shape) > 2 else 0


def _pointers(cost: NodeCost) -> int:
    """Output positions by kernel area, for each group that is a product of its own."""
    groups_ = 1 if cost.group == cost.in_shape[1] else cost.group
    return math.prod(cost.out_shape[2:]) * math.prod(cost.kernel) * groups_


def _padding(cost: NodeCost) -> float:
    """How many more products a matrix kernel makes because its tiles are of a fixed size."""
    if cost.group == cost.in_shape[1]:
        return 1.0
    inner = cost.in_shape[1] // cost.group * math.prod(cost.kernel)
    out = cost.out_shape[1] // cost.group
    return _padded(inner, TILE_INNER) / inner * _padded(out, TILE_OUT) / out


def _padded(size: int, tile: int) -> int:
    return -(-size // tile) * tile


def _fuses(
    costs: Sequence[NodeCost], members: tuple[int, ...], wanted: frozenset[str] | set[str]
) -> bool:
    return any(costs[m].op_type in wanted for m in members[1:])


def _growth(shape: tuple[int, ...], lanes: int) -> float:
    """How much larger a tensor is with its channels padded to whole blocks."""
    if not lanes or len(shape) != 4:
        return 1.0
    return -(-shape[1] // lanes) * lanes / shape[1]


def _rows(cost: NodeCost, channels: int) -> float:
    rows = cost.out_shape[2] if len(cost.out_shape) > 3 else 1
    return rows * -(-channels // 16) * cost.kernel[0]


def _beyond(size_bytes: float) -> dict[str, float]:
    return {
        "byte_near": max(0.0, size_bytes - _NEAR_BYTES),
        "byte_far": max(0.0, size_bytes - _FAR_BYTES),
    }


def _features(**named: float) -> tuple[float, ...]:
    return tuple(float(named.get(name, 0.0)) for name in FEATURES)
