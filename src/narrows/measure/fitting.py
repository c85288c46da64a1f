"""Time a device and fit its rates: probe networks run under the runtime's profiler.

probe networks ──profiler──► (features, time) of ~10 000 kernels ──fit──► OperatorRates
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from narrows.errors import MeasureError
from narrows.graph.cost import NodeCost, node_costs
from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.measure.environment import Environment, environment
from narrows.measure.integer_probes import profile_networks
from narrows.measure.kernel_kinds import QUANTIZERS
from narrows.measure.kernels import FEATURES, decode_features, kernels, reorder_features
from narrows.measure.operators import OperatorTime, example_input, operator_times
from narrows.measure.profiling import KernelRates, OperatorRates, predict_nodes_s, relatives
from narrows.measure.rate_fit import fit_rates

PROBES = 150
_ENOUGH = 60
_WARM_UP_CALLS = 2
_FEW = 30  # samples of a kind below which its neighbour's help
_RARE = 0.03  # share of samples below which a feature is not trusted with a rate

_Sample = tuple[tuple[float, ...], float]
_FLOOR_S = 2e-6  # the profiler counts microseconds
_LEAST_S = 1e-7  # of a kernel without the profiler


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A network that was run on the device.

    Args:
        costs: Its nodes.
        kernels: Its kernels as the runtime's profiler timed them.
        cpu_s: Processor time of one call without the profiler; elapsed time on several threads.
    """

    costs: tuple[NodeCost, ...]
    kernels: tuple[OperatorTime, ...]
    cpu_s: float


def profile_device(
    *,
    threads: int = 1,
    probes: int = PROBES,
    seed: int = 0,
    limit_s: float = 85.0,
    progress: Callable[[int, int], None] | None = None,
) -> OperatorRates:
    """Time this machine and fit its rates; about a minute.

    Args:
        threads: Threads inside an operator.
        probes: Random networks to run; fewer than 40 leave kinds without rates of their own.
        seed: Of the networks.
        limit_s: After this long (a slow or a busy machine) 60 networks are enough.
        progress: Called with the networks done and to do.

    Raises:
        MeasureError: Nothing could be fitted.
    """
    timed: list[Timed] = []
    started_s = time.monotonic()
    for proto in profile_networks(probes, seed=seed):
        timed.append(time_network(load(proto), threads=threads))
        if progress:
            progress(len(timed), probes)
        if len(timed) >= _ENOUGH and time.monotonic() - started_s > limit_s:
            break
    return fitted(timed, environment(threads=threads))


def time_network(model: Model, *, threads: int = 1, runs: int = 12) -> Timed:
    """Run a network with and without the runtime's profiler."""
    running = session(model.proto, threads=threads)
    feeds = {model.input.name: example_input(model)}
    # Several threads' processor time is not the time one waits for.
    clock = time.process_time if threads == 1 else time.perf_counter
    taken_s = []
    for _ in range(_WARM_UP_CALLS + runs):
        started_s = clock()
        run(running, feeds)
        taken_s.append(clock() - started_s)
    return Timed(
        costs=node_costs(model),
        kernels=operator_times(model, runs=runs, threads=threads),
        cpu_s=float(np.median(taken_s[_WARM_UP_CALLS:])),
    )


def fitted(networks: Sequence[Timed], here: Environment) -> OperatorRates:
    """Rates fitted to timed networks.

    Raises:
        MeasureError: There are none.
    """
    if not networks:
        msg = "cannot fit rates to no networks: time at least one (150 are the default)"
        raise MeasureError(msg)
    lanes = _lanes(networks, here)
    profiler_s = _profiler_s(networks)
    samples: dict[str, list[_Sample]] = {}
    for network in networks:
        for kind, features, time_s in _samples(network, lanes):
            net_s = max(_LEAST_S, time_s - profiler_s)
            samples.setdefault(kind, []).append((features, net_s))
    entries = tuple(_fit_kind(kind, samples) for kind in sorted(samples))
    draft = OperatorRates(
        kernels=entries,
        call_s=0.0,
        scale=1.0,
        macs_per_s=_macs_per_s(networks),
        lanes=lanes,
        threads=here.threads,
        environment_key=here.key,
        network_error=0.0,
    )
    return _calibrated(draft, networks)


def _lanes(networks: Sequence[Timed], here: Environment) -> int:
    """The width of a block of channels, where the runtime was seen to reorder into blocks."""
    if not any(kernel.is_reorder for network in networks for kernel in network.kernels):
        return 0
    wide = "avx512f" in here.cpu_flags or here.architecture == "aarch64"
    return 16 if wide else 8


