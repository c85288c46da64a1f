"""A against itself, and against itself plus five per cent of spin: what the verdicts are worth.

    python benchmarks/a_against_a.py [--sessions 100] [--model net.onnx] [--out F.json]

Every session compares two workers of the same network for some seconds: many short rounds, back to
back, in twelve processes each, because what a process is worth stays with it for life. In the
second kind of session one of the two spins on for a twentieth of its median after each call. The
ratio's interval should contain one in the first kind and exclude it in the second.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from narrows.measure.latency import Comparison, Schedule, compare
from narrows.measure.probes import probe_networks
from narrows.measure.worker import BackendProgram, serve
from narrows.measure.workers import WorkerContender

_SPIN = 0.05
_WISHED_S = 2e-3


def main() -> None:
    options = _options()
    if options.serve:
        serve(_spinning(options.serve, options.spin_s))
        return
    with TemporaryDirectory() as folder:
        path = options.model or network_near(_WISHED_S, Path(folder))
        median_s = _median_s(path)
        print(f"{path.name}: {1e3 * median_s:.2f} ms of CPU time a call, one thread")
        spins_s = {"A": 0.0, "A + 5 % of spin": _SPIN * median_s}
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in spins_s}
        started_s = time.monotonic()
        for seed in range(options.sessions):
            for kind, spin_s in spins_s.items():
                rows[kind].append(_session(path, spin_s, seed, options))
        took_s = time.monotonic() - started_s
    summary = {kind: _summary(kind, found) for kind, found in rows.items()}
    print(f"{took_s / 60:.1f} minutes, {took_s / 2 / options.sessions:.2f} s a session")
    if options.out:
        kept = {"median_s": median_s, "took_s": took_s, "summary": summary, "sessions": rows}
        options.out.write_text(json.dumps(kept, indent=1) + "\n")


def _spinning(path: str, spin_s: float) -> Callable[[], object]:
    """A network in ONNX Runtime, and after each inference busy waiting."""
    run = BackendProgram(backend="onnxruntime", path=path).load()
    spin_ns, now = round(spin_s * 1e9), time.perf_counter_ns

    def spin() -> None:
        run()
        until = now() + spin_ns
        while now() < until:
            pass

    return spin if spin_ns else run


def _session(path: Path, spin_s: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    schedule = Schedule(
        target=None,
        rounds=options.rounds,
        min_calls=options.calls,
        round_s=0.0,
        session_s=0.0,
        respawns=options.respawns,
        seed=seed,
    )
    started_s = time.monotonic()
    with _worker(path, spin_s) as changed, _worker(path, 0.0) as base:
        found = compare({"changed": changed, "base": base}, schedule=schedule)
    return {
        "seed": seed,
        "took_s": time.monotonic() - started_s,
        "contended": found.measurements["base"].contended,
        "cpu": _ratio(found, cpu=True),
        "wall": _ratio(found, cpu=False),
        "verdict": found.verdict("changed", "base"),
        "wall_verdict": found.verdict("changed", "base", cpu=False),
    }


def _ratio(found: Comparison, *, cpu: bool) -> dict[str, float]:
    ratio = found.ratio("changed", "base", cpu=cpu)
    low, high = ratio.interval
    return {"ratio": ratio.median, "low": low, "high": high, "half_width": ratio.half_width}


def _summary(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"sessions": len(rows)}
    for clock in ("cpu", "wall"):
        ends = [(row[clock]["low"], row[clock]["high"]) for row in rows]
        found[clock] = {
            "contains_one": float(np.mean([low <= 1 <= high for low, high in ends])),
            "slower": float(np.mean([low > 1 for low, _ in ends])),
            "median_ratio": float(np.median([row[clock]["ratio"] for row in rows])),
            "scatter": float(np.std([row[clock]["ratio"] for row in rows])),
            "median_half_width": float(np.median([row[clock]["half_width"] for row in rows])),
        }
        print(
            f"{kind:16} {clock:5} ratio {found[clock]['median_ratio']:.4f}"
            f" ± {100 * found[clock]['median_half_width']:.2f} %:"
            f" contains 1 in {100 * found[clock]['contains_one']:.0f} %,"
            f" slower in {100 * found[clock]['slower']:.0f} % of {len(rows)}"
        )
    found["verdicts"] = {
        name: sum(row["verdict"] == name for row in rows) / len(rows)
        for name in ("slower", "faster", "not told apart")
    }
    found["contended"] = float(np.mean([row["contended"] for row in rows]))
    verdicts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["verdicts"].items())
    print(f"{'':16} verdicts: {verdicts}; contended {100 * found['contended']:.0f} %")
    return found


def _worker(path: Path, spin_s: float) -> WorkerContender:
    command = [sys.executable, __file__, "--serve", str(path), "--spin-s", repr(spin_s)]
    return WorkerContender("A", command)


def _median_s(path: Path) -> float:
    with _worker(path, 0.0) as worker:
        worker.call(min_calls=20, seconds=0.2)
        return float(np.median(worker.call(min_calls=50, seconds=0.3)[1]))


def network_near(wished_s: float, folder: Path) -> Path:
    """Of some networks the one whose inference is nearest to a time, written to a folder."""
    paths = []
    for index, model in enumerate(probe_networks(12, seed=5)):
        paths.append(folder / f"probe_{index}.onnx")
        onnx.save(model, paths[-1])
    return min(paths, key=lambda path: abs(np.log(_median_s(path) / wished_s)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100, help="of each kind")
    parser.add_argument("--model", type=Path, help="an ONNX file, about 2 to 5 ms an inference")
    parser.add_argument("--rounds", type=int, default=72)
    parser.add_argument("--calls", type=int, default=3, help="in each round of each process")
    parser.add_argument("--respawns", type=int, default=11)
    parser.add_argument("--out", type=Path, help="JSON of all sessions")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--spin-s", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
