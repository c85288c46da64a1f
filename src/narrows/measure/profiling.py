"""A time model of a device, operator by operator: what a network it has never run will cost.

    time of a node = Σ rate · feature,   features: calls, MACs, bytes read and written, weights, ...

one set of rates for each *kernel class* (depthwise, pointwise, dense convolution, matrix product,
elementwise, ...), because a MAC of a depthwise convolution costs many times one of a dense one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final


class CostedNode(Protocol):
    """What the time model reads of a node; `narrows.graph.cost.NodeCost` is one."""

    @property
    def op_type(self) -> str:
        """ONNX operator."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""

    @property
    def weight_bytes(self) -> int:
        """Constants it reads."""

    @property
    def in_bytes(self) -> int:
        """Data it reads."""

    @property
    def out_bytes(self) -> int:
        """Data it writes."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRates:
    """Fitted coefficients of one kernel class.

    Args:
        kernel: Name of the class, e.g. "conv-depthwise".
        seconds_per: One rate for each of `FEATURES`, none negative.
        samples: Timed nodes it was fitted to; 0 means the rates are borrowed.
        error: Median relative error on nodes left out of the fit.
    """

    kernel: str
    seconds_per: tuple[float, ...]
    samples: int
    error: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRates:
    """All that is known of a device's speed; JSON through `narrows.config`.

    Args:
        kernels: One entry a kernel class.
        call_s: Time of a call of the runtime with no work in it.
        scale: Whole networks over the sum of their nodes, from networks timed as a whole.
        macs_per_s: MACs a second over the fitted networks: the MACs-only model beside this one.
        threads: Threads it holds for.
        environment_key: `Environment.key` of the device.
    """

    kernels: tuple[KernelRates, ...]
    call_s: float
    scale: float
    macs_per_s: float
    threads: int
    environment_key: str


def predict_nodes_s(costs: Sequence[CostedNode], rates: OperatorRates) -> tuple[float, ...]:
    """Predicted seconds of every node, in order."""
    return tuple(node.macs / rates.macs_per_s for node in costs)


def predict_head_s(costs: Sequence[CostedNode], rates: OperatorRates) -> float:
    """Predicted seconds of one call of a graph made of these nodes."""
    return rates.call_s + sum(predict_nodes_s(costs, rates))


def predict_by_macs_s(costs: Sequence[CostedNode], rates: OperatorRates) -> float:
    """The same by MACs alone: the naive model the other is judged against."""
    return rates.call_s + sum(node.macs for node in costs) / rates.macs_per_s
