"""Contract checks for transforms: run `check_transform` over every member of the table.

>>> from narrows.coding.transforms import Identity
>>> check_transform(Identity())
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Table, Transform, fit
from narrows.errors import CodecError

TOLERANCE = 1e-4


def check_transform(transform: Transform, *, tolerance: float = TOLERANCE) -> None:
    """Run all checks.

    Args:
        transform: The member, set up to keep every component.
        tolerance: Greatest error of a round trip, as a share of the greatest value.

    Raises:
        AssertionError: The transform breaks its contract; the message says how.
    """
    for batch in sample_batches():
        table = fit(transform, [batch[:30], batch[30:]])
        check_inverse(transform, batch, table, tolerance)
        check_partitions(transform, batch, tolerance)
    check_refusals(transform)


def sample_batches(*, seed: int = 0) -> list[NDArray[np.float32]]:
    """Correlated features (n, channels, height, width): even, odd and single-pixel sizes."""
    generator = np.random.default_rng(seed)
    batches = []
    for channels, height, width in ((6, 4, 4), (5, 7, 5), (3, 1, 1), (8, 6, 3)):
        mixing = generator.normal(size=(channels, channels))
        noise = generator.normal(size=(60, channels, height, width)) + 1
        smooth = noise + np.roll(noise, 1, -1) + np.roll(noise, 1, -2)
        batches.append(np.einsum("dc,nchw->ndhw", mixing, smooth).astype(np.float32))
    return batches


def check_inverse(
    transform: Transform, batch: NDArray[np.float32], table: Table, tolerance: float
) -> None:
    """Forward and inverse undo each other, for a batch and for a sample alone."""
    before = batch.copy()
    components = transform.forward(batch, table)
    _expect(components.dtype == np.float32, transform, f"components are {components.dtype}")
    _expect(components.shape[0] == batch.shape[0], transform, f"becomes {components.shape}")
    restored = transform.inverse(components, table)
    _expect(restored.dtype == np.float32, transform, f"values are {restored.dtype}")
    _expect(restored.shape == batch.shape, transform, f"{batch.shape} becomes {restored.shape}")
    error = float(np.abs(restored - batch).max()) / _scale(batch)
    _expect(error <= tolerance, transform, f"{batch.shape}: error {error:.1e} of the maximum")
    alone = transform.forward(batch[:1], table)
    apart = float(np.abs(alone - components[:1]).max()) / _scale(components)
    _expect(apart <= tolerance, transform, f"a sample alone differs by {apart:.1e}")
    _expect(bool((batch == before).all()), transform, "changes its input")


def check_partitions(transform: Transform, batch: NDArray[np.float32], tolerance: float) -> None:
    """However the samples come in batches, one alone or none among them, the fit is good."""
    partitions = {
        "one batch": [batch],
        "one sample first": [batch[:1], batch[1:]],
        "an empty batch first": [batch[:0], batch],
        "one sample a batch": [batch[i : i + 1] for i in range(len(batch))],
    }
    for case, batches in partitions.items():
        table = fit(transform, batches)
        finite = all(np.isfinite(array).all() for array in table.values())
        _expect(finite, transform, f"{case}: the table is not finite")
        restored = transform.inverse(transform.forward(batch, table), table)
        close = np.abs(restored - batch).max() <= tolerance * _scale(batch)
        _expect(bool(close), transform, f"fitted to {case}, it does not invert")


def check_refusals(transform: Transform) -> None:
    """A transform that learns from samples refuses to learn from none, or from NaN."""
    batch = sample_batches()[0]
    if not fit(transform, [batch]):
        return
    bad = batch.copy()
    bad[1, 1, 1, 1] = np.nan
    for case, batches in {"no samples": [batch[:0]], "NaN": [batch, bad]}.items():
        try:
            fit(transform, batches)
        except CodecError:
            continue
        _expect(False, transform, f"is fitted to {case}")


def _scale(x: NDArray[np.float32]) -> float:
    return float(np.abs(x).max()) + 1e-30


def _expect(true: bool, transform: Transform, otherwise: str) -> None:
    if not true:
        msg = f"{transform!r}: {otherwise}"
        raise AssertionError(msg)
