"""One plan of a network in floating point and in int8, and its recommendation run for real.

    python benchmarks/plan_int8.py DATA [OUT] [--model NAME] [--share 0.4] [--out FILE.json]

DATA holds fit.csv (halved into fit and choose) and report.csv. This machine is device and cloud,
with a thin link between them (`thin_link.py`). The plan tries the network and its int8 variant
together; the device may do a share of the multiply-accumulates, else it would do all of it. What is
recommended is deployed, served by a `narrows serve` process, and every report picture goes through
it: accuracy, bytes and latency must be those of the row. So are the best int8 head and all of the
int8 network on the device, where they are other rows. OUT keeps plan and bundles.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from int8_lite0 import task_of
from narrows.cli.deploy import write_deployment
from narrows.errors import NothingFits
from narrows.graph.cost import total_macs
from narrows.graph.load import load
from narrows.plan.candidate import Candidate, Route
from narrows.plan.choose import choose
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.halves import INT8_SUFFIX
from narrows.plan.predict import FRAME_HEADER_BYTES, Places
from narrows.plan.profile import load_cloud, load_device, load_link
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant
from narrows.runtime.answer import Answer
from narrows.runtime.bundle import Bundle
from narrows.runtime.edge import EdgeClient
from narrows.runtime.serving.client import Grpc
from narrows.task import Task
from narrows.testing.bundles import tiny_bundle
from narrows.zoo.sources import resolve
from thin_link import thin_link
from wire import Relay, serving

NAME: Final = "model"
_CALLS: Final = 60
# A symbol in a million falls to the other side of its bin in the fused graph.
_MOST_ACCURACY, _MOST_BYTES, _MOST_LATENCY = 0.005, 0.001, 0.15


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.folder or Path(scratch)
        kept.mkdir(parents=True, exist_ok=True)
        task, folder = task_of(options.data, options.model), PlanFolder(path=kept / "plan")
        places = places_of(options, Path(scratch) / "tiny")
        record = _record(options, task, places, folder)
        print(record.explanation)
        print_variants(record)
        rows = {}
        for number, (why, candidate) in enumerate(_wanted(record, places).items()):
            bundle, _ = write_deployment(folder, candidate, kept / f"bundle{number}", replace=True)
            rows[why] = row_of(candidate, measured(bundle, task, options), record)
            print_row(why, rows[why])
        passed = all(row["agrees"] for row in rows.values())
        print(f"what was deployed answers as its row says: {passed}")
        if options.out:
            options.out.write_text(json.dumps({"rows": rows, "passed": passed}, indent=1) + "\n")
    return 0 if passed else 1


def _record(
    options: argparse.Namespace, task: Task, places: Places, folder: PlanFolder
) -> PlanRecord:
    model = load(resolve(options.model))
    variant = Variant(name=NAME, source=options.model, model=model, task=task)
    macs = options.share * total_macs(model)
    constraints = Constraints(max_drop=options.max_drop, max_device_macs=macs)
    settings = Settings(
        pictures=("jpeg", "webp"),
        scales=(1.0,),
        fit_examples=options.examples,
        choose_examples=options.examples,
        report_examples=options.pictures,
    )
    started_s = time.monotonic()
    found = plan([variant], places, constraints, Objective.LATENCY, folder.path, settings=settings)
    taken = {True: 0.0, False: 0.0}
    for stage in found.stages:
        taken[INT8_SUFFIX in stage.name] += stage.seconds
    print(
        f"planned in {time.monotonic() - started_s:.0f} s: {taken[False] / found.plain_pass_s:.1f} "
        f"plain passes for float, {taken[True] / found.plain_pass_s:.1f} more for int8"
    )
    return found


def _wanted(record: PlanRecord, places: Places) -> dict[str, Candidate]:
    """The recommended row; the best int8 head and the whole int8 network, where they are others."""
    seen = [c for c in record.candidates if c.report is not None]
    found = {}
    if record.chosen is not None:
        found["recommended"] = record.candidate(record.chosen)
    integers = [c for c in seen if c.variant.endswith(INT8_SUFFIX)]
    for why, route in (("best int8 head", Route.SPLIT), ("all in int8", Route.LOCAL)):
        mine = [c for c in integers if c.route is route]
        bounds = record.constraints
        if route is Route.LOCAL:
            bounds = replace(bounds, max_device_macs=None)
        try:
            best = choose(mine, bounds, record.objective, places) if mine else None
        except NothingFits:
            best = None
        if best is not None and best not in found.values():
            found[why] = best
    return found


class Measured(NamedTuple):
    """What a run of the report set through a bundle gave."""

    accuracy: float
    payload_bytes: float
    latency_s: float
    terms: dict[str, float]


def measured(bundle: Bundle, task: Task, options: argparse.Namespace) -> Measured:
    """Every report picture through the bundle, one after the other."""
    local = bundle.manifest.route is Route.LOCAL
    taken: list[Answer] = []
    hits = []
    with nullcontext() if local else _linked(bundle, options) as link:
        client = EdgeClient(bundle, link, local=local, deadline_s=None)
        total = len(task.report)
        count = min(options.pictures or total, total)
        for index in range(-5, count):  # the first few warm up
            place = max(0, index) * total // count
            answer = client.answer(task.pixels(task.report.example(place)))
            if index >= 0:
                hits.append(answer.top[0][0] == task.report.labels[place])
                taken.append(answer)
    names = ("prepare_s", "head_s", "encode_s", "link_s", "service_s", "local_s", "total_s")
    terms = {n: statistics.median(getattr(a.times, n) for a in taken) for n in names}
    sizes = [a.traffic.frame_bytes_up - FRAME_HEADER_BYTES for a in taken]
    return Measured(
        accuracy=float(np.mean(hits)),
        payload_bytes=0.0 if local else float(np.mean(sizes)),
        latency_s=terms["total_s"],
        terms=terms,
    )


@contextmanager
def _linked(bundle: Bundle, options: argparse.Namespace) -> Iterator[Grpc]:
    """A server process, the thin link before it, and a client's connection."""
    with (
        serving(bundle, host="127.0.0.1") as address,
        thin_link(address, options.bandwidth, options.round_trip) as near,
        Grpc(near, bundle) as link,
    ):
        yield link


