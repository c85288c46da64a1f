"""Where a model's time goes: by layer and by type of operator, summing to the whole.

    profiled runs ──► time of each kernel ──► rows: its layers, MACs, bytes, distance to the limit
    plain runs, in between ──► the whole        the whole − Σ rows ──► the row "unexplained"

The profiler writes down whole microseconds and costs some per cent, and between kernels a runtime
dispatches and waits; what that leaves of the whole, or takes too much, is told and not spread. Of
one thread the whole is processor time: other load interrupts a whole call, but hardly a kernel.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, final

import numpy as np

from narrows.errors import MeasureError
from narrows.graph.cost import NodeCost, node_costs
from narrows.graph.load import Model
from narrows.measure.contender import CallableContender, SystemClock
from narrows.measure.contention import load_after, read_load, signs
from narrows.measure.environment import Environment, environment
from narrows.measure.layers import kind_of, layers_of
from narrows.measure.operators import OperatorTime, operator_times, plain_run
from narrows.measure.operators_openvino import openvino_run, openvino_times
from narrows.measure.roofline import Limit, Roofline

UNEXPLAINED: Final = "unexplained"

# Runtime → how it is called plainly, and under its profiler.
_PROFILERS: Final = {
    "onnxruntime": (plain_run, operator_times),
    "openvino": (openvino_run, openvino_times),
}
_PLAIN_RUNS: Final = 5  # between as many profiled ones
_ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(ABC):
    """What is done under one name, and how long it takes.

    Args:
        kind: Type of the operator, convolutions told apart: see `kind_of`.
        time_s: Of a kernel the lower quartile over the runs; in OpenVINO their mean.
        share: Of the whole.
        macs: Multiply-accumulates.
        moved_bytes: Weights and data that are read and what is made.
        limit: Which limit of the machine binds, for most of the time; None without a roofline.
        limit_share: The least time by that limit over the time it took: 1 is as fast as the
            machine can. None where it took less than the profiler can tell.
    """

    kind: str
    time_s: float
    share: float
    macs: int
    moved_bytes: int
    limit: Limit | None
    limit_share: float | None

    @property
    def macs_per_byte(self) -> float:
        """Arithmetic intensity."""
        return self.macs / self.moved_bytes if self.moved_bytes else 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow(Work):
    """One kernel of the runtime and the layers whose work it does.

    Args:
        kernel: The runtime's name for it; "" in the row of what is unexplained.
        layers: Nodes of the model, those that quantize or dequantize left out; of a kernel that
            does nothing else the layer that it does so for.
        int8: Whether it multiplies in 8-bit integers.
    """

    kernel: str
    layers: tuple[str, ...]
    int8: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow(Work):
    """All kernels of one type together.

    Args:
        count: Kernels.
        int8: How many of them multiply in 8-bit integers.
    """

    count: int
    int8: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A model's time, taken apart.

    Args:
        rows: Kernels in the order they run, and last what is unexplained; they sum to the whole.
        by_type: The same by type, the longest first and what is unexplained last.
        total_s: The whole: lower quartile of runs without the profiler, in between the others;
            of one thread by processor time. In OpenVINO their mean by the wall clock.
        unexplained_s: The whole less the kernels; negative where the profiler slowed them more
            than dispatch and gaps took.
        roofline: The machine's limits; None where none were given.
        environment: Where.
        contention: What spoke for other load in most of the blocks of runs; empty where nothing
            did. Of more than one thread what is unexplained then holds that load too.
        backend: The runtime.
    """

    FORMAT: ClassVar[int] = 1

    rows: tuple[OperatorRow, ...]
    by_type: tuple[TypeRow, ...]
    total_s: float
    unexplained_s: float
    roofline: Roofline | None
    environment: Environment
    contention: tuple[str, ...]
    backend: str = "onnxruntime"


def breakdown(
    model: Model,
    *,
    threads: int = 1,
    runs: int = 20,
    roofline: Roofline | None = None,
    backend: str = "onnxruntime",
) -> Breakdown:
    """Take a model's time apart.

    Args:
        model: The model; inputs are random numbers.
        threads: Threads inside an operator.
        runs: Runs under the profiler; there are as many without.
        roofline: The machine's limits at as many threads, from `machine_roofline`.
        backend: The runtime: "onnxruntime" or "openvino".

    Raises:
        MissingExtra: The runtime is not installed.
        ModelError: The model does not run.
        MeasureError: The profiler wrote nothing that can be read, the roofline is another's, or
            the runtime has no profiler.
    """
    here = environment(threads=threads)
    if roofline is not None and roofline.environment_key != here.key:
        msg = (
            f"the roofline is of {roofline.threads} threads or of another machine, this is"
            f" {here.cpu_model} with {threads}: measure it here with machine_roofline"
        )
        raise MeasureError(msg)
    times, total_s, contention = _timed(model, threads=threads, runs=runs, backend=backend)
    costs = {cost.name: cost for cost in node_costs(model)}
    rows = []
    for timed in times:
        nodes, layers = [costs[name] for name in timed.nodes], layers_of(model, timed.nodes)
        rows.append(_row(timed, nodes, layers, total_s, roofline))
    unexplained_s = total_s - sum(row.time_s for row in rows)
    rows.append(_unexplained(unexplained_s, total_s))
    return Breakdown(
        rows=tuple(rows),
        by_type=_by_type(rows, total_s),
        total_s=total_s,
        unexplained_s=unexplained_s,
        roofline=roofline,
        environment=here,
        contention=contention,
        backend=backend,
    )


