"""What the instrument adds to what it measures, at about one millisecond an inference.

    python benchmarks/overhead.py [--model net.onnx] [--rounds 200] [--out F.json]

    in a sample      what an empty call is reported to take: the clocks' own share of every sample
    in the loop      timed calls against a bare loop of the same calls, in pairs of short rounds
    between rounds   time of a worker's round that is in none of its samples: pipe, JSON, the parent

A worker times its calls by the same loop in its own process, so the first two are its own too.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from a_against_a import network_near
from narrows.measure.backends import backend_of
from narrows.measure.backends.feeds import random_feeds
from narrows.measure.contender import SystemClock, timed_calls
from narrows.measure.latency import Schedule, compare
from narrows.measure.workers import open_contender

_CALLS = 20
_WISHED_S = 1e-3
_EMPTY = 20_000


def main() -> None:
    options = _options()
    clock = SystemClock()
    with TemporaryDirectory() as folder:
        path = options.model or network_near(_WISHED_S, Path(folder))
        run = _inference(path)
        call_s = _median_s(run)
        print(f"{path.name}: {1e3 * call_s:.3f} ms of CPU time a call, one thread")
        empty = timed_calls(lambda: None, min_calls=_EMPTY, seconds=0.0, clock=clock)
        rows = {
            "in a sample, wall": float(np.median(empty[0])) / call_s,
            "in a sample, CPU": float(np.median(empty[1])) / call_s,
            **_loop(run, options.rounds),
            **_worker(path, options.rounds),
        }
    for title, share in rows.items():
        print(f"{title:28} {100 * share:8.3f} % of an inference")
    if options.out:
        options.out.write_text(json.dumps({"call_s": call_s, "shares": rows}, indent=1) + "\n")


def _loop(run: Callable[[], object], rounds: int) -> dict[str, float]:
    """A loop of timed calls against a bare one, ends of the interval included."""
    clock = SystemClock()

    def bare() -> None:
        for _ in range(_CALLS):
            run()

    def timed() -> None:
        timed_calls(run, min_calls=_CALLS, seconds=0.0, clock=clock)

    schedule = Schedule(target=None, rounds=rounds, min_calls=1, round_s=0.0, session_s=0.0)
    ratio = compare({"timed": timed, "bare": bare}, schedule=schedule).ratio(
        "timed", "bare", cpu=True
    )
    low, high = ratio.interval
    return {
        "in the loop": ratio.median - 1,
        "in the loop, at least": low - 1,
        "in the loop, at most": high - 1,
    }


def _worker(path: Path, rounds: int) -> dict[str, float]:
    """What a round of a worker process costs beside its calls; no sample contains it."""
    shares = []
    with open_contender(path) as worker:
        for _ in range(rounds):
            started_s = time.perf_counter()
            wall_s, _ = worker.call(min_calls=_CALLS, seconds=0.0)
            shares.append((time.perf_counter() - started_s) / sum(wall_s) - 1)
    return {f"between rounds of {_CALLS} calls": float(np.median(shares))}


def _inference(path: Path) -> Callable[[], object]:
    loaded = backend_of("onnxruntime").load(path, threads=1)
    feeds = random_feeds(loaded.inputs)
    return lambda: loaded.run(feeds)


def _median_s(run: Callable[[], object]) -> float:
    timed_calls(run, min_calls=10, seconds=0.2, clock=SystemClock())
    return float(np.median(timed_calls(run, min_calls=10, seconds=0.5, clock=SystemClock())[1]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="an ONNX file, about 1 ms an inference")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, help="JSON of the shares")
    return parser.parse_args()


if __name__ == "__main__":
    main()
