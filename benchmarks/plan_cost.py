"""What planning costs: time against one plain accuracy pass, memory against the number of pictures.

    python benchmarks/plan_cost.py DATA [--model NAME] [--cuts auto:20] [--json FILE]

DATA holds fit.csv (halved into fit and choose) and report.csv. The first part plans in one process
and divides its time by that of its own plain pass over the choose set. The second plans twice in
processes of their own, with the same pictures listed again and again until there are 1 000 and
5 000, and compares the peaks of resident memory.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from narrows.graph.load import load
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.predict import Places
from narrows.plan.profile import load_cloud, load_device, load_link
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.variant import Variant
from narrows.splits import Split
from narrows.task import Task, load_task
from narrows.zoo.sources import preset, resolve


def main() -> None:
    options = _options()
    if options.count:
        _grown(options)
        return
    found: dict[str, Any] = {"time": _time(options)}
    if not options.no_memory:
        found["memory"] = _memory(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _time(options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(cuts=options.cuts, rates=options.rates, report_examples=0)
    with tempfile.TemporaryDirectory() as folder:
        record = _plan(options, _task(options), settings, Path(folder))
    total_s = sum(stage.seconds for stage in record.stages)
    row = record.variants[0]
    planned = [cut for cut in row.cuts if cut.planned]
    useful = [c.index for c in row.cuts[1:-1] if c.dominated_by is None]
    points = {(c.cut, c.rate_index) for c in record.candidates if c.cut is not None}
    print(f"{row.source}: {len(planned)} cuts x {options.rates} rates = {len(points)} points")
    print(f"  planned:       {', '.join(f'{c.index} {c.tensor}' for c in planned)}")
    print(f"  non-dominated: {useful}, all planned: {set(useful) <= {c.index for c in planned}}")
    print(
        f"  one plain pass over {record.sets.choose} choose pictures: {record.plain_pass_s:.1f} s"
    )
    for stage in record.stages:
        print(f"  {stage.seconds:8.1f} s {stage.seconds / record.plain_pass_s:6.1f}x  {stage.name}")
    pictures_s = sum(stage.seconds for stage in record.stages if "picture" in stage.name)
    ratio = total_s / record.plain_pass_s
    cuts_alone = (total_s - pictures_s) / record.plain_pass_s
    print(f"  in all {ratio:.1f}x one plain pass; without picture codecs {cuts_alone:.1f}x")
    return {
        "cuts": [c.index for c in planned],
        "rates": options.rates,
        "plain_pass_s": record.plain_pass_s,
        "stages": {stage.name: stage.seconds for stage in record.stages},
        "ratio": ratio,
        "ratio_without_pictures": cuts_alone,
    }


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of planning the same three cuts with 1 000 and with 5 000 pictures."""
    peaks = {}
    for count in (1000, 5000):
        command = [sys.executable, __file__, str(options.data), "--model", options.model]
        done = subprocess.run(
            [*command, "--count", str(count)], check=True, stdout=subprocess.PIPE, text=True
        )
        peaks[count] = int(done.stdout.split()[-1])
        print(f"peak memory with {count} pictures: {peaks[count] / 1e6:.0f} MB")
    growth = peaks[5000] / peaks[1000] - 1
    print(f"  {100 * growth:+.1f} % from 1 000 to 5 000")
    return {"peak_bytes": peaks, "growth": growth}


def _grown(options: argparse.Namespace) -> None:
    """One plan in this process; prints its peak memory."""
    task = _task(options)
    # The same pictures again and again: the sets may then share them.
    many = {
        "fit": _repeated(task.fit, options.count // 2),
        "choose": _repeated(task.choose, options.count // 2),
    }
    task = replace(task, overlap="allow", **many)
    settings = Settings(cuts="10,22,36", rates=3, pictures=("jpeg",), report_examples=0)
    with tempfile.TemporaryDirectory() as folder:
        _plan(options, task, settings, Path(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _plan(options: argparse.Namespace, task: Task, settings: Settings, folder: Path) -> PlanRecord:
    places = Places(
        device=load_device("raspberry-pi-4"), link=load_link("4g"), cloud=load_cloud("x86-core")
    )
    variant = Variant(
        name="model", source=options.model, model=load(resolve(options.model)), task=task
    )
    constraints = Constraints(max_drop=0.01)
    return plan([variant], places, constraints, Objective.LATENCY, folder, settings=settings)


def _task(options: argparse.Namespace) -> Task:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.toml"
        sets = "".join(f'{n} = "{(options.data / n).resolve()}.csv"\n' for n in ("fit", "report"))
        path.write_text(f'name = "pictures"\n[data]\n{sets}')
        return load_task(path, preprocess=preset(options.model))


def _repeated(split: Split, count: int) -> Split:
    places = np.fromiter(islice(cycle(range(len(split))), count), np.int64)
    return split.take(places)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="zoo:efficientnet_lite0")
    parser.add_argument("--cuts", default="auto:20")
    parser.add_argument("--rates", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