def _timed(
    model: Model, *, threads: int, runs: int, backend: str
) -> tuple[tuple[OperatorTime, ...], float, tuple[str, ...]]:
    """The kernels, the whole, and what spoke for other load, from runs that take turns."""
    if backend not in _PROFILERS:
        msg = f"{backend!r} has no profiler to ask: choose from {', '.join(_PROFILERS)}"
        raise MeasureError(msg)
    plain_of, times_of = _PROFILERS[backend]
    call = plain_of(model, threads)
    call()
    plain = CallableContender("plain", call, threads=threads)
    calls_s: list[tuple[float, float]] = []
    seen: list[tuple[str, ...]] = []

    def between() -> None:
        before = read_load(_ROOT)
        taken = plain.call(min_calls=_PLAIN_RUNS + 1, seconds=0.0)
        after = load_after(_ROOT, SystemClock(), threads=threads)
        seen.append(signs(taken, before, after, threads=threads))
        # The first call finds caches full of something else.
        calls_s.extend(list(zip(*taken, strict=True))[1:])

    times = times_of(model, runs=runs, threads=threads, between=between)
    wall_s, cpu_s = np.transpose(calls_s)
    if backend == "openvino":  # whose profiler tells means
        return times, float(wall_s.mean()), _most_telling(seen)
    own_s = cpu_s if threads == 1 else wall_s
    return times, float(np.quantile(own_s, 0.25)), _most_telling(seen)


def _most_telling(seen: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The signs of the block in the middle, from blocks without any to those with most."""
    return sorted(seen, key=len)[len(seen) // 2]


def _row(
    timed: OperatorTime,
    nodes: Sequence[NodeCost],
    layers: tuple[str, ...],
    total_s: float,
    roofline: Roofline | None,
) -> OperatorRow:
    macs, moved = sum(node.macs for node in nodes), timed.in_bytes + timed.out_bytes
    int8 = timed.is_int8 and macs > 0
    limit, share = None, None
    if roofline is not None:
        least_s, limit = roofline.least_s(macs, moved, int8=int8)
        share = least_s / timed.time_s if timed.time_s > 0 else None
    return OperatorRow(
        kind=kind_of(timed.kernel, nodes),
        kernel=timed.kernel,
        layers=layers,
        int8=int8,
        time_s=timed.time_s,
        share=timed.time_s / total_s,
        macs=macs,
        moved_bytes=moved,
        limit=limit,
        limit_share=share,
    )


def _unexplained(time_s: float, total_s: float) -> OperatorRow:
    return OperatorRow(
        kind=UNEXPLAINED,
        kernel="",
        layers=(),
        int8=False,
        time_s=time_s,
        share=time_s / total_s,
        macs=0,
        moved_bytes=0,
        limit=None,
        limit_share=None,
    )


def _by_type(rows: Sequence[OperatorRow], total_s: float) -> tuple[TypeRow, ...]:
    groups: dict[str, list[OperatorRow]] = {}
    for row in rows:
        groups.setdefault(row.kind, []).append(row)
    found = [_type_row(kind, group, total_s) for kind, group in groups.items()]
    return tuple(sorted(found, key=lambda row: (row.kind == UNEXPLAINED, -row.time_s)))


def _type_row(kind: str, group: Sequence[OperatorRow], total_s: float) -> TypeRow:
    limited = [row for row in group if row.limit_share is not None]
    time_s = sum(row.time_s for row in group)
    least_s = sum(row.time_s * row.limit_share for row in limited if row.limit_share)
    memory_s = sum(row.time_s for row in limited if row.limit == "memory")
    binding: Limit = "memory" if 2 * memory_s > time_s else "arithmetic"
    return TypeRow(
        kind=kind,
        count=sum(bool(row.kernel) for row in group),
        int8=sum(row.int8 for row in group),
        time_s=time_s,
        share=time_s / total_s,
        macs=sum(row.macs for row in group),
        moved_bytes=sum(row.moved_bytes for row in group),
        limit=binding if limited else None,
        limit_share=least_s / time_s if limited else None,
    )
