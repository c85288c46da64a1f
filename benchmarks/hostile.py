"""Hostile bytes: 100 000 spoiled frames, tables and bundles against the cloud half and the readers.

    python benchmarks/hostile.py [--count 100000] [--seed 0] [--json FILE]

Half of the cases have their checksum or hash recomputed, so that they get past it: to the decoder,
to the tables, to the ONNX parts (external data, giant dimensions, operators that blow up). A case
passes if it ends in a NarrowsError or in an answer of the declared shape, within a second and
within 4 × the declared decoded size + 16 MiB of memory. Cases run in worker processes, so a crash
or a hang is seen and named; `--only KIND:NUMBER` runs one case again.

Time and memory are those of the case alone: the peak of the resident set is reset before each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutations import spoiled, spoiled_json, spoiled_onnx
from narrows.coding import CODERS
from narrows.errors import NarrowsError
from narrows.runtime import frame as frames
from narrows.runtime.bundle import MANIFEST, Bundle, read_bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.manifest import TABLES
from narrows.runtime.transport import Loopback
from narrows.testing.bundles import pictures, tiny_bundle

SIDE: Final = 32
LIMIT_S: Final = 1.0
FREE_BYTES: Final = 16 << 20
HANG_S: Final = 20
SHARES: Final = {"frame": 0.6, "table": 0.2, "bundle": 0.2}

Case = tuple[str, int]


class Recorder:
    """A transport's service that keeps the frames it is given."""

    def __init__(self, service: CloudService) -> None:
        self._service = service
        self.frames: list[bytes] = []

    def answer(self, frame: bytes) -> bytes:
        """The service's reply."""
        self.frames.append(frame)
        return self._service.answer(frame)


