"""Hostile packed files: parts and headers spoiled, half of them with checksums made good."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import nn

from hostile_cases import Made, expect
from mutations import spoiled, spoiled_json
from narrows.coding import CODERS, QUANTIZERS, fit
from narrows.coding.quantizers import Affine, Product, Residual, Scaled, Uniform
from narrows.coding.quantizers.codebook import codebook_table
from narrows.errors import CorruptData, ModelError
from narrows.graph.packed_model import pack_model, unpack_model
from narrows.packed import Grid, PackedFile, pack
from narrows.packed.preset import deflated, inflated
from narrows.store import load_network, pack_network

MOST_BYTES: Final = 1 << 22
_HEAD: Final = struct.Struct("<7sBII")


def good_files() -> list[bytes]:
    """One file for each coder, of tensors on every kind of grid, and one of each kind of model."""
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        "bytes": random.integers(-9, 9, (6, 40)).astype(np.int8),
        "floats": random.normal(size=12).astype(np.float32),
        "wide": (random.normal(size=(5, 20)) * 1e6).astype(np.int32),
    }
    grids = {}
    for quantizer in (Scaled(step=0.1), Uniform(step=0.3), Affine(bits=4, granularity="channel")):
        values = random.laplace(size=(24, 30)).astype(np.float32)
        fitter = quantizer.fitter(values.shape)
        fitter.add(values[None])
        grid = Grid(quantizer=quantizer, table=fitter.table())
        tensors[quantizer.name] = grid.values(quantizer.quantize(values[None], grid.table)[0])
        grids[quantizer.name] = grid
    centres = codebook_table(random.normal(size=11).astype(np.float32))
    tensors["codebook"] = centres["centres"][random.integers(0, 11, (20, 30))]
    tensors["fixed point"] = (random.integers(-(2**11), 2**11, (16, 20)) / 256).astype(np.float32)
    tensors["sparse"] = values * (np.abs(values) > 1)
    for vectors in (Product(levels=8, length=3), Residual(levels=8, stages=2)):
        table = fit(vectors, [values[None]])
        grids[vectors.name] = Grid(quantizer=vectors, table=table)
        tensors[vectors.name] = vectors.dequantize(vectors.quantize(values[None], table), table)[0]
    files = [pack(tensors, grids=grids, coder=kind()) for kind in CODERS.values()]
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 30] x) => (float[N, 24] y) {h = Gemm<transB=1>(x, scaled) y = Relu(h)}"""
    proto = onnx.parser.parse_model(text)
    weight = tensors["scaled"]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "scaled"))
    files.append(pack_model(proto, grids={"scaled": grids["scaled"]}))
    torch.manual_seed(0)
    recurrent = nn.GRU(20, 6, num_layers=2, batch_first=True)
    files.append(pack_network(nn.Sequential(nn.Linear(30, 20), nn.ReLU(), recurrent)))
    for data in files:  # or everything would be refused, and nothing found
        _reading(data)()
    return files


def hostile_weights(files: list[bytes], rng: random.Random, recomputed: bool) -> Made:
    """A spoiled file, and what it says that it decodes to."""
    good = rng.choice(files)
    data = _checked(good, rng) if recomputed else spoiled(good, rng, rng.choice(files))
    return _reading(data), _declared(data)


def _checked(good: bytes, rng: random.Random) -> bytes:
    """Spoiled within the checksums: parts, the header, or the order of parts."""
    header, parts = _opened(good)
    kind = rng.randrange(5)
    if kind == 0 and len(parts) > 1:
        one, other = rng.sample(range(len(parts)), 2)
        parts[one], parts[other] = parts[other], parts[one]
    elif kind <= 2:
        place = rng.randrange(len(parts))
        parts[place] = spoiled(parts[place], rng, rng.choice(parts))
        if rng.random() < 0.7:  # as long as it was, so that it gets to the decoder
            size = header["parts"][place]
            parts[place] = parts[place][:size].ljust(size, b"\0")
    else:
        header = json.loads(spoiled_json(json.dumps(header).encode(), rng))
    sized = isinstance(header, dict) and isinstance(header.get("parts"), list)
    if sized and kind <= 2:
        header["parts"] = [len(part) for part in parts]
    packed = deflated(json.dumps(header).encode())
    head = _HEAD.pack(b"narrows", 2, len(packed), zlib.crc32(packed))
    body = b"".join(part + struct.pack("<I", zlib.crc32(part)) for part in parts)
    return head + packed + body


def _opened(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    _, _, size, _ = _HEAD.unpack(data[: _HEAD.size])
    start = _HEAD.size + size
    header = json.loads(inflated(data[_HEAD.size : start], 1 << 20))
    parts = []
    for length in header["parts"]:
        parts.append(data[start : start + length])
        start += length + 4
    return header, parts


def _declared(data: bytes) -> int:
    """What a file decodes to, as far as its header can be read."""
    try:
        file = PackedFile.open(data, most_bytes=MOST_BYTES)
    except CorruptData:
        return 0
    sizes = [
        np.dtype(entry["dtype"]).itemsize * int(np.prod(entry["shape"], dtype=np.int64))
        for entry in file.entries.values()
    ]
    return int(sum(sizes))


def _reading(data: bytes) -> Callable[[], None]:
    def run() -> None:
        file = PackedFile.open(data, most_bytes=MOST_BYTES)
        for name, entry in file.entries.items():
            values = file.tensor(name)
            held = (values.dtype.name, list(values.shape)) == (entry["dtype"], entry["shape"])
            expect(held, f"{name} is {values.dtype} {values.shape}")
            grid = file.grid(name)
            expect(grid is None or grid.quantizer.name in QUANTIZERS, f"{name} has no grid")
        if file.kind == "onnx":
            unpack_model(file)
        if file.kind == "network":
            with contextlib.suppress(ModelError):  # of the structure
                load_network(data)

    return run
