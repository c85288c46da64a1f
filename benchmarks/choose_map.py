"""The choice against exhaustive search on a grid, and where each route wins.

    python benchmarks/choose_map.py DATA [--model NAME] [--plan FOLDER] [--json FILE]

DATA holds fit.csv (halved into fit and choose) and report.csv. The grid is bandwidth × round trip ×
device speed × device memory × queue × deadline. In every cell the choice is made again by the
planner and by a plain loop over all candidates written down here without the planner's code; both
must name the same candidate. `benchmarks/deploy_shaped.py` measures some of the chosen bundles over
a shaped link.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import itertools
import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from narrows.errors import NothingFits
from narrows.graph.load import load
from narrows.plan.candidate import Candidate, Route
from narrows.plan.choose import at_places, choose
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.predict import Places
from narrows.plan.profile import load_cloud, load_device, load_link
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant
from narrows.task import load_task
from narrows.zoo.sources import preset, resolve

BANDWIDTHS_BITS_PER_S = (0.05e6, 0.15e6, 0.4e6, 1e6, 2.5e6, 6e6, 15e6, 40e6, 100e6)
ROUND_TRIPS_S = (0.002, 0.02, 0.1)
SLOWDOWNS = (1.0, 5.0, 20.0, 100.0, 500.0)
# Without a bound, and where the whole of EfficientNet-Lite0 (25 MB with activations) does not fit.
MEMORIES_BYTES = (None, 22_000_000, 16_000_000)
QUEUES_S = (0.0, 0.1)
DEADLINES_S = (None, 0.3)
EARLY, LATE = 0.5, 0.65  # shares of the MACs


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        record = _record(options, Path(folder))
    old = Places(device=record.device, link=record.link, cloud=record.cloud)
    whole = max(c.choose.n for c in record.candidates)
    candidates = [c for c in record.candidates if c.choose.n == whole]
    shares = {row.index: row.head_macs_share for row in record.variants[0].cuts}
    cells, kinds, wrong = 0, Counter[str](), 0
    drawn: dict[tuple[float, float, int | None], list[str]] = {}
    axes = (MEMORIES_BYTES, SLOWDOWNS, QUEUES_S, DEADLINES_S, ROUND_TRIPS_S, BANDWIDTHS_BITS_PER_S)
    for memory, slowdown, queue_s, deadline_s, trip_s, bandwidth in itertools.product(*axes):
        new = Places(
            device=replace(old.device, slowdown=slowdown, memory_bytes=memory),
            link=replace(
                old.link,
                bandwidth_up_bits_per_s=bandwidth,
                bandwidth_down_bits_per_s=2 * bandwidth,
                round_trip_s=trip_s,
                jitter_s=0.0,
            ),
            cloud=replace(old.cloud, queue_s=queue_s),
        )
        constraints = Constraints(max_drop=0.015, max_latency_s=deadline_s)
        there = at_places(candidates, old, new)
        try:
            found = choose(there, constraints, Objective.LATENCY, new)
        except NothingFits:
            found = None
        expected = exhaustive(candidates, old, new, constraints)
        wrong += (found.id if found else None) != expected
        kind = "nothing" if found is None else _kind(found, shares)
        kinds[kind] += 1
        cells += 1
        if queue_s == 0 and deadline_s is None:
            drawn.setdefault((slowdown, trip_s, memory), []).append(kind)
    _draw(drawn)
    print(f"{cells} cells, {wrong} where the choice differs from exhaustive search")
    print("winners:", ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    if options.json:
        options.json.write_text(json.dumps({"cells": cells, "wrong": wrong, "winners": kinds}))
    missing = {"local", "picture", "early cut", "late cut"} - set(kinds)
    if missing:
        print(f"never wins: {', '.join(sorted(missing))}")
    return int(bool(wrong or missing))


def exhaustive(
    candidates: list[Candidate], old: Places, new: Places, constraints: Constraints
) -> str | None:
    """The fastest candidate that keeps to drop and deadline, by the formula of the manual alone."""
    best: tuple[float, float, float, float, str] | None = None
    for c in candidates:
        cost, crosses = c.cost, c.route is not Route.LOCAL
        factor = new.device.slowdown / old.device.slowdown
        latency_s = (cost.head.seconds + cost.encode.seconds) * factor
        if crosses:
            up = cost.bytes_up * 8 / new.link.bandwidth_up_bits_per_s
            down = cost.bytes_down * 8 / new.link.bandwidth_down_bits_per_s
            latency_s += up + down + new.link.round_trip_s + new.cloud.queue_s + cost.tail.seconds
        memory = new.device.memory_bytes
        fits = (
            (memory is None or cost.device_memory_bytes <= memory)
            and (constraints.max_drop is None or c.choose_drop.value <= constraints.max_drop)
            and (constraints.max_latency_s is None or latency_s <= constraints.max_latency_s)
        )
        # Equal to a picosecond is equal: the two ways of adding up round differently.
        key = (round(latency_s, 12), 0.0, c.payload_bytes, cost.device_macs, c.id)
        if fits and (best is None or key < best):
            best = key
    return best and best[-1]


def _kind(candidate: Candidate, shares: dict[int, float]) -> str:
    if candidate.route is Route.SPLIT:
        share = shares[candidate.cut or 0]
        return "early cut" if share <= EARLY else "late cut" if share >= LATE else "middle cut"
    return {Route.LOCAL: "local", Route.IMAGE: "picture", Route.RAW: "raw"}[candidate.route]


def _draw(drawn: dict[tuple[float, float, int | None], list[str]]) -> None:
    marks = {"local": "L", "picture": "P", "raw": "R", "early cut": "e", "middle cut": "m"}
    marks |= {"late cut": "l", "nothing": "."}
    print("bandwidth from 0.05 to 100 Mbit/s, left to right; no queue, no deadline")
    for (slowdown, trip_s, memory), row in drawn.items():
        cells = " ".join(marks[kind] for kind in row)
        bound = "any memory" if memory is None else f"{memory / 1e6:.0f} MB     "
        trip = f"round trip {1e3 * trip_s:3.0f} ms"
        print(f"  {bound}, device {slowdown:3.0f}x slower, {trip}   {cells}")
    print("  " + ", ".join(f"{mark} {kind}" for kind, mark in marks.items()))


def _record(options: argparse.Namespace, scratch: Path) -> PlanRecord:
    if options.plan and (options.plan / "plan.json").is_file():
        return PlanFolder(path=options.plan).read()
    task_file = scratch / "task.toml"
    sets = "".join(f'{n} = "{(options.data / n).resolve()}.csv"\n' for n in ("fit", "report"))
    task_file.write_text(f'name = "pictures"\n[data]\n{sets}')
    task = load_task(task_file, preprocess=preset(options.model))
    variant = Variant(
        name="model", source=options.model, model=load(resolve(options.model)), task=task
    )
    device = replace(load_device("x86-core"), memory_bytes=None)
    places = Places(device=device, link=load_link("4g"), cloud=load_cloud("x86-core"))
    return plan(
        [variant],
        places,
        Constraints(max_drop=0.015),
        Objective.LATENCY,
        options.plan or scratch / "plan",
        settings=Settings(numbers=("float",), report_examples=0),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="zoo:efficientnet_lite0")
    parser.add_argument("--plan", type=Path, help="keep the plan here, or use the one there")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
