"""Contract checks for quantizers: run `check_quantizer` over every member of the table.

>>> from narrows.coding.quantizers import Uniform
>>> check_quantizer(Uniform(step=0.25, threshold=0.6))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Quantizer, Table, fit
from narrows.errors import CodecError


def check_quantizer(quantizer: Quantizer, *, namespaces: Sequence[Any] = ()) -> None:
    """Run all checks.

    Args:
        quantizer: The member.
        namespaces: Array libraries besides NumPy that must give the same, e.g. `torch`.

    Raises:
        AssertionError: The quantizer breaks its contract; the message says how.
    """
    for batch in sample_batches():
        table = fit(quantizer, [batch[:3], batch[3:]])
        check_values(quantizer, batch, table)
        for namespace in namespaces:
            check_namespace(quantizer, batch, table, namespace)
    check_refusals(quantizer)


def sample_batches(*, seed: int = 0) -> list[NDArray[np.float32]]:
    """Batches (n, components, positions...) of several ranks and ranges, zero among the values."""
    generator = np.random.default_rng(seed)
    laplace = generator.laplace(size=(6, 5, 4, 3)) * np.exp(-np.arange(5))[:, None, None] * 9
    laplace[0, :, 0, 0] = 0
    batches = [laplace, laplace[:, :, 0, 0], np.abs(laplace), np.zeros((4, 2, 3)), laplace - 20]
    return [batch.astype(np.float32) for batch in batches]


def check_values(quantizer: Quantizer, batch: NDArray[np.float32], table: Table) -> None:
    """Zero is kept, order is kept, twice is once, and the error is below one bin."""
    symbols = quantizer.quantize(batch, table)
    _expect(symbols.dtype == np.int32, quantizer, f"symbols are {symbols.dtype}")
    _expect(symbols.shape == batch.shape, quantizer, f"{batch.shape} becomes {symbols.shape}")
    restored = quantizer.dequantize(symbols, table)
    _expect(restored.dtype == np.float32, quantizer, f"values are {restored.dtype}")
    again = quantizer.quantize(restored, table)
    _expect(bool((again == symbols).all()), quantizer, "quantizing twice is not quantizing once")
    zero = np.zeros_like(batch)
    kept = quantizer.dequantize(quantizer.quantize(zero, table), table)
    _expect(not kept.any(), quantizer, f"zero becomes {kept.reshape(-1)[0]}")
    neighbours = [quantizer.dequantize(symbols + side, table) for side in (-1, 1)]
    bins = np.maximum(*(np.abs(neighbour - restored) for neighbour in neighbours))
    slack = 1e-5 * np.abs(batch).max() + 1e-30
    _expect(bool((np.abs(batch - restored) <= bins + slack).all()), quantizer, "error above a bin")
    ordered = quantizer.quantize(np.sort(batch, axis=0), table)
    _expect(bool((np.diff(ordered, axis=0) >= 0).all()), quantizer, "a greater value, less symbol")
    alone = quantizer.quantize(batch[:1], table)
    _expect(bool((alone == symbols[:1]).all()), quantizer, "a sample alone has other symbols")


def check_namespace(
    quantizer: Quantizer, batch: NDArray[np.float32], table: Table, namespace: Any
) -> None:
    """Another array library gives the same symbols and values, in its own arrays."""
    x = namespace.asarray(batch)
    symbols = quantizer.quantize(x, table)
    restored = quantizer.dequantize(symbols, table)
    own = type(symbols) is type(x) and type(restored) is type(x)
    _expect(own, quantizer, f"{namespace.__name__}: gives {type(symbols)} and {type(restored)}")
    expected = quantizer.quantize(batch, table)
    same = np.array_equal(np.asarray(symbols), expected)
    _expect(same, quantizer, f"{namespace.__name__}: other symbols than NumPy")
    values = quantizer.dequantize(expected, table)
    same = np.array_equal(np.asarray(restored), values)
    _expect(same, quantizer, f"{namespace.__name__}: other values than NumPy")


def check_refusals(quantizer: Quantizer) -> None:
    """NaN and infinity are refused, not made symbols."""
    batch = sample_batches()[0]
    table = fit(quantizer, [batch])
    for value in (np.nan, np.inf, -np.inf):
        bad = batch.copy()
        bad[1, 1, 1, 1] = value
        try:
            quantizer.quantize(bad, table)
        except CodecError:
            continue
        _expect(False, quantizer, f"quantizes {value}")


def _expect(true: bool, quantizer: Quantizer, otherwise: str) -> None:
    if not true:
        msg = f"{quantizer!r}: {otherwise}"
        raise AssertionError(msg)