def row_of(candidate: Candidate, found: Measured, record: PlanRecord) -> dict[str, Any]:
    """What a candidate's row says beside what its run gave."""
    assert candidate.report is not None
    said = {
        "accuracy": candidate.report.accuracy,
        "payload_bytes": candidate.report_payload_bytes or 0.0,
        "latency_s": candidate.cost.latency_s,
    }
    off = {
        "accuracy": found.accuracy - said["accuracy"],
        "payload_bytes": (found.payload_bytes - said["payload_bytes"])
        / max(1.0, said["payload_bytes"]),
        "latency_s": found.latency_s / said["latency_s"] - 1,
    }
    agrees = (
        abs(off["accuracy"]) <= _MOST_ACCURACY
        and abs(off["payload_bytes"]) <= _MOST_BYTES
        and abs(off["latency_s"]) <= _MOST_LATENCY
    )
    drop = candidate.report_drop
    return {
        "id": candidate.id,
        "n": candidate.report.n,
        "original_accuracy": _original_accuracy(record),
        "drop": None if drop is None else [drop.value, drop.low, drop.high],
        "said": said,
        "measured": found._asdict(),
        "said_terms": {name: term.seconds for name, term in candidate.cost.terms.items()},
        "off": off,
        "agrees": agrees,
    }


def _original_accuracy(record: PlanRecord) -> float:
    variant = record.variants[0]
    return (variant.report or variant.choose).accuracy


def print_variants(record: PlanRecord) -> None:
    """Weights and accuracy of every variant."""
    for variant in record.variants:
        score = variant.report or variant.choose
        print(
            f"  {variant.name:12} {variant.weight_bytes / 1e6:6.2f} MB weights, accuracy "
            f"{score.accuracy:.4f} on {score.n}"
        )


def print_row(why: str, row: dict[str, Any]) -> None:
    """One remeasured row."""
    said, found = row["said"], row["measured"]
    print(
        f"{why}: {row['id']} on {row['n']} report pictures: {'agrees' if row['agrees'] else 'OFF'}"
    )
    shown = (("accuracy", 100, "%"), ("payload_bytes", 1, "B"), ("latency_s", 1e3, "ms"))
    for name, factor, unit in shown:
        change = f"{100 * row['off'][name]:+.2f} " + ("points" if name == "accuracy" else "%")
        print(
            f"  {name:14} row {factor * said[name]:9.2f} {unit:3} measured "
            f"{factor * found[name]:9.2f} {unit:3} {change}"
        )


def places_of(options: argparse.Namespace, scratch: Path) -> Places:
    """This machine twice, the thin link, and what a call costs beside its payload."""
    service_s, up, down = _calibrated(scratch)
    link = replace(
        load_link("4g"),
        name="thin link",
        bandwidth_up_bits_per_s=options.bandwidth,
        bandwidth_down_bits_per_s=options.bandwidth,
        round_trip_s=options.round_trip,
        jitter_s=0.0,
        overhead_bytes_up=up,
        overhead_bytes_down=down,
    )
    cloud = replace(load_cloud("here"), service_s=service_s)
    return Places(device=load_device("here"), link=link, cloud=cloud)


def _calibrated(out: Path) -> tuple[float, int, int]:
    """Seconds and protocol bytes of a call of a tiny bundle, over a link that costs nothing."""
    bundle = tiny_bundle(out, route="pixels", side=8)
    pixels = np.zeros(bundle.manifest.pixel_shape, np.uint8)
    with serving(bundle, host="127.0.0.1") as address:
        relay = Relay(address)
        with Grpc(relay.address, bundle) as link:
            client = EdgeClient(bundle, link, local=False)
            for _ in range(10):
                client.answer(pixels)
            before = relay.counts()
            calls = [client.answer(pixels) for _ in range(_CALLS)]
            time.sleep(0.2)
            after = relay.counts()
        relay.close()
        with thin_link(address, 1e12, 0.0) as near, Grpc(near, bundle) as link:
            client = EdgeClient(bundle, link, local=False)
            took_s = statistics.median(
                client.answer(pixels).times.total_s for _ in range(2 * _CALLS)
            )
    traffic = calls[-1].traffic
    sent = [(after[way] - before[way]) / _CALLS for way in (0, 1)]
    up, down = sent[0] - traffic.frame_bytes_up, sent[1] - traffic.frame_bytes_down
    return took_s, max(0, round(up)), max(0, round(down))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="keep plan and bundles here")
    parser.add_argument("--model", default="zoo:efficientnet_lite0")
    parser.add_argument("--share", type=float, default=0.4, help="of the MACs, on the device")
    parser.add_argument("--max-drop", type=float, default=0.02)
    parser.add_argument("--bandwidth", type=float, default=1e6, help="bits a second")
    parser.add_argument("--round-trip", type=float, default=0.02, help="seconds")
    parser.add_argument("--examples", type=int, help="of the fit and of the choose half")
    parser.add_argument("--pictures", type=int, help="of the report set")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
