"""A time model of a device, kernel by kernel: what a network it has never run will cost.

    time of a kernel = Σ rate · feature      one set of non-negative rates for each kind of kernel

A multiply-accumulate of a depthwise convolution costs many times one of a dense one, and what is
fused costs next to nothing: MACs alone are off by tens of per cent. The rates are fitted to the
kernels of random probe networks, timed by the runtime's profiler on the device itself
(`narrows.measure.fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from narrows.errors import MeasureError
from narrows.graph.cost import NodeCost
from narrows.measure.kernels import FEATURES, Kernel, kernels

# A kind the probes did not meet takes the rates of its neighbour.
_NEIGHBOUR = {
    "conv-first": "conv-dense",
    "conv-grouped": "conv-dense",
    "conv-1d": "conv-dense",
    "conv-3d": "conv-dense",
    "conv-first-int8": "conv-dense-int8",
    "conv-pointwise-int8": "conv-dense-int8",
    "conv-grouped-int8": "conv-dense-int8",
    "product-vector-int8": "product-int8",
    "product-data-int8": "product-int8",
    "product-vector": "product",
    "product-data": "product",
    "recurrent": "product",
    "softmax": "transcendental",
    "normalisation": "transcendental",
    "quantize": "elementwise",
    "decode": "dequantize",
    "dequantize": "quantize",
    "gate-int8": "elementwise-int8",
    "average-int8": "elementwise-int8",
    "lookup-int8": "elementwise-int8",
    "softmax-int8": "lookup-int8",
    "reorder-last": "transpose",
    "reorder-in": "copy",
    "reorder-out": "copy",
    "transpose": "copy",
    "resize": "copy",
    "pool": "elementwise",
    "reduce": "elementwise",
    "copy": "elementwise",
    "transcendental": "elementwise",
    "view": "elementwise",
}
_PLAIN_TOO = frozenset(
    {"conv-first", "conv-dense", "conv-pointwise", "conv-depthwise", "conv-grouped"}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRates:
    """Fitted rates of one kind of kernel.

    Args:
        kind: E.g. "conv-depthwise".
        seconds_per: One rate for each of `narrows.measure.kernels.FEATURES`, none negative.
        samples: Timed kernels it was fitted to.
        error: Median relative error over them.
    """

    kind: str
    seconds_per: tuple[float, ...]
    samples: int
    error: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRates:
    """What is known of a device's speed; JSON through `narrows.config`.

    Args:
        kernels: One entry for each kind of kernel.
        call_s: Time of one call of the runtime, whatever is in it.
        scale: Processor time of whole networks over the sum of their kernels.
        macs_per_s: Speed over whole networks: the MACs-only model that this one is judged against.
        lanes: Channels in a block of the convolutions' layout; 0 where there is none.
        threads: Threads it holds for.
        environment_key: `Environment.key` of the device.
        network_error: Median relative error over the probe networks as wholes.

    Raises:
        MeasureError: The rates are of another set of features.
    """

    FORMAT: ClassVar[int] = 1

    kernels: tuple[KernelRates, ...]
    call_s: float
    scale: float
    macs_per_s: float
    lanes: int
    threads: int
    environment_key: str
    network_error: float

    def __post_init__(self) -> None:
        """Refuse rates of another set of features."""
        for entry in self.kernels:
            if len(entry.seconds_per) != len(FEATURES):
                msg = (
                    f"rates of {entry.kind!r} are for {len(entry.seconds_per)} features, this"
                    f" version has {len(FEATURES)}: profile the device again"
                )
                raise MeasureError(msg)

    def kernel_s(self, kernel: Kernel) -> float:
        """Predicted seconds of one kernel."""
        rates = self._rates(kernel.kind).seconds_per
        return self.scale * sum(r * f for r, f in zip(rates, kernel.features, strict=True))

    def _rates(self, kind: str) -> KernelRates:
        known = {entry.kind: entry for entry in self.kernels}
        for name in relatives(kind):
            if name in known:
                return known[name]
        msg = f"no rates for {kind!r} or its like: profile the device again"
        raise MeasureError(msg)


def with_slower_integers(rates: OperatorRates, factor: float) -> OperatorRates:
    """The rates of a device whose integer kernels alone are slower by a factor.

    Args:
        rates: Of the device they were fitted on.
        factor: Below 1 where they are faster.
    """
    kernels_ = tuple(
        replace(entry, seconds_per=tuple(factor * s for s in entry.seconds_per))
        if entry.kind.endswith("-int8")
        else entry
        for entry in rates.kernels
    )
    return replace(rates, kernels=kernels_)


def predict_nodes_s(costs: Sequence[NodeCost], rates: OperatorRates) -> tuple[float, ...]:
    """Predicted seconds of every node, in order.

    A kernel's time is given to the node it is named after; nodes done inside it show 0. A reorder
    belongs to the node that needs it.
    """
    times = [0.0] * len(costs)
    for kernel in kernels(costs, lanes=rates.lanes):
        times[kernel.nodes[0]] += rates.kernel_s(kernel)
    return tuple(times)


def predict_head_s(costs: Sequence[NodeCost], rates: OperatorRates) -> float:
    """Predicted seconds of one call of a graph made of these nodes.

    Args:
        costs: `narrows.graph.cost.node_costs` of the head (or of any graph), or those of its nodes
            among the whole model's.
        rates: Of the device.
    """
    return rates.call_s + sum(predict_nodes_s(costs, rates)) if costs else 0.0


def predict_by_macs_s(costs: Sequence[NodeCost], rates: OperatorRates) -> float:
    """The same by MACs alone: the naive model the other is judged against."""
    return sum(node.macs for node in costs) / rates.macs_per_s


def relatives(kind: str) -> list[str]:
    """The kind, then those whose rates may stand in, nearest first."""
    found = [kind]
    while near := _NEIGHBOUR.get(found[-1]) or _without_suffix(found[-1]):
        found.append(near)
    if found[-1] != "conv-dense" and found[-1].startswith("conv-"):
        found.append("conv-dense")
    # Where the runtime has no blocked layout, all its convolutions on maps are plain ones.
    plain = [f"{name}-plain" for name in found if name in _PLAIN_TOO]
    return found + [name for name in plain if name not in found]


def _without_suffix(kind: str) -> str:
    """The kind it is a variation of; "" if of none."""
    for suffix, instead in (("-odd-int8", "-int8"), ("-int8", ""), ("-plain", "")):
        if kind.endswith(suffix):
            return kind.removesuffix(suffix) + instead
    return ""
