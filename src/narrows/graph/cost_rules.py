"""How many multiply-accumulates an operator costs: a table operator → rule.

Counted are products that are summed: convolutions, matrix products, recurrent cells, attention,
and the scale and shift of normalisations. Element-wise functions, pooling and data movement count
as 0 MACs: their time shows in bytes moved, not here. An operator in neither table is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator with the shapes at batch 1 of what it reads and makes (() where absent)."""

    attributes: Mapping[str, Any]
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


Rule = Callable[[Call], int]


def _convolution(weight: int) -> Rule:
    """Every output element sums over channels of its group and the kernel."""
    return lambda call: math.prod(call.outputs[0]) * math.prod(call.inputs[weight][1:])


def _transposed_convolution(call: Call) -> int:
    return math.prod(call.inputs[0]) * math.prod(call.inputs[1][1:])


def _gemm(call: Call) -> int:
    inner = call.inputs[0][0 if call.attributes.get("transA") else -1]
    return math.prod(call.outputs[0]) * inner


def _product(call: Call) -> int:
    inner = -2 if call.attributes.get("transA") and len(call.inputs[0]) > 1 else -1
    return math.prod(call.outputs[0]) * call.inputs[0][inner]


def _einsum(call: Call) -> int:
    """The product of all index sizes, where more than one tensor is multiplied."""
    terms = call.attributes["equation"].decode().replace(" ", "").split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    around = 1
    for term, shape in zip(terms, call.inputs, strict=True):
        before, dots, after = term.partition("...")
        sizes.update(zip(before, shape, strict=False))
        if dots:
            sizes.update(zip(reversed(after), reversed(shape), strict=False))
            around = max(around, math.prod(shape[len(before) : len(shape) - len(after)]))
    return math.prod(sizes.values()) * around


def _recurrent(call: Call) -> int:
    """Each step multiplies the input by W and the state by R, in each direction."""
    x, w, r = call.inputs[:3]
    steps_times_batch = x[0] * x[1]
    return steps_times_batch * w[0] * (math.prod(w[1:]) + math.prod(r[1:]))


def _integer_gru_steps(call: Call) -> int:
    """The loop of an integer GRU: each step multiplies the state of each direction by R.

    No other Scan can be loaded.
    """
    scanned = call.attributes["num_scan_inputs"]
    states, gates = call.inputs[:-scanned], call.inputs[-1]
    return gates[0] * gates[1] * sum(3 * state[-1] ** 2 for state in states)


def _attention(call: Call) -> int:
    """Scores (queries × keys × width) and their product with the values."""
    q, k, v = call.inputs[:3]
    if len(q) == 4:
        return math.prod(q) * k[-2] + math.prod(q[:-1]) * k[-2] * v[-1]
    heads = call.attributes.get("q_num_heads", 1) / call.attributes.get("kv_num_heads", 1)
    return math.prod(q) * k[-2] + int(q[0] * q[1] * k[-2] * v[-1] * heads)


def _packed_attention(call: Call) -> int:
    """com.microsoft's: one weight (inputs, 3 * width) makes queries, keys and values."""
    x, weight = call.inputs[:2]
    tokens = x[0] * x[1]
    return tokens * math.prod(weight) + 2 * tokens * x[1] * (weight[1] // 3)


def _per_element(count: int) -> Rule:
    return lambda call: count * math.prod(call.outputs[0])


def _local_response(call: Call) -> int:
    return math.prod(call.outputs[0]) * int(call.attributes.get("size", 1))


MAC_RULES: Mapping[str, Rule] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "DeformConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "MatMul": _product,
    "FusedMatMul": _product,
    "MatMulInteger": _product,
    "MatMulIntegerToFloat": _product,
    "DynamicQuantizeMatMul": _product,
    "QLinearMatMul": _product,
    "Einsum": _einsum,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Scan": _integer_gru_steps,
    "Attention": _attention,
    "BatchNormalization": _per_element(1),
    "InstanceNormalization": _per_element(2),
    "LayerNormalization": _per_element(2),
    "SkipLayerNormalization": _per_element(2),
    "SimplifiedLayerNormalization": _per_element(2),
    "RMSNormalization": _per_element(2),
    "GroupNormalization": _per_element(2),
    "GroupNorm": _per_element(2),
    "MeanVarianceNormalization": _per_element(2),
    "LpNormalization": _per_element(1),
    "LRN": _local_response,
}

_MICROSOFT_RULES: Mapping[str, Rule] = {"Attention": _packed_attention}
"""Operators of com.microsoft that are not what ONNX calls by the same name."""

_NO_MACS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BiasGelu BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Col2Im
    Compress Concat Constant ConstantOfShape Cos Cosh CumSum DepthToSpace DequantizeLinear Div
    Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike FastGelu Flatten Floor Gather
    GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Less LessOrEqual
    Log LogSoftmax LpPool Max MaxPool MaxRoiPool Mean Min Mish Mod Mul Neg NonZero Not OneHot Or
    PRelu Pad Pow QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool
    QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unique Unsqueeze Upsample Where Xor
"""
NO_MACS = frozenset(_NO_MACS.split())
"""Operators known to cost no multiply-accumulates."""

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Where the names above mean what the tables say."""


def rule_for(op_type: str, domain: str) -> Rule | None:
    """The rule of an operator; None where it is unknown.

    Example:
        >>> shapes = ((1, 3, 8, 8), (16, 3, 3, 3))
        >>> call = Call(attributes={}, inputs=shapes, outputs=((1, 16, 8, 8),))
        >>> rule_for("Conv", "")(call), rule_for("Relu", "")(call), rule_for("Whirl", "")
        (27648, 0, None)
    """
    if domain not in DOMAINS:
        return None
    if domain == "com.microsoft" and op_type in _MICROSOFT_RULES:
        return _MICROSOFT_RULES[op_type]
    return MAC_RULES.get(op_type) or (_per_element(0) if op_type in NO_MACS else None)
