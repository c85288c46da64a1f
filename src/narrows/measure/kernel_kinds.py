"""The kind of a kernel: a name, e.g. "conv-depthwise-int8", for which rates are fitted.

-int8     computes in 8-bit integers        -odd   its channels do not fill the kernel's tiles
-plain    of a kind that also works on channels in blocks, where it does not
"""

from __future__ import annotations

import math

from narrows.graph.cost import NodeCost
from narrows.measure.fusion import CONVOLUTIONS, PRODUCTS

TILE_INNER, TILE_OUT = 4, 16
"""Summands and output channels that an integer kernel works on at once."""

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})

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
    "recurrent": "LSTM GRU RNN DynamicQuantizeLSTM Scan",
    "conv-transposed": "ConvTranspose DeformConv",
    "product-data": "Einsum Attention",
    "quantize": "QuantizeLinear DynamicQuantizeLinear",
    "dequantize": "DequantizeLinear",
    "elementwise-int8": "QLinearAdd QLinearMul",
    "lookup-int8": "QLinearSigmoid QLinearLeakyRelu",
    "softmax-int8": "QLinearSoftmax",
    "average-int8": "QLinearAveragePool",
    "reduce-int8": "QLinearGlobalAveragePool",
    "copy-int8": "QLinearConcat",
}
KIND_OF = {op: kind for kind, operators in _KINDS.items() for op in operators.split()}
_INTEGER_KIND_OF = {
    "Sigmoid": "lookup-int8",
    "LeakyRelu": "lookup-int8",
    "AveragePool": "average-int8",
}
_SCALES_BYTES = 64  # what an operator without weights may still read: its scales
_INTEGER_PREFIXES = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul")


def is_integer(op_type: str) -> bool:
    """Whether an operator computes in integers by itself, without quantize nodes around it."""
    return op_type.startswith(_INTEGER_PREFIXES)


def float_kind(cost: NodeCost, lanes: int) -> str:
    """The kind of a kernel in floats.

    Args:
        cost: The node it is named after.
        lanes: Channels in a block; 0 where it does not work in blocks.
    """
    if cost.op_type in CONVOLUTIONS:
        if len(cost.in_shape) != 4:
            return f"conv-{len(cost.in_shape) - 2}d"
        return _shape_kind(cost) + ("" if lanes else "-plain")
    if cost.op_type in PRODUCTS:
        # The runtime packs constant weights once; others it reads as they come.
        packed = cost.weight_bytes and not cost.decoded
        return _product_kind(cost) if packed else "product-data"
    kind = KIND_OF.get(cost.op_type, "elementwise")
    return "pool-plain" if kind == "pool" and not lanes else kind


def integer_kind(cost: NodeCost) -> str:
    """The kind of a kernel in integers."""
    if cost.op_type in CONVOLUTIONS:
        shape, channels = _shape_kind(cost), (cost.in_shape[1], cost.out_shape[1])
        tile = {"conv-depthwise": TILE_OUT, "conv-pointwise": TILE_INNER}.get(shape, 1)
        odd = any(count % tile for count in channels)
        return f"{shape}-odd-int8" if odd else f"{shape}-int8"
    if cost.op_type in PRODUCTS:
        has_weights = cost.weight_bytes > _SCALES_BYTES
        return f"{_product_kind(cost) if has_weights else 'product-data'}-int8"
    if cost.op_type in ("Mul", "QLinearMul") and cost.in_bytes < 1.5 * cost.out_bytes:
        return "gate-int8"
    kind = _INTEGER_KIND_OF.get(cost.op_type) or KIND_OF.get(cost.op_type, "elementwise")
    return kind if kind == "view" or kind.endswith("-int8") else f"{kind}-int8"


def _shape_kind(cost: NodeCost) -> str:
    area = math.prod(cost.kernel)
    if cost.group == 1:
        if cost.in_shape[1] < 16 and area > 1:
            return "conv-first"
        return "conv-pointwise" if area == 1 else "conv-dense"
    return "conv-depthwise" if cost.in_shape[1] == cost.group else "conv-grouped"


def _product_kind(cost: NodeCost) -> str:
    return "product-vector" if math.prod(cost.out_shape[:-1]) == 1 else "product"
