"""The cases of `hostile.py`: good bundles, and what is done to their frames, tables and parts.

A maker gives a function to run, which must end in a NarrowsError or in an answer of the declared
shape, and the declared decoded size.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from mutations import spoiled, spoiled_json, spoiled_onnx
from narrows.coding import CODERS
from narrows.runtime import frame as frames
from narrows.runtime.bundle import MANIFEST, Bundle, read_bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.manifest import TABLES
from narrows.runtime.transport import Loopback
from narrows.testing.bundles import pictures, tiny_bundle

SIDE: Final = 32

Made = tuple[Callable[[], None], int]


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


def hostile_frame(targets: Targets, rng: random.Random, recomputed: bool) -> Made:
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


def hostile_table(targets: Targets, rng: random.Random, recomputed: bool) -> Made:
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


def hostile_bundle(targets: Targets, rng: random.Random, recomputed: bool) -> Made:
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
) -> Made:
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


def reading(targets: Targets, name: str, folder: Path, rng: random.Random) -> Made:
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