def _profiler_s(networks: Sequence[Timed]) -> float:
    """What the profiler adds to each kernel."""
    counts = np.array([len(network.kernels) for network in networks], np.float64)
    alone_s = np.array([network.cpu_s for network in networks])
    traced_s = np.array([sum(k.time_s for k in network.kernels) for network in networks])
    _, each_s = fit_rates(np.stack([alone_s, counts], axis=1), traced_s, 1 / traced_s)
    return float(each_s)


def _samples(network: Timed, lanes: int) -> Iterable[tuple[str, tuple[float, ...], float]]:
    """(kind, features, seconds) of each timed kernel that the rules foretold."""
    costs = {cost.name: cost for cost in network.costs}
    by_work = {
        _work([network.costs[i] for i in kernel.nodes]): kernel
        for kernel in kernels(network.costs, lanes=lanes)
        if not (kernel.is_reorder or kernel.kind == "decode")
    }
    for timed in network.kernels:
        does = [costs[name] for name in timed.nodes if costs[name].is_data]
        kind = _layout_change(timed, does)
        if kind:
            yield kind, reorder_features(timed.out_bytes), timed.time_s
        elif timed.kernel == "DequantizeLinear" and not does:
            yield "decode", decode_features(timed.out_bytes), timed.time_s
        elif kernel := by_work.pop(_work(does, timed.kernel), None):
            yield kernel.kind, kernel.features, timed.time_s


def _layout_change(timed: OperatorTime, does: Sequence[NodeCost]) -> str:
    """The kind of a kernel that only changes the layout; "" for any other."""
    if timed.is_reorder:
        return "reorder-in" if timed.kernel == "ReorderInput" else "reorder-out"
    added = timed.kernel == "Transpose" and all(cost.op_type != "Transpose" for cost in does)
    return "reorder-last" if added else ""


def _work(costs: Sequence[NodeCost], kernel: str = "") -> frozenset[str]:
    """What a kernel is known by: its nodes without the quantize nodes around them.

    Which of two neighbours such a node belongs to is not told from the runtime's graph alone.
    """
    inner = frozenset(cost.name for cost in costs if cost.op_type not in QUANTIZERS)
    return inner or frozenset(c.name for c in costs if kernel in ("", c.op_type))


def _fit_kind(kind: str, samples: dict[str, list[tuple[tuple[float, ...], float]]]) -> KernelRates:
    """Fit one kind; what its own samples leave open its neighbour's decide."""
    own = samples[kind]
    features = np.array([f for f, _ in own])
    times_s = np.array([t for _, t in own])
    weights = 1 / np.maximum(times_s, _FLOOR_S)
    seen = (features > 0).sum(axis=0) >= max(2, _RARE * len(own))
    near: list[_Sample] = []
    if len(own) < _FEW:
        near = next((samples[name] for name in relatives(kind)[1:] if name in samples), [])
    more = np.array([f for f, _ in near]).reshape(-1, len(FEATURES))
    more_s = np.array([t for _, t in near])
    faint = 0.1 * np.sqrt(len(own) / max(1, len(near))) / np.maximum(more_s, _FLOOR_S)
    rates = fit_rates(
        np.concatenate([features * seen, more]),
        np.concatenate([times_s, more_s]),
        np.concatenate([weights, faint]),
    )
    errors = np.abs(features @ rates - times_s) / np.maximum(times_s, _FLOOR_S)
    return KernelRates(
        kind=kind,
        seconds_per=tuple(float(r) for r in rates),
        samples=len(own),
        error=round(float(np.median(errors)), 4),
    )


def _calibrated(draft: OperatorRates, networks: Sequence[Timed]) -> OperatorRates:
    """Set what a call costs and what whole networks cost over their kernels' sum."""
    sums_s = np.array([sum(predict_nodes_s(n.costs, draft)) for n in networks])
    whole_s = np.array([n.cpu_s for n in networks])
    call_s, scale = fit_rates(
        np.stack([np.ones_like(sums_s), sums_s], axis=1), whole_s, 1 / whole_s
    )
    errors = np.abs((call_s + scale * sums_s) / whole_s - 1)
    return replace(
        draft,
        call_s=float(call_s),
        scale=float(scale),
        network_error=round(float(np.median(errors)), 4),
    )


def _macs_per_s(networks: Sequence[Timed]) -> float:
    speeds = [sum(c.macs for c in n.costs) / n.cpu_s for n in networks]
    return float(np.median([s for s in speeds if s > 0]))
