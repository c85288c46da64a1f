"""What an inference might cost by a table of operator energies: estimated, never measured.

    E = Σ MACs · (multiply + add)  +  weight bytes · DRAM  +  activation bytes · SRAM

The table is of a 45 nm process. It ranks variants of a network and shows that moving data costs
more than computing; it is not the energy of any board, and no figure of it stands in a column
beside a measured one without the word `estimated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Literal, final

from narrows.graph.cost import NodeCost, node_costs, unknown_operators
from narrows.graph.load import Model

Place = Literal["dram", "sram"]

# Picojoules, 45 nm at 0.9 V: one addition and one multiplication of each kind.
ADD_PJ: Final[Mapping[str, float]] = MappingProxyType(
    {"int8": 0.03, "int32": 0.1, "float16": 0.4, "float32": 0.9}
)
MULTIPLY_PJ: Final[Mapping[str, float]] = MappingProxyType(
    {"int8": 0.2, "int32": 3.1, "float16": 1.1, "float32": 3.7}
)
READ_32_BITS_PJ: Final[Mapping[Place, float]] = MappingProxyType({"sram": 5.0, "dram": 640.0})

# One multiply-add: products of 8-bit integers are added up in 32 bits.
MAC_PJ: Final[Mapping[str, float]] = MappingProxyType(
    {
        "int8": MULTIPLY_PJ["int8"] + ADD_PJ["int32"],
        "float16": MULTIPLY_PJ["float16"] + ADD_PJ["float16"],
        "float32": MULTIPLY_PJ["float32"] + ADD_PJ["float32"],
    }
)
_INTEGER: Final = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
_CONVERSIONS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_BYTES_IN_32_BITS = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEstimate:
    """Estimated joules of one inference of one sample.

    Args:
        compute_j: Multiply-adds.
        weights_j: Reading every weight once.
        activations_j: Writing every activation once and reading it where it is used.
        macs: Multiply-adds by arithmetic: "float32", "float16", "int8".
        weight_bytes: Weights read, as stored.
        activation_bytes: Activations written and read.
        assumptions: What the figures rest on.

    Reference:
        Mark Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
        figure 1.1.9 (arithmetic; an 8 KB cache, 10 pJ for 64 bits; DRAM, 1.3 to 2.6 nJ for 64).
        Song Han, Jeff Pool, John Tran, William Dally, "Learning both Weights and Connections for
        Efficient Neural Networks", NIPS 2015, figure 1 (5 pJ and 640 pJ for 32 bits).
    """

    label: ClassVar[str] = "estimated"
    compute_j: float
    weights_j: float
    activations_j: float
    macs: Mapping[str, int]
    weight_bytes: int
    activation_bytes: int
    assumptions: tuple[str, ...]

    @property
    def energy_j(self) -> float:
        """All three together."""
        return self.compute_j + self.weights_j + self.activations_j


def estimated_energy_j(
    model: Model, *, weights: Place = "dram", activations: Place = "sram"
) -> EnergyEstimate:
    """Estimate the energy of one inference from the graph alone.

    An operator counts as int8 where it is an integer operator, or where all it multiplies comes out
    of DequantizeLinear, which is how a runtime with integer kernels runs it. With 8-bit weights and
    floating data the arithmetic is floating and only the weights read are fewer.

    Args:
        model: A checked model.
        weights: Where weights are read from: "dram" where they do not stay in a cache.
        activations: Where activations live.

    Example:
        >>> from narrows.graph import load
        >>> import onnx
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y)
        ... <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {y = MatMul(x, w)}'''
        >>> found = estimated_energy_j(load(onnx.parser.parse_model(text)))
        >>> found.label, found.macs, round(found.weights_j / 1e-12)
        ('estimated', {'float32': 8}, 5120)
        >>> round(found.compute_j / 1e-12, 1), round(found.activations_j / 1e-12)
        (36.8, 30)
    """
    macs: dict[str, int] = {}
    weight_bytes = activation_bytes = 0
    for position, cost in enumerate(node_costs(model)):
        if not cost.is_data or cost.op_type in _CONVERSIONS:
            continue
        weight_bytes += cost.weight_bytes
        activation_bytes += sum(_moved_bytes(model, name) for name in cost.reads + cost.makes)
        if cost.macs:
            arithmetic = _arithmetic(model, position, cost)
            macs[arithmetic] = macs.get(arithmetic, 0) + cost.macs
    return EnergyEstimate(
        compute_j=sum(count * MAC_PJ[kind] for kind, count in macs.items()) * 1e-12,
        weights_j=_moving_j(weight_bytes, weights),
        activations_j=_moving_j(activation_bytes, activations),
        macs=macs,
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        assumptions=tuple(_assumptions(model, weights, activations)),
    )


def _moving_j(size_bytes: int, place: Place) -> float:
    return size_bytes / _BYTES_IN_32_BITS * READ_32_BITS_PJ[place] * 1e-12


def _arithmetic(model: Model, position: int, cost: NodeCost) -> str:
    """What a node multiplies in: "int8", "float16" or "float32"."""
    flow = model.flow
    node = flow.nodes[position]
    factors = [name for name in node.input[:2] if name]
    if node.op_type in _INTEGER or all(_maker(model, n) == "DequantizeLinear" for n in factors):
        return "int8"
    dtype = model.tensors[cost.reads[0]].dtype if cost.reads else "float32"
    return "float16" if dtype in ("float16", "bfloat16") else "float32"


def _maker(model: Model, name: str) -> str:
    """The operator that makes a value, or ""."""
    position = model.flow.producer.get(name)
    return "" if position is None else model.flow.nodes[position].op_type


def _moved_bytes(model: Model, name: str) -> int:
    """Bytes of a value as it is moved: quantized where it is only converted before or after."""
    flow = model.flow
    if name not in model.tensors:
        return 0
    if _maker(model, name) == "DequantizeLinear":
        return _size_bytes(model, flow.nodes[flow.producer[name]].input[0])
    readers = [flow.nodes[position] for position in flow.readers.get(name, ())]
    if readers and name not in flow.outputs:
        makers = {reader.output[0] for reader in readers if reader.op_type == "QuantizeLinear"}
        if len(makers) == len(readers):
            return max(_size_bytes(model, made) for made in makers)
    return model.tensors[name].size_bytes


def _size_bytes(model: Model, name: str) -> int:
    return model.tensors[name].size_bytes if name in model.tensors else 0


def _assumptions(model: Model, weights: Place, activations: Place) -> list[str]:
    found = [
        "operator energies of a 45 nm process at 0.9 V; control, clocks, leakage and idle power of"
        " a real device are not in them",
        f"every weight is read once from {weights.upper()} as stored",
        f"every activation is written once to {activations.upper()} and read once by each operator"
        " that uses it; operands of a multiply-add come from registers",
        "only multiply-adds count as arithmetic",
    ]
    unknown = unknown_operators(model)
    if unknown:
        counts = ", ".join(f"{count} {name}" for name, count in unknown.items())
        found.append(f"multiply-adds of operators without a rule are missing: {counts}")
    return found
