"""Contract checks for coders: run `check_coder` over every member of the table, and over yours.

>>> from narrows.coding.coders import Raw
>>> check_coder(Raw())
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Coder, Shape, Symbols, Table
from narrows.errors import CodecError, CorruptData
from narrows.testing.hostile import mutated_bytes, mutated_tables

TIME_LIMIT_S = 1.0
MEMORY_FACTOR = 4
MEMORY_EXTRA_BYTES = 16 * 2**20


def check_coder(coder: Coder, *, hostile_payloads: int = 300, hostile_tables: int = 100) -> None:
    """Run all checks.

    Raises:
        AssertionError: The coder breaks its contract; the message says how.
    """
    check_round_trips(coder)
    check_unseen_symbols(coder)
    check_refusals(coder)
    check_hostile_payloads(coder, count=hostile_payloads)
    check_hostile_tables(coder, count=hostile_tables)
    check_memory(coder)


def sample_batches(*, seed: int = 0) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Yield the name of a case and its symbols (n, components, positions...)."""
    generator = np.random.default_rng(seed)
    scales = np.exp(-np.arange(12) / 3) * 5
    laplace = generator.laplace(size=(6, 12, 5, 7)) * scales[:, None, None]
    yield "feature", np.rint(laplace).astype(np.int32)
    yield "features alone", np.rint(laplace[:, :, 0, 0]).astype(np.int32)
    yield "one position in many", np.rint(laplace.transpose(0, 2, 3, 1)[:, :1]).astype(np.int32)
    yield "all zero", np.zeros((2, 3, 4, 4), np.int32)
    yield "constant", np.full((2, 3, 4, 4), -7, np.int32)
    yield "one symbol", np.full((1, 1), 5, np.int32)
    yield "extremes", np.array([[[2**31 - 1, -(2**31)], [0, 1]]], np.int32)
    wide = generator.integers(-(2**31), 2**31, (3, 4, 9), np.int64)
    yield "random", wide.astype(np.int32)


def check_round_trips(coder: Coder) -> None:
    """What goes in comes out; the same symbols give the same bytes."""
    for case, batch in sample_batches():
        table = fitted(coder, batch)
        for symbols in batch:
            data = coder.encode(symbols, table)
            _expect(isinstance(data, bytes), coder, f"{case}: encode gives {type(data).__name__}")
            _expect(data == coder.encode(symbols.copy(), table), coder, f"{case}: bytes differ")
            strided = np.asfortranarray(symbols)
            _expect(data == coder.encode(strided, table), coder, f"{case}: memory order counts")
            decoded = coder.decode(data, symbols.shape, table)
            _expect(decoded.dtype == np.int32, coder, f"{case}: decoded as {decoded.dtype}")
            same = decoded.shape == symbols.shape and bool((decoded == symbols).all())
            _expect(same, coder, f"{case}: decoded symbols differ")


def check_unseen_symbols(coder: Coder) -> None:
    """Symbols that the fit has not seen are coded too, however large."""
    batches = dict(sample_batches())
    table = fitted(coder, batches["feature"])
    generator = np.random.default_rng(1)
    for scale in (1, 100, 10**5, 2**31 - 1):
        symbols = batches["feature"][0].copy()
        places = generator.random(symbols.shape) < 0.3
        symbols[places] = generator.integers(-scale, scale, int(places.sum()))
        symbols[-1, -1, -1] = -(2**31)
        decoded = coder.decode(coder.encode(symbols, table), symbols.shape, table)
        _expect(np.array_equal(decoded, symbols), coder, f"unseen up to {scale}: symbols differ")
    nothing = fitted(coder, batches["all zero"][:0])
    symbols = batches["constant"][0]
    decoded = coder.decode(coder.encode(symbols, nothing), symbols.shape, nothing)
    _expect(np.array_equal(decoded, symbols), coder, "fitted to nothing: symbols differ")


