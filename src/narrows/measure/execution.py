"""What of a compressed model is really run compressed: the detector of compression without effect.

    the graph asks ──► ONNX Runtime's optimised graph and profile ──► what was really run
                                                            └──► flags, in words

A graph may say int8 and run in floating point (a pattern that does not fuse), a mask may leave its
zeros in dense weights, a runtime may compute in another precision than was asked. None of these
shows in a file's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, final

from narrows.graph.cost import node_costs, total_macs
from narrows.graph.load import Model, load
from narrows.graph.quantized import weight_bearing
from narrows.measure.environment import environment
from narrows.measure.operators import INT8_KERNELS, operator_times
from narrows.measure.record import Measurement
from narrows.measure.stored_weights import OperatorWeights, operator_weights

_MANY_ZEROS: Final = 0.25  # rounding to 8 bits makes some percent of weights zero,
_MANY_UNITS: Final = 0.01  # and now and then all weights of a unit
_X86: Final = ("x86_64", "amd64", "i686")
_VNNI: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_FITTING: Final = 64  # 255 · 64 twice is still a 16-bit number
_NAMED: Final = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a smaller model lacks of its original.

    Args:
        operators: Operators with weights that are gone.
        units: Units (output channels, outputs, hidden units) that are gone, theirs included.
        units_before: Units of the original.
        macs: Multiply-accumulates that are gone.
        zeroed_units: Units that are still there with all their weights zero, and were not before.
    """

    operators: int
    units: int
    units_before: int
    macs: int
    zeroed_units: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What ONNX Runtime really runs of a model.

    Args:
        weight_bearing: Operators that multiply data by weights.
        int8: Those run by a kernel that multiplies in 8-bit integers.
        asked_int8: Those whose weights and data the graph holds in 8-bit integers.
        weights_only: Those whose weights alone it holds so: float arithmetic, by design, unless
            the runtime rounds the data, too.
        macs: Multiply-accumulates of the whole model.
        int8_macs: Those of the operators run in int8.
        kernels: Kernels that run the weight-bearing operators, and how many of them each.
        zero_share: Share of the weights that are zero; dense kernels multiply by them all the same.
        removed: What it lacks of its original; None where none was given.
        flags: What is not as it seems, in words; empty where all is well.
    """

    FORMAT: ClassVar[int] = 1

    weight_bearing: int
    int8: int
    asked_int8: int
    weights_only: int
    macs: int
    int8_macs: int
    kernels: Mapping[str, int]
    zero_share: float
    removed: Removed | None
    flags: tuple[str, ...]

    @property
    def int8_share(self) -> float:
        """Share of the multiply-accumulates done in int8."""
        return self.int8_macs / self.macs if self.macs else 0.0

    @property
    def text(self) -> str:
        """One line for a report."""
        line = f"{self.int8} of {self.weight_bearing} weight-bearing operators run in int8"
        if self.weights_only and not self.asked_int8 and not self.int8:
            return f"{line}, by design: weights alone are stored in 8 bits"
        line += f" ({100 * self.int8_share:.1f} % of the multiply-accumulates)"
        if self.weights_only and not self.asked_int8:
            line += (
                ": weights alone are stored in 8 bits, but there the runtime rounds the data, too"
            )
        if self.removed is not None and (self.removed.units > 0 or self.removed.operators):
            line += f"; {self.removed.units} of {self.removed.units_before} units removed"
        return line


def execution(
    model: Model | Path | str,
    *,
    original: Model | Path | str | None = None,
    asked: str = "f32",
    precision: str | None = None,
    ratio: Measurement | None = None,
) -> Execution:
    """Run a model a few times and say what was really run compressed.

    Args:
        model: The model, or its ONNX file.
        original: What it was made of, to say what was removed.
        asked: Precision that was asked of the backend, as `Loaded.precision()` writes it.
        precision: What the backend says it computed in; None where it was not asked.
        ratio: Time of the model over its original's, as `Comparison.ratio` gives it.

    Raises:
        ModelError: A model cannot be read or run.
        MeasureError: The runtime's profile cannot be read.
    """
    model = _loaded(model)
    weights = operator_weights(model)
    costs = {cost.name: cost.macs for cost in node_costs(model)}
    owners = {node: timed for timed in operator_times(model, runs=1) for node in timed.nodes}
    kernels = Counter(owners[w.name].kernel if w.name in owners else "none" for w in weights)
    in_int8 = {w.name for w in weights if w.name in owners and owners[w.name].is_int8}
    held = weight_bearing(model.proto)
    named = {w.name for w in weights}
    asked_int8 = named & {*held.int8, *(w.name for w in weights if w.op_type in INT8_KERNELS)}
    removed = None if original is None else _removed(model, weights, _loaded(original))
    count = sum(w.count for w in weights)
    zero_share = sum(w.zeros for w in weights) / count if count else 0.0
    flags = (
        *_int8_flags(weights, asked_int8, in_int8),
        *_type_flags(model, weights),
        *_saturation_flags(model, [w for w in weights if w.name in asked_int8 & in_int8]),
        *_zero_flags(zero_share, removed),
        *_speed_flags(ratio),
        *_precision_flags(asked, precision),
    )
    return Execution(
        weight_bearing=len(weights),
        int8=len(in_int8),
        asked_int8=len(asked_int8),
        weights_only=len(named & set(held.weights_only)),
        macs=sum(costs.values()),
        int8_macs=sum(costs.get(name, 0) for name in in_int8),
        kernels=dict(kernels),
        zero_share=zero_share,
        removed=removed,
        flags=flags,
    )


def _loaded(model: Model | Path | str) -> Model:
    return model if isinstance(model, Model) else load(model)


def _removed(model: Model, weights: tuple[OperatorWeights, ...], original: Model) -> Removed:
    """Operators are paired by name, or in order where there are as many."""
    before = operator_weights(original)
    if len(before) == len(weights):
        pairs = list(zip(before, weights, strict=True))
    else:
        now = {w.name: w for w in weights}
        pairs = [(w, now[w.name]) for w in before if w.name in now]
    units_before = sum(w.units for w in before)
    return Removed(
        operators=len(before) - len(pairs),
        units=units_before - sum(w.units for _, w in pairs),
        units_before=units_before,
        macs=total_macs(original) - total_macs(model),
        zeroed_units=sum(max(0, w.zero_units - old.zero_units) for old, w in pairs),
    )


def _int8_flags(
    weights: tuple[OperatorWeights, ...], asked: set[str], in_int8: set[str]
) -> list[str]:
    floating = [w.name for w in weights if w.name in asked - in_int8]
    if not floating:
        return []
    names = ", ".join(floating[:_NAMED]) + (", …" if len(floating) > _NAMED else "")
    return [
        f"int8 model runs {len(in_int8)} of {len(weights)} weight-bearing operators in int8:"
        f" {names} in floating point between DequantizeLinear and QuantizeLinear"
    ]


def _type_flags(model: Model, weights: tuple[OperatorWeights, ...]) -> list[str]:
    flags = []
    made = _activation_types(model)
    signed = made.count("int8")
    if signed and environment().architecture.lower() in _X86:
        flags.append(
            f"{signed} of {len(made)} quantized activations are int8 (S8S8):"
            " on x86 uint8 activations (U8S8) run faster"
        )
    coarse = [w.name for w in weights if w.scales == 1 and w.units > 1]
    if coarse:
        flags.append(
            f"weights of {len(coarse)} of {len(weights)} operators have one scale for all their"
            " channels: scales per channel keep more accuracy"
        )
    return flags


def _activation_types(model: Model) -> list[str]:
    """Types that QuantizeLinear gives activations."""
    return [
        model.tensors[node.output[0]].dtype
        for position, node in enumerate(model.flow.nodes)
        if node.op_type == "QuantizeLinear" and model.flow.is_data(position)
    ]


def _saturation_flags(model: Model, in_int8: Sequence[OperatorWeights]) -> list[str]:
    """Sums of two products of uint8 and int8 that do not fit 16 bits.

    x86 without VNNI adds the products in pairs, in 16 bits (VPMADDUBSW), and cuts the sum off.
    Where the instruction sets are not known nothing is said.

    Reference:
        ONNX Runtime, "Quantize ONNX models", section on U8S8 and reduce_range.
    """
    here = environment()
    is_safe = here.architecture.lower() not in _X86 or _VNNI.intersection(here.cpu_flags)
    types = _activation_types(model)  # none where they are quantized at run time, to uint8
    if is_safe or not here.cpu_flags or (types and "uint8" not in types):
        return []
    wide = sum(w.largest_int8 > _FITTING for w in in_int8)
    if not wide:
        return []
    return [
        f"this processor has no VNNI: in {wide} of {len(in_int8)} int8 operators sums of"
        " uint8 × int8 (U8S8) may saturate at 16 bits, which costs accuracy: judge it on this"
        " machine, or quantize with --reduce-range"
    ]


def _zero_flags(zero_share: float, removed: Removed | None) -> list[str]:
    masked = 0.0 if removed is None else removed.zeroed_units / max(1, removed.units_before)
    if removed is not None and removed.units <= 0 and masked >= _MANY_UNITS:
        return [
            f"masked but not removed: {removed.zeroed_units} of {removed.units_before} units"
            f" ({100 * masked:.0f} %) have weights of zero alone and are computed all the same"
            f" ({100 * zero_share:.0f} % of the weights are zero)"
        ]
    if zero_share > _MANY_ZEROS:
        return [
            f"{100 * zero_share:.0f} % of the weights are zero and stored densely:"
            " the runtime multiplies by them all the same"
        ]
    return []


def _speed_flags(ratio: Measurement | None) -> list[str]:
    if ratio is None or not ratio.telling or ratio.interval[0] <= 1:
        return []
    low, high = ratio.interval
    return [f"slower than its original (ratio {ratio.median:.2f}, {low:.2f} to {high:.2f})"]


def _precision_flags(asked: str, precision: str | None) -> list[str]:
    if precision is None or precision == asked:
        return []
    names = {"f32": "fp32", "i8": "int8", "f16": "fp16"}
    ran, wanted = (names.get(text, text) for text in (precision, asked))
    return [f"computed in {ran} although {wanted} was asked"]
