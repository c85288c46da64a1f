"""Contract checks for quantizers: run `check_quantizer` over every member of the table.

>>> from narrows.coding.quantizers import Uniform
>>> check_quantizer(Uniform(step=0.25, threshold=0.6))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Quantizer, Symbols, Table, fit
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
    """Shapes and types are right, a sample is quantized for itself, and promises are kept."""
    symbols = _symbols(quantizer, batch, table)
    _expect(symbols.dtype == np.int32, quantizer, f"symbols are {symbols.dtype}")
    good = symbols.ndim == batch.ndim and len(symbols) == len(batch)
    _expect(good, quantizer, f"{batch.shape} becomes {symbols.shape}")
    restored = quantizer.dequantize(symbols, table)
    _expect(restored.dtype == np.float32, quantizer, f"values are {restored.dtype}")
    _expect(restored.shape == batch.shape, quantizer, f"{batch.shape} comes back {restored.shape}")
    alone = _symbols(quantizer, batch[:1], table)
    _expect(bool((alone == symbols[:1]).all()), quantizer, "a sample alone has other symbols")
    for promise in sorted(quantizer.promises):
        _PROMISED[promise](quantizer, batch, symbols, table)


def _check_zero(
    quantizer: Quantizer, batch: NDArray[np.float32], symbols: Symbols, table: Table
) -> None:
    kept = quantizer.dequantize(_symbols(quantizer, np.zeros_like(batch), table), table)
    _expect(not kept.any(), quantizer, f"zero becomes {kept.reshape(-1)[0]}")


def _check_once(
    quantizer: Quantizer, batch: NDArray[np.float32], symbols: Symbols, table: Table
) -> None:
    again = _symbols(quantizer, quantizer.dequantize(symbols, table), table)
    _expect(bool((again == symbols).all()), quantizer, "quantizing twice is not quantizing once")


def _check_order(
    quantizer: Quantizer, batch: NDArray[np.float32], symbols: Symbols, table: Table
) -> None:
    _expect(symbols.shape == batch.shape, quantizer, f"{batch.shape} becomes {symbols.shape}")
    ordered = _symbols(quantizer, np.sort(batch, axis=0), table)
    _expect(bool((np.diff(ordered, axis=0) >= 0).all()), quantizer, "a greater value, less symbol")


def _check_bin(
    quantizer: Quantizer, batch: NDArray[np.float32], symbols: Symbols, table: Table
) -> None:
    restored = quantizer.dequantize(symbols, table)
    neighbours = [quantizer.dequantize(symbols + side, table) for side in (-1, 1)]
    bins = np.maximum(*(np.abs(neighbour - restored) for neighbour in neighbours))
    slack = 1e-5 * np.abs(batch).max() + 1e-30
    _expect(bool((np.abs(batch - restored) <= bins + slack).all()), quantizer, "error above a bin")


_PROMISED: Final = {
    "zero": _check_zero,
    "once": _check_once,
    "order": _check_order,
    "bin": _check_bin,
}


def check_namespace(
    quantizer: Quantizer, batch: NDArray[np.float32], table: Table, namespace: Any
) -> None:
    """Another array library gives the same symbols and values, in its own arrays."""
    x = namespace.asarray(batch)
    symbols = _symbols(quantizer, x, table, namespace)
    restored = quantizer.dequantize(symbols, table)
    own = type(symbols) is type(x) and type(restored) is type(x)
    _expect(own, quantizer, f"{namespace.__name__}: gives {type(symbols)} and {type(restored)}")
    expected = _symbols(quantizer, batch, table)
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
            _symbols(quantizer, bad, table)
        except CodecError:
            continue
        _expect(False, quantizer, f"quantizes {value}")


def _symbols(quantizer: Quantizer, x: Any, table: Table, namespace: Any = np) -> Any:
    """The symbols of a batch, with the same noise for the same place where there is some."""
    if not quantizer.stochastic:
        return quantizer.quantize(x, table)
    quantize: Any = quantizer.quantize
    noise = np.random.default_rng(0).random(tuple(x.shape)).astype(np.float32)
    return quantize(x, table, noise=namespace.asarray(noise))


def _expect(true: bool, quantizer: Quantizer, otherwise: str) -> None:
    if not true:
        msg = f"{quantizer!r}: {otherwise}"
        raise AssertionError(msg)
