"""Bytes and tables that no encoder wrote: what a decoder must survive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from narrows.coding.base import Table


def mutated_bytes(data: bytes, *, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: cut, lengthened, bits flipped, parts overwritten, and plain noise.

    Args:
        data: Good bytes.
        count: How many copies.
        seed: Same seed, same copies.
    """
    generator = np.random.default_rng(seed)
    for index in range(count):
        copy = np.frombuffer(data, np.uint8).copy()
        place = int(generator.integers(0, copy.size + 1))
        match index % 6:
            case 0:
                copy = copy[:place]
            case 1:
                noise = generator.integers(0, 256, int(generator.integers(1, 40)), np.uint8)
                copy = np.concatenate((copy, noise))
            case 2:
                copy[place : place + 1] ^= np.uint8(1 << int(generator.integers(8)))
            case 3:
                copy[place : place + 8] = generator.integers(0, 256)
            case 4:
                flips = generator.random(copy.size) < 0.02
                copy[flips] = generator.integers(0, 256, int(flips.sum()), np.uint8)
            case _:
                copy = generator.integers(0, 256, int(generator.integers(0, 200)), np.uint8)
        yield copy.tobytes()


def mutated_tables(table: Table, *, count: int, seed: int) -> Iterator[Table]:
    """Yield damaged copies of a table.

    First, for each array: left out, of other types, reshaped, cut, empty, a scalar, filled with the
    extremes of its type. Then random single elements, swaps and noise.

    Args:
        table: A good table.
        count: How many random copies after the systematic ones.
        seed: Same seed, same copies.
    """
    yield {}
    for key, array in table.items():
        yield {name: value for name, value in table.items() if name != key}
        for changed in _systematic(array):
            yield {**table, key: changed}
    generator = np.random.default_rng(seed)
    keys = sorted(table)
    for _ in range(count if keys else 0):
        key = keys[int(generator.integers(len(keys)))]
        yield {**table, key: _damaged(table[key], generator)}


def _systematic(array: np.ndarray[Any, Any]) -> Iterator[Any]:
    for dtype in ("int8", "int64", "uint64", "float64", "complex64", "bool", "S3"):
        yield array.astype(dtype)
    yield array.reshape(1, *array.shape)
    yield array.reshape(-1)[: array.size // 2]
    yield array[:0] if array.ndim else array.reshape(0, -1) if array.size == 0 else array[None, :0]
    yield np.zeros((), array.dtype)
    yield array.tolist()
    yield None
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        for fill in (limits.min, limits.max, 0, 1):
            yield np.full_like(array, fill)
    elif array.dtype.kind == "f":
        for value in (np.nan, np.inf, -1.0, 0.0):
            yield np.full_like(array, value)


def _damaged(array: np.ndarray[Any, Any], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """One element changed, two swapped, or some bytes replaced by noise."""
    copy = np.ascontiguousarray(array).copy()
    flat = copy.reshape(-1)
    if not flat.size:
        return copy
    first, second = generator.integers(0, flat.size, 2)
    match int(generator.integers(3)):
        case 0:
            raw = flat[first : first + 1].view(np.uint8)
            raw[generator.integers(raw.size)] ^= np.uint8(1 << int(generator.integers(8)))
        case 1:
            flat[first], flat[second] = flat[second], flat[first]
        case _:
            raw = flat.view(np.uint8)
            hit = generator.random(raw.size) < 0.01
            raw[hit] = generator.integers(0, 256, int(hit.sum()), np.uint8)
    return copy
