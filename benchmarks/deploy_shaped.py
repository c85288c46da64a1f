"""Six chosen bundles over a shaped link: the latency predicted beside the latency measured.

    sudo python benchmarks/deploy_shaped.py DATA [--model NAME] [--calls 60] [--json FILE]

DATA holds fit.csv and report.csv. One plan is made with this machine as device and as cloud. For
six pairs of a bandwidth and a bound on the device's share of the MACs the choice is made, deployed,
served in a network namespace behind `tc tbf` on both ends of a pair of virtual interfaces, and
asked with real pictures, one after the other. The prediction is the plan's, with a token bucket for
a link: what it lets pass at once, up to a packet, is free, and the headers of packets are bytes.
Needs root.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from narrows.cli.deploy import write_deployment
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
from narrows.runtime.answer import Answer
from narrows.runtime.bundle import read_bundle
from narrows.runtime.edge import EdgeClient
from narrows.runtime.serving.client import Grpc
from narrows.task import Task, load_task
from narrows.testing.bundles import tiny_bundle
from narrows.zoo.sources import preset, resolve
from wire import Veth, serving

# On thin links small packets, so that what a token bucket lets pass at once is a small part.
SMALL_MTU, MTU, THIN_BITS_PER_S = 576, 1500, 2e6
ETHERNET_BYTES: Final = 14
HEADER_BYTES: Final = 52
_CALLS: Final = 60
# Bandwidth and the largest share of the MACs that the device may do.
CELLS: Final = ((20e6, 0.0), (3e6, 0.2), (1e6, 0.28), (0.5e6, 0.4), (0.25e6, 0.75), (0.1e6, 0.999))


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = PlanFolder(path=options.plan or Path(scratch) / "plan")
        task = _task(options, Path(scratch))
        record = _record(options, folder, task)
        veth = Veth()
        try:
            rows = [
                _row(cell, options, folder, record, task, veth, Path(scratch) / f"bundle{i}")
                for i, cell in enumerate(CELLS)
            ]
        finally:
            veth.close()
    for row in rows:
        print(
            f"{row['bandwidth_bits_per_s'] / 1e6:5.2f} Mbit/s  {row['id']:34} "
            f"{row['payload_bytes']:7.0f} B  predicted {1e3 * row['predicted_s']:7.1f} ms  "
            f"measured {1e3 * row['measured_s']:7.1f} ms  {100 * row['error']:+5.1f} %"
        )
    worst = max(abs(row["error"]) for row in rows)
    print(f"largest error {100 * worst:.1f} %; {len({row['id'] for row in rows})} bundles")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(worst > 0.15)


def _row(
    cell: tuple[float, float],
    options: argparse.Namespace,
    folder: PlanFolder,
    record: PlanRecord,
    task: Task,
    veth: Veth,
    out: Path,
) -> dict[str, Any]:
    bandwidth, share = cell
    old = Places(device=record.device, link=record.link, cloud=record.cloud)
    found = _calibrated(veth, out.with_name(f"{out.name}-tiny"))
    net = bandwidth * (_mtu(bandwidth) - HEADER_BYTES) / (_mtu(bandwidth) + ETHERNET_BYTES)
    link = replace(
        old.link,
        bandwidth_up_bits_per_s=net,
        bandwidth_down_bits_per_s=net,
        round_trip_s=found.round_trip_s,
        overhead_bytes_up=found.overhead_bytes_up,
        overhead_bytes_down=found.overhead_bytes_down,
        jitter_s=0.0,
    )
    new = Places(device=old.device, link=link, cloud=replace(old.cloud, service_s=found.service_s))
    whole = max(c.choose.n for c in record.candidates)
    eligible = [c for c in record.candidates if c.choose.n == whole and c.route is not Route.LOCAL]
    bound = Constraints(
        max_drop=0.02, min_agreement=0.96, max_device_macs=share * record.variants[0].total_macs
    )
    chosen = choose(at_places(eligible, old, new), bound, Objective.LATENCY, new)
    write_deployment(folder, chosen, out)
    predicted_s = _predicted(chosen, bandwidth)
    with shaped(veth, bandwidth), serving_in(veth, out) as address:
        before = veth.counts()
        times_s = _measured(out, address, task, options.calls)
        after = veth.counts()
        per_call = [(b - a) / (options.calls + 5) for a, b in zip(before, after, strict=True)]
    return {
        "id": chosen.id,
        "bandwidth_bits_per_s": bandwidth,
        "payload_bytes": chosen.payload_bytes,
        "calibration": found._asdict(),
        "terms_s": {name: term.seconds for name, term in chosen.cost.terms.items()},
        "predicted_s": predicted_s,
        "measured_terms_s": times_s,
        "ip_bytes_up_down": per_call,
        "bytes_up_down": [chosen.cost.bytes_up, chosen.cost.bytes_down],
        "measured_s": times_s["total_s"],
        "error": predicted_s / times_s["total_s"] - 1,
    }


def _mtu(bandwidth: float) -> int:
    return SMALL_MTU if bandwidth < THIN_BITS_PER_S else MTU


def _burst_bytes(bandwidth: float) -> int:
    return _mtu(bandwidth) + 2 * ETHERNET_BYTES


def _predicted(chosen: Candidate, bandwidth: float) -> float:
    """The plan's terms with both ways replaced by a token bucket.

    A bucket lets a burst pass at once and fills again while its end does not send; where pictures
    follow one another it cannot give more in a cycle than comes in.
    """
    cost = chosen.cost
    ways_s = [
        _shaped_bytes(sent, _mtu(bandwidth)) * 8 / bandwidth
        for sent in (cost.bytes_up, cost.bytes_down)
    ]
    burst_s = _burst_bytes(bandwidth) * 8 / bandwidth
    elsewhere_s = cost.latency_s - cost.send.seconds - cost.reply.seconds
    alone_s = elsewhere_s + sum(max(0.0, way_s - burst_s) for way_s in ways_s)
    return max(alone_s, *ways_s)


def _shaped_bytes(sent: float, mtu: int) -> float:
    """Bytes that the bucket counts: more packets than one, each with its headers."""
    packets = math.ceil(sent / (mtu - HEADER_BYTES))
    return sent + packets * ETHERNET_BYTES + (packets - 1) * HEADER_BYTES


def _measured(out: Path, address: str, task: Task, calls: int) -> dict[str, float]:
    """Medians of the times of a stream of pictures, one after the other."""
    bundle = read_bundle(out)
    taken: list[Answer] = []
    with Grpc(address, bundle) as link:
        client = EdgeClient(bundle, link, local=False)
        pictures = [task.pixels(task.choose.example(i)) for i in range(min(calls, 50))]
        for index in range(calls + 5):
            pixels = pictures[index % len(pictures)]
            answer = client.answer(pixels)
            if index >= 5:
                taken.append(answer)
    names = ("prepare_s", "head_s", "encode_s", "link_s", "service_s", "total_s")
    return {n: statistics.median(getattr(a.times, n) for a in taken) for n in names}


class Calibration(NamedTuple):
    """What a call costs beside its payload."""

    round_trip_s: float
    service_s: float
    overhead_bytes_up: int
    overhead_bytes_down: int


def _calibrated(veth: Veth, out: Path) -> Calibration:
    """Found with a tiny bundle over the unshaped pair."""
    bundle = tiny_bundle(out, route="pixels", side=8)
    calls = []
    with serving_in(veth, out) as address:
        host, _, port = address.rpartition(":")
        round_trip_s = statistics.median(_connect_s(host, int(port)) for _ in range(20))
        with Grpc(address, bundle) as link:
            client = EdgeClient(bundle, link, local=False)
            pixels = np.zeros(bundle.manifest.pixel_shape, np.uint8)
            for _ in range(10):
                client.answer(pixels)
            before = veth.counts()
            for _ in range(_CALLS):
                calls.append(client.answer(pixels))
            after = veth.counts()
    took_s = statistics.median(answer.times.total_s for answer in calls)
    traffic = calls[-1].traffic
    return Calibration(
        round_trip_s=round_trip_s,
        service_s=max(0.0, took_s - round_trip_s),
        overhead_bytes_up=round((after[0] - before[0]) / _CALLS) - traffic.frame_bytes_up,
        overhead_bytes_down=round((after[1] - before[1]) / _CALLS) - traffic.frame_bytes_down,
    )


def serving_in(veth: Veth, out: Path) -> Any:
    """`narrows serve` in the namespace."""
    prefix = ("ip", "netns", "exec", veth.space)
    return serving(read_bundle(out), host=veth.host, prefix=prefix)


@contextmanager
def shaped(veth: Veth, bandwidth: float) -> Iterator[None]:
    """A token bucket on both ends."""
    near, far = veth.ends
    ends: tuple[tuple[tuple[str, ...], str], ...] = (
        ((), near),
        (("ip", "netns", "exec", veth.space), far),
    )
    bucket = (
        "rate",
        f"{bandwidth:.0f}bit",
        "burst",
        str(_burst_bytes(bandwidth)),
        "latency",
        "20s",
    )
    for prefix, end in ends:
        _run(*prefix, "ip", "link", "set", end, "mtu", str(_mtu(bandwidth)))
        _run(*prefix, "tc", "qdisc", "add", "dev", end, "root", "tbf", *bucket)
    try:
        yield
    finally:
        for prefix, end in ends:
            _run(*prefix, "tc", "qdisc", "del", "dev", end, "root")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _connect_s(host: str, port: int) -> float:
    started_s = time.perf_counter()
    with socket.create_connection((host, port)):
        return time.perf_counter() - started_s


def _record(options: argparse.Namespace, folder: PlanFolder, task: Task) -> PlanRecord:
    if folder.record.is_file():
        return folder.read()
    variant = Variant(
        name="model", source=options.model, model=load(resolve(options.model)), task=task
    )
    places = Places(device=load_device("here"), link=load_link("4g"), cloud=load_cloud("here"))
    settings = Settings(
        numbers=("float",), pictures=("jpeg", "webp"), scales=(1.0,), report_examples=0
    )
    constraints = Constraints(max_drop=0.02)
    return plan([variant], places, constraints, Objective.LATENCY, folder.path, settings=settings)


def _task(options: argparse.Namespace, scratch: Path) -> Task:
    path = scratch / "task.toml"
    sets = "".join(f'{n} = "{(options.data / n).resolve()}.csv"\n' for n in ("fit", "report"))
    path.write_text(f'name = "pictures"\n[data]\n{sets}')
    return load_task(path, preprocess=preset(options.model))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="zoo:efficientnet_lite0")
    parser.add_argument("--plan", type=Path, help="keep the plan here, or use the one there")
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
