"""From nodes of a graph to the kernels a runtime makes of them.

Convolutions work on a blocked layout (channels in groups of the vector's width) that most other
operators do not share, so tensors are reordered on the way. These rules follow ONNX Runtime's.

    nodes ──groups──► who does whose work ──blocked?──► kernels with features, and the reorders
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from narrows.graph.cost import NodeCost
from narrows.measure.fusion import CLIPPING, CONVOLUTIONS, PRODUCTS, groups

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
area; row is output rows by channel blocks by kernel rows; byte_clipped and byte_activated are
outputs that a fused activation other than Relu passes over, cheap ones and transcendental ones.
"""

_NEAR_BYTES = 2**20
_FAR_BYTES = 2**22
_WARM_BYTES = 2**21

_KINDS = {
    "view": "Reshape Flatten Squeeze Unsqueeze Identity Dropout Shape Size",
    "transcendental": "Sigmoid Tanh Erf Exp Gelu Log Pow Sqrt Softplus Elu Selu Mish QuickGelu "
    "FastGelu BiasGelu Sin Cos HardSwish",
    "pool": "MaxPool AveragePool LpPool",
    "reduce": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd "
    "GlobalAveragePool GlobalMaxPool ArgMax ArgMin TopK",
    "softmax": "Softmax LogSoftmax",
    "normalisation": "LayerNormalization BatchNormalization InstanceNormalization "
    "RMSNormalization GroupNormalization GroupNorm SkipLayerNormalization LRN LpNormalization "
    "SimplifiedLayerNormalization MeanVarianceNormalization",
    "copy": "Concat Split Slice Gather Pad Expand Tile Cast",
    "transpose": "Transpose DepthToSpace SpaceToDepth GatherElements",
    "resize": "Resize Upsample GridSample",
    "recurrent": "LSTM GRU RNN DynamicQuantizeLSTM",
    "conv-transposed": "ConvTranspose DeformConv",
    "product-data": "Einsum Attention",
    "quantize": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
}
_KIND_OF = {op: kind for kind, operators in _KINDS.items() for op in operators.split()}


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
        blocked = position in found.in_blocks
        made.extend(reorders.before(position, members, blocked=blocked))
        made.append(_kernel(costs, members, lanes if blocked else 0, cold=cold))
    made.extend(reorders.of_outputs())
    return tuple(made)


@dataclass(slots=True, kw_only=True)
class _Reorders:
    """Which tensors lie in blocks of channels, and the reorders where two layouts meet."""

    costs: Sequence[NodeCost]
    lanes: int
    blocked: set[str] = field(default_factory=set)
    both: set[str] = field(default_factory=set)

    def before(self, position: int, members: tuple[int, ...], *, blocked: bool) -> list[Kernel]:
        """The reorders a kernel needs before it; each tensor is reordered once."""
        made = []
        inside = {name for member in members for name in self.costs[member].makes}
        for member in members:
            for name in self.costs[member].reads:
                if name in inside or name in self.both or (name in self.blocked) == blocked:
                    continue
                if member != position or self._reorders_input(self.costs[position]):
                    self.both.add(name)
                    made.append(self._reorder(member, to_blocks=blocked))
        if blocked:
            self.blocked.update(inside)
        return made

    def of_outputs(self) -> list[Kernel]:
        """The reorders of what nobody reads: the outputs of the graph, given back as they were."""
        read = {name for cost in self.costs for name in cost.reads}
        made = []
        for position, cost in enumerate(self.costs):
            for _ in self.blocked.intersection(cost.makes) - read:
                size = cost.out_bytes / len(cost.makes)
                features = reorder_features(size)
                made.append(Kernel(kind="reorder-out", nodes=(position,), features=features))
        return made

    def _reorders_input(self, cost: NodeCost) -> bool:
        """A convolution of fewer channels than a block reads the plain layout itself."""
        direct = cost.op_type == "Conv" and cost.group == 1 and cost.in_shape[1] < self.lanes
        return bool(self.lanes) and not direct

    def _reorder(self, position: int, *, to_blocks: bool) -> Kernel:
        cost = self.costs[position]
        size = cost.in_bytes / max(1, len(cost.reads))
        return Kernel(
            kind="reorder-in" if to_blocks else "reorder-out",
            nodes=(position,),
            features=reorder_features(size),
        )


def _kernel(
    costs: Sequence[NodeCost], members: tuple[int, ...], lanes: int, *, cold: bool
) -> Kernel:
    cost = costs[members[0]]
    is_conv = cost.op_type in CONVOLUTIONS
    kind = _convolution_kind(cost, lanes) if is_conv else _plain_kind(cost, lanes)
    grow_in, grow_out = _growth(cost.in_shape, lanes), _growth(cost.out_shape, lanes)
    if is_conv and cost.in_shape[1] < lanes:
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


def _convolution_kind(cost: NodeCost, lanes: int) -> str:
    into = cost.in_shape[1] // cost.group
    if cost.op_type in ("QLinearConv", "ConvInteger"):
        layout = "-int8"
    elif len(cost.in_shape) != 4:
        return f"conv-{len(cost.in_shape) - 2}d"
    else:
        layout = "" if lanes else "-plain"
    if cost.group == 1:
        if cost.in_shape[1] < 16 and math.prod(cost.kernel) > 1:
            return f"conv-first{layout}"
        return f"conv-pointwise{layout}" if math.prod(cost.kernel) == 1 else f"conv-dense{layout}"
    return f"conv-depthwise{layout}" if into == 1 else f"conv-grouped{layout}"


def _plain_kind(cost: NodeCost, lanes: int) -> str:
    if cost.op_type in PRODUCTS:
        rows = math.prod(cost.out_shape[:-1])
        integer = "-int8" if cost.op_type not in ("Gemm", "MatMul", "FusedMatMul") else ""
        if not cost.weight_bytes:
            return f"product-data{integer}"
        return f"product-vector{integer}" if rows == 1 else f"product{integer}"
    kind = _KIND_OF.get(cost.op_type, "elementwise")
    return "pool-plain" if kind == "pool" and not lanes else kind