def check_refusals(coder: Coder) -> None:
    """Symbols and tables that do not belong together are refused, not coded wrongly."""
    batch = dict(sample_batches())["feature"]
    table = fitted(coder, batch)
    for symbols in (batch[0].astype(np.int64), batch[0].astype(np.float32), batch[0][:-1]):
        try:
            coder.encode(symbols, table)
        except CodecError:
            continue
        _expect(False, coder, f"encodes {symbols.dtype} {symbols.shape} with a table of int32")
    for shape in ((), (0,), (12, 0), (11, 5, 7), (12, 2**31, 2**31)):
        try:
            coder.validate(shape, table)
        except CorruptData:
            continue
        _expect(False, coder, f"accepts its table for symbols of shape {shape}")


def check_hostile_payloads(coder: Coder, *, count: int, seed: int = 0) -> None:
    """Damaged payloads give `CorruptData`, or symbols of the shape; in bounded time."""
    for case, batch in sample_batches():
        table = fitted(coder, batch)
        data = coder.encode(batch[0], table)
        for damaged in mutated_bytes(data, count=count // 4, seed=seed):
            _survives(coder, damaged, batch.shape[1:], table, f"{case}, seed {seed}")


def check_hostile_tables(coder: Coder, *, count: int, seed: int = 0) -> None:
    """Damaged tables give `CorruptData`, or still code and decode what they are given."""
    batch = dict(sample_batches())["feature"]
    symbols, good = batch[0], fitted(coder, batch)
    data = coder.encode(symbols, good)
    for number, table in enumerate(mutated_tables(good, count=count, seed=seed)):
        where = f"table {number}, seed {seed}"
        _survives(coder, data, symbols.shape, table, where)
        try:
            coder.validate(symbols.shape, table)
        except CorruptData:
            continue
        decoded = coder.decode(coder.encode(symbols, table), symbols.shape, table)
        _expect(np.array_equal(decoded, symbols), coder, f"{where}: accepted, but codes wrongly")


def check_memory(coder: Coder, *, seed: int = 0) -> None:
    """Decoding stays within four times the decoded size and 16 MiB, good bytes or bad."""
    generator = np.random.default_rng(seed)
    shape = (8, 128, 1024)
    dense = generator.integers(-3, 4, shape).astype(np.int32)
    table = fitted(coder, dense[None])
    wild = (dense << 20).astype(np.int32)
    noise = generator.integers(0, 256, dense.nbytes, np.uint8).tobytes()
    limit = MEMORY_FACTOR * dense.nbytes + MEMORY_EXTRA_BYTES
    payloads = {"good": coder.encode(dense, table), "escapes": coder.encode(wild, table)}
    for name, data in {**payloads, "noise": noise, "zeros": bytes(dense.nbytes)}.items():
        tracemalloc.start()
        try:
            coder.decode(data, shape, table)
        except CorruptData:
            _expect(name not in payloads, coder, f"{name}: refuses its own payload")
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        _expect(peak <= limit, coder, f"{name}: {peak} bytes of memory, at most {limit} allowed")


def fitted(coder: Coder, batch: NDArray[np.int32]) -> Table:
    """The coder's table for a batch, which may be empty; its arrays hold integers only."""
    fitter = coder.fitter(batch.shape[1:])
    fitter.add(batch)
    table = fitter.table()
    kinds = {name: array.dtype.kind for name, array in table.items()}
    _expect(set(kinds.values()) <= {"i", "u"}, coder, f"table holds other than integers: {kinds}")
    coder.validate(batch.shape[1:], table)
    return table


def _survives(coder: Coder, data: bytes, shape: Shape, table: Table, where: str) -> None:
    """Decode; symbols of the shape or `CorruptData`, in bounded time."""
    begin = time.perf_counter()
    try:
        symbols: Symbols = coder.decode(data, shape, table)
    except CorruptData:
        pass
    else:
        kept = symbols.shape == tuple(shape) and symbols.dtype == np.int32
        _expect(kept, coder, f"{where}: decodes {data[:24].hex()} to {symbols.shape}")
    taken = time.perf_counter() - begin
    _expect(taken < TIME_LIMIT_S, coder, f"{where}: {taken:.2f} s for {data[:24].hex()}")


def _expect(true: bool, coder: Coder, otherwise: str) -> None:
    if not true:
        msg = f"{coder!r}: {otherwise}"
        raise AssertionError(msg)
