"""Does the interval contain the truth as often as it says? Virtual sessions and a recorded trace.

    python benchmarks/interval_coverage.py [--sessions 1000] [--out F.json]
    python benchmarks/interval_coverage.py --record trace.npz  (then --trace trace.npz replays it)

A virtual clock drives the real sampling code. The truth of a session is the median of the timer
over the session's own span. Beside it, on the same timers: the rounds' medians with an
order-statistic interval, and the second founding paper's rule, which is judged by the timer's mean
over the span of the session that began when it did.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from narrows.graph.load import Model, load, session
from narrows.measure.contender import SystemClock, timed_calls
from narrows.measure.latency import Schedule, latency
from narrows.measure.operators import example_input
from narrows.measure.order_statistics import interval_of_rounds
from narrows.measure.probes import probe_networks
from narrows.testing.virtual_timer import TraceTimer, VirtualClock, VirtualTimer, unsteady_timer

Timer = VirtualTimer | TraceTimer

DRIFTS = ("none", "linear", "sinusoid", "steps")
CORRELATIONS = (0.0, 0.5, 0.9)
TARGETS = (None, 0.02)
NOWHERE = Path("/nowhere")  # the load of this machine is nothing to a virtual session
LIMIT_S = 25.0


def main() -> None:
    options = _options()
    if options.record:
        _record(options.record, options.calls)
        return
    started_s = time.monotonic()
    rows = list(_virtual_rows(options.sessions))
    trace = _read(options.trace) if options.trace else _taken(*_real_model(), options.calls)
    rows += _trace_rows(trace, options.sessions)
    worst = [f"{100 * end(row['coverage'] for row in rows):.1f}" for end in (min, max)]
    print(f"coverage of the rounds from {worst[0]} to {worst[1]} %,", end=" ")
    print(f"{time.monotonic() - started_s:.0f} s for all")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def judge(
    title: str, make: Callable[[int], Timer], sessions: int, target: float | None
) -> dict[str, Any]:
    """Coverage of the three rules over many sessions.

    Args:
        title: Of the row.
        make: A timer by its seed.
        sessions: How many.
        target: Half-width that ends a session; None: the least number of rounds does.
    """
    found: dict[str, list[float]] = {}
    for seed in range(sessions):
        for key, value in _session(make, seed, target).items():
            found.setdefault(key, []).append(value)
    means = {key: float(np.mean(values)) for key, values in found.items()}
    return {"timer": title, "target": target, "sessions": sessions, **means}


def _session(make: Callable[[int], Timer], seed: int, target: float | None) -> dict[str, float]:
    timer = make(seed)
    schedule = Schedule(target=target, seed=seed, limit_s=LIMIT_S)
    taken = latency(timer, schedule=schedule, clock=timer.clock, root=NOWHERE)
    ended_s = timer.clock.wall_ns() / 1e9
    span_s = ended_s - taken.session_s, ended_s
    truth, cpu_truth = (float(np.median(timer.between(*span_s, cpu=cpu))) for cpu in (False, True))
    medians = interval_of_rounds([(value,) for value in taken.round_medians])
    schedule = Schedule(rule="paper", limit_s=LIMIT_S)
    again = make(seed)  # the same timer, begun at the same time
    paper = latency(again, schedule=schedule, clock=again.clock, root=NOWHERE)
    return {
        "coverage": _inside(truth, taken.interval),
        "half_width": taken.half_width,
        "cpu_coverage": _inside(cpu_truth, taken.cpu.interval),
        "error": abs(taken.median / truth - 1),
        "rounds": len(taken.round_sizes),
        "session_s": taken.session_s,
        "reached": float(taken.reached or False),
        "medians_coverage": _inside(truth, medians),
        "medians_half_width": (medians[1] - medians[0]) / 2 / truth,
        "paper_coverage": _inside(float(np.mean(timer.between(*span_s))), paper.interval),
        "paper_half_width": paper.half_width,
        "paper_calls": len(paper.samples),
    }


def _inside(truth: float, interval: tuple[float, float]) -> float:
    return float(interval[0] <= truth <= interval[1])


def _virtual_rows(sessions: int) -> Iterator[dict[str, Any]]:
    for drift, correlation, target in product(DRIFTS, CORRELATIONS, TARGETS):

        def make(seed: int, drift: Any = drift, correlation: float = correlation) -> VirtualTimer:
            return unsteady_timer(drift, correlation, seed=seed)

        row = judge(f"{drift}, {correlation}", make, sessions, target)
        _print(row)
        yield row


def _trace_rows(trace: dict[str, Any], sessions: int) -> Iterator[dict[str, Any]]:
    """The recorded calls laid out in time; sessions begin anywhere."""
    wall_s, cpu_s = np.asarray(trace["wall_s"]), np.asarray(trace["cpu_s"])

    def make(seed: int) -> TraceTimer:
        clock = VirtualClock()
        clock.sleep(np.random.default_rng((seed, 1)).uniform(0.0, wall_s.sum()))
        return TraceTimer(wall_s, cpu_s, clock)

    for target in TARGETS:
        row = judge(f"{trace['name']} recorded", make, sessions, target)
        row["calls"] = len(wall_s)
        row["median_s"] = float(np.median(wall_s))
        row["lag_1"] = {"wall": _lag_1(wall_s), "cpu": _lag_1(cpu_s)}
        _print(row)
        yield row


def _lag_1(values: Any) -> float:
    return float(np.corrcoef(values[1:], values[:-1])[0, 1])


def _taken(name: str, model: Model, calls: int) -> dict[str, Any]:
    """Consecutive calls of a network in ONNX Runtime, one thread."""
    running, feeds = session(model.proto), {model.input.name: example_input(model)}
    run = lambda: running.run(None, feeds)  # noqa: E731
    timed_calls(run, min_calls=20, seconds=1.0, clock=SystemClock())
    wall_s, cpu_s = timed_calls(run, min_calls=calls, seconds=0.0, clock=SystemClock())
    return {"name": name, "wall_s": wall_s, "cpu_s": cpu_s}


def _real_model() -> tuple[str, Model]:
    try:
        from narrows.zoo.sources import resolve

        return "efficientnet_lite0", load(resolve("zoo:efficientnet_lite0"))
    except Exception as error:
        print(f"no EfficientNet-Lite0 ({error}): a small network instead")
        return "probe network", load(next(iter(probe_networks(1))))


def _record(path: Path, calls: int) -> None:
    np.savez_compressed(path, **_taken(*_real_model(), calls))


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as kept:
        return {"name": str(kept["name"]), "wall_s": kept["wall_s"], "cpu_s": kept["cpu_s"]}


def _print(row: dict[str, Any]) -> None:
    asked = "fixed rounds" if row["target"] is None else f"within {100 * row['target']:.0f} %"
    print(
        f"{row['timer']:27} {asked:12}"
        f" covers {100 * row['coverage']:5.1f} % ± {100 * row['half_width']:.2f} %"
        f" (CPU {100 * row['cpu_coverage']:5.1f} %)"
        f" {row['rounds']:4.0f} rounds {row['session_s']:4.1f} s"
        f" | round medians {100 * row['medians_coverage']:5.1f} %"
        f" ± {100 * row['medians_half_width']:.2f} %"
        f" | paper {100 * row['paper_coverage']:5.1f} % ± {100 * row['paper_half_width']:.2f} %"
        f" of {row['paper_calls']:.0f} calls",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1000, help="for each row")
    parser.add_argument("--calls", type=int, default=15_000, help="of the recorded network")
    parser.add_argument("--trace", type=Path, help="replay this recorded trace")
    parser.add_argument("--record", type=Path, help="only record a trace, to this file")
    parser.add_argument("--out", type=Path, help="JSON of all rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
