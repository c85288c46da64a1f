"""Hostile bytes: 100 000 spoiled frames, tables and bundles against the cloud half and the readers.

    python benchmarks/hostile.py [--weights] [--count 100000] [--seed 0] [--json FILE]

With --weights it is packed files of weights that are spoiled.

Half of the cases have their checksum or hash recomputed, so that they get past it: to the decoder,
to the tables, to the ONNX parts (external data, giant dimensions, operators that blow up). A case
passes if it ends in a NarrowsError or in an answer of the declared shape, within a second and
within 4 × the declared decoded size + 16 MiB of memory. Cases run in worker processes, so a crash
or a hang is seen and named; `--only KIND:NUMBER` runs one case again.

Time and memory are those of the case alone: the peak of the resident set is reset before each.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from hostile_cases import Targets, hostile_bundle, hostile_frame, hostile_table
from hostile_weights import good_files, hostile_weights
from narrows.errors import NarrowsError

LIMIT_S: Final = 1.0
FREE_BYTES: Final = 16 << 20
HANG_S: Final = 20
SHARES: Final = {"frame": 0.6, "table": 0.2, "bundle": 0.2}

MAKERS: Final = {"frame": hostile_frame, "table": hostile_table, "bundle": hostile_bundle}
WEIGHTS: Final = "weights"

Case = tuple[str, int]


def one_case(targets: Any, case: Case, seed: int) -> dict[str, Any]:
    """Run one case and say how it ended; `bad` is empty if it passed."""
    kind, number = case
    rng = random.Random(f"{seed}:{kind}:{number}")
    recomputed = number % 2 == 0
    make = hostile_weights if kind == WEIGHTS else MAKERS[kind]
    run, declared = make(targets, rng, recomputed)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    begin_s, bad = time.perf_counter(), ""
    try:
        run()
        end = "answer"
    except NarrowsError as error:
        end = type(error).__name__
    except Exception as error:
        end, bad = type(error).__name__, f"{type(error).__name__}: {error}"[:300]
    took_s = time.perf_counter() - begin_s
    used = resident_bytes("VmHWM") - before
    if took_s > LIMIT_S:
        bad = bad or f"took {took_s:.2f} s"
    if used > 4 * declared + FREE_BYTES:
        bad = bad or f"used {used} bytes where {declared} were declared"
    return {"end": end, "bad": bad, "took_s": took_s, "used": used, "recomputed": recomputed}


def resident_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def cases(count: int, weights: bool) -> list[Case]:
    if weights:
        return [(WEIGHTS, n) for n in range(count)]
    return [(kind, n) for kind, share in SHARES.items() for n in range(round(count * share))]


def work(todo: list[Case], seed: int) -> None:
    """Worker: one JSON line a case; the line of a case that kills us is missing."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        targets = targets_of(todo[0][0], Path(folder))
        for kind in dict.fromkeys(kind for kind, _ in todo):
            one_case(targets, (kind, -2), seed)  # loads what the first case would
        print("ready", flush=True)
        for case in todo:
            signal.alarm(HANG_S)
            found = one_case(targets, case, seed)
            signal.alarm(0)
            print(json.dumps({"case": case, **found}), flush=True)


def targets_of(kind: str, folder: Path) -> Any:
    return good_files() if kind == WEIGHTS else Targets(folder)


def scratch() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_all(
    todo: list[Case], seed: int
) -> tuple[Counter[str], list[dict[str, Any]], dict[str, Any]]:
    """Run cases in a worker; start it again after the case that killed it."""
    ends: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    worst = {"took_s": 0.0, "used": 0, "recomputed": 0}
    # Freed memory goes back at once, so that the next case's peak does not hide in it.
    trimming = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    environment = {**os.environ, **trimming}
    while todo:
        command = [sys.executable, __file__, "--work", "--seed", str(seed)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(json.dumps(todo))
            worker.stdin.close()
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit("the worker did not start")
            done = 0
            for line in worker.stdout:
                found = json.loads(line)
                done += 1
                ends[f"{found['case'][0]}: {found['end']}"] += 1
                worst["took_s"] = max(worst["took_s"], found["took_s"])
                worst["used"] = max(worst["used"], found["used"])
                worst["recomputed"] += found["recomputed"]
                if found["bad"]:
                    bad.append(found)
        if worker.returncode and done < len(todo):
            kind = todo[done][0]
            ends[f"{kind}: CRASH"] += 1
            reason = f"the process died of signal {-worker.returncode}"
            bad.append({"case": todo[done], "bad": reason})
            done += 1
        todo = todo[done:]
    return ends, bad, worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", action="store_true", help="spoil packed files of weights")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="KIND:NUMBER, one case in this process")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work([tuple(case) for case in json.load(sys.stdin)], options.seed)
        return 0
    if options.only:
        kind, _, number = options.only.partition(":")
        with tempfile.TemporaryDirectory(dir=scratch()) as folder:
            targets = targets_of(kind, Path(folder))
            print(one_case(targets, (kind, int(number)), options.seed))
        return 0
    begin_s = time.perf_counter()
    ends, bad, worst = run_all(cases(options.count, options.weights), options.seed)
    result = {
        "count": sum(ends.values()),
        "recomputed": worst["recomputed"],
        "ends": dict(sorted(ends.items())),
        "slowest_s": worst["took_s"],
        "most_memory_bytes": worst["used"],
        "bad": bad,
        "took_s": time.perf_counter() - begin_s,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({**result, "bad": bad[:20], "bad_count": len(bad)}, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