class Targets:
    """Good bundles of every route and coder, with a few good frames for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundles: dict[str, Bundle] = {}
        self.services: dict[str, CloudService] = {}
        self.frames: dict[str, list[bytes]] = {}
        names = [f"split-{coder}" for coder in CODERS] + ["jpeg", "webp", "avif", "raw", "pixels"]
        for name in names:
            route, _, coder = name.partition("-")
            bundle = tiny_bundle(folder / name, route=route, coder=coder or "raw", side=SIDE)
            recorder = Recorder(CloudService(bundle))
            client = EdgeClient(bundle, Loopback(recorder))
            for sample in pictures(8, side=SIDE):
                client.answer(sample)
            self.bundles[name], self.frames[name] = bundle, recorder.frames
            self.services[name] = CloudService(bundle)

    @property
    def splits(self) -> list[str]:
        """Names of the bundles that have tables."""
        return [name for name in self.bundles if name.startswith("split")]


def declared_bytes(bundle: Bundle) -> int:
    """What one request decodes to, by the manifest: payload, input, outputs."""
    manifest = bundle.manifest
    size = manifest.input.size_bytes + sum(output.size_bytes for output in manifest.outputs)
    if manifest.split is not None:
        size += 4 * math.prod(manifest.split.symbol_shape)
    return size


def checked_frame(data: bytes) -> bytes:
    """The bytes with a right checksum where the header has it."""
    if len(data) < frames.HEADER_BYTES:
        return data
    checksum = zlib.crc32(data[12:], zlib.crc32(data[:8]))
    return data[:8] + struct.pack("<I", checksum) + data[12:]


def hostile_frame(targets: Targets, rng: random.Random, recomputed: bool) -> tuple[Any, int]:
    name = rng.choice(list(targets.bundles))
    good, other = rng.choice(targets.frames[name]), rng.choice(targets.frames[name])
    if recomputed:  # the payload is spoiled, sometimes the header too
        data = good[:12] + spoiled(good[12:], rng, other[12:])
        data = spoiled(data[:8], rng)[:8].ljust(8, b"\0") + data[8:] if rng.random() < 0.1 else data
        data = checked_frame(data)
    else:
        data = spoiled(good, rng, other)
    bundle, service = targets.bundles[name], targets.services[name]

    def run() -> None:
        outputs = service.outputs(data) if rng.random() < 0.5 else None
        reply = frames.unpack(service.answer(data))
        expect(reply.reply and reply.bundle_id == bundle.id, "the reply is not ours")
        if outputs is not None:
            expect_outputs(bundle, outputs)

    return run, declared_bytes(bundle)


def hostile_table(targets: Targets, rng: random.Random, recomputed: bool) -> tuple[Any, int]:
    name = rng.choice(targets.splits)
    folder = copied(targets, name)
    data = (folder / TABLES).read_bytes()
    if rng.random() < 0.5:
        data = spoiled(data, rng)
    else:  # the arrays' bytes and not the header before them
        start = 8 + int.from_bytes(data[:8], "little")
        data = data[:start] + spoiled(data[start:], rng)[: len(data) - start].ljust(
            len(data) - start, b"\0"
        )
    return replaced(targets, name, folder, TABLES, data, recomputed, rng)


def hostile_bundle(targets: Targets, rng: random.Random, recomputed: bool) -> tuple[Any, int]:
    name = rng.choice(list(targets.bundles))
    folder = copied(targets, name)
    if rng.random() < 0.3:
        text = (folder / MANIFEST).read_bytes()
        spared = () if rng.random() < 0.2 else ("parts",)
        data = spoiled_json(text, rng, sparing=spared) if recomputed else spoiled(text, rng)
        (folder / MANIFEST).write_bytes(data)
        return reading(targets, name, folder, rng)
    files = [file.name for file in sorted(folder.glob("*.onnx"))]
    file = rng.choice(files)
    data = (folder / file).read_bytes()
    data = spoiled_onnx(data, rng) if rng.random() < 0.7 else spoiled(data, rng)
    return replaced(targets, name, folder, file, data, recomputed, rng)


def copied(targets: Targets, name: str) -> Path:
    folder = targets.folder / "case"
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(targets.folder / name, folder))


def replaced(
    targets: Targets,
    name: str,
    folder: Path,
    file: str,
    data: bytes,
    recomputed: bool,
    rng: random.Random,
) -> tuple[Any, int]:
    """Put a spoiled part in its place and, if asked, its new hash into the manifest."""
    (folder / file).write_bytes(data)
    if recomputed:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for part in manifest["parts"]:
            if part["file"] == file:
                part["sha256"] = hashlib.sha256(data).hexdigest()
                part["size_bytes"] = len(data)
        (folder / MANIFEST).write_text(json.dumps(manifest))
    return reading(targets, name, folder, rng)


def reading(targets: Targets, name: str, folder: Path, rng: random.Random) -> tuple[Any, int]:
    frame = rng.choice(targets.frames[name])
    sizes = sum(file.stat().st_size for file in folder.iterdir())
    good = targets.bundles[name].manifest
    declared = sizes + declared_bytes(targets.bundles[name])
    declared += sum(part.values_bytes for part in good.parts)

    def run() -> None:
        bundle = read_bundle(folder)
        service = CloudService(bundle)
        expect_outputs(bundle, service.outputs(checked_frame(frame[:4] + bundle.id + frame[8:])))
        if bundle.manifest.takes_pictures and bundle.manifest.has_model:
            service.infer(np.zeros((1, *bundle.manifest.pixel_shape), np.uint8))
        client = EdgeClient(bundle, Loopback(service))
        client.answer(pictures(1, side=SIDE)[0])

    return run, declared


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def expect_outputs(bundle: Bundle, outputs: tuple[Any, ...]) -> None:
    for array, spec in zip(outputs, bundle.manifest.outputs, strict=True):
        expect(array.shape == spec.shape and array.dtype == spec.dtype, "another shape")


MAKERS: Final = {"frame": hostile_frame, "table": hostile_table, "bundle": hostile_bundle}


def one_case(targets: Targets, case: Case, seed: int) -> dict[str, Any]:
    """Run one case and say how it ended; `bad` is empty if it passed."""
    kind, number = case
    rng = random.Random(f"{seed}:{kind}:{number}")
    recomputed = number % 2 == 0
    run, declared = MAKERS[kind](targets, rng, recomputed)
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


def cases(count: int) -> list[Case]:
    return [(kind, n) for kind, share in SHARES.items() for n in range(round(count * share))]


def work(todo: list[Case], seed: int) -> None:
    """Worker: one JSON line a case; the line of a case that kills us is missing."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        targets = Targets(Path(folder))
        for kind in MAKERS:  # what is loaded on first use is not the first case's memory
            one_case(targets, (kind, -2), seed)
        print("ready", flush=True)
        for case in todo:
            signal.alarm(HANG_S)
            found = one_case(targets, case, seed)
            signal.alarm(0)
            print(json.dumps({"case": case, **found}), flush=True)


def scratch() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_all(
    todo: list[Case], seed: int
) -> tuple[Counter[str], list[dict[str, Any]], dict[str, Any]]:
    """Run cases in a worker; start it again after the case that killed it."""
    ends: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    worst = {"took_s": 0.0, "used": 0, "recomputed": 0}
    while todo:
        command = [sys.executable, __file__, "--work", "--seed", str(seed)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
            print(one_case(Targets(Path(folder)), (kind, int(number)), options.seed))
        return 0
    begin_s = time.perf_counter()
    ends, bad, worst = run_all(cases(options.count), options.seed)
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
