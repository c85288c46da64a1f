"""The transform and the steps of a cut, found on a few fit examples.

The steps are laid around the one where the answers begin to change: their divergence grows with
the square of the step, so a trial step or two tell where it reaches a target, and every cut of
every network gets rates that matter. The transform is the one that needs the fewest bits there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Table, fit
from narrows.coding.base import Floats
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.errors import PlanError
from narrows.graph.cuts import Cut
from narrows.measure.quality import divergences
from narrows.plan.features import Tail
from narrows.plan.fitted import quantizer
from narrows.plan.settings import Settings

_WORTH = 0.97  # a larger block must save 3 % of the bits: its projection costs the head more
_TRIAL_SHARE = 1.0
TARGET_NATS = 0.04  # about where a thousand-class network has lost a point
_TARGET_ERROR = 0.003  # squared, over the variance of the outputs, where they are no classes
_FARTHEST = 16.0
# Moments of a block cost its dimension squared, and the fused head its dimension.
_MOST_DIMENSION = 768
_LEAST_DIMENSION, _VECTORS = 16, 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Transform and steps of one cut.

    Args:
        transform: The one that needs the fewest bits.
        rms: Root mean square of the components.
        step_shares: Steps over `rms`, rising.
    """

    transform: BlockedPCA
    rms: float
    step_shares: tuple[float, ...]


def transforms_of(cut: Cut, settings: Settings, examples: int) -> tuple[BlockedPCA, ...]:
    """Transforms worth fitting at a cut, the cheapest first.

    The channels are found by the shape: (height, width, channels) where the first two are equal
    and the last two are not; of (a, b) either may be the channels, and both are tried. A basis is
    no longer than a quarter of the vectors it is fitted to: a longer one fits the examples and
    nothing else (1 280 pooled features from 250 pictures).
    """
    shape = cut.shape
    if len(shape) == 1:
        return (_transform(cut, 1, examples),)
    if len(shape) == 2:
        return tuple(_transform(cut, 1, examples, last) for last in (False, True))
    last = shape[0] == shape[1] != shape[2]
    channels = shape[-1] if last else shape[0]
    blocks = [b for b in settings.blocks if b == 1 or channels * b * b <= _MOST_DIMENSION]
    return tuple(_transform(cut, block, examples, last) for block in blocks or settings.blocks[:1])


def _transform(cut: Cut, block: int, examples: int, channels_last: bool = False) -> BlockedPCA:
    free = BlockedPCA(block=block, channels_last=channels_last)
    vectors = examples * math.prod(free.geometry(cut.shape).blocks)
    limit = max(_LEAST_DIMENSION, vectors // _VECTORS)
    return replace(free, max_dimension=min(free.max_dimension, limit))


def find_scale(
    cut: Cut,
    feature: Floats,
    reference: Floats,
    tail: Tail,
    tables: Mapping[BlockedPCA, Table],
    settings: Settings,
    *,
    classed: bool,
) -> Scale:
    """Transform and steps for a cut.

    Args:
        cut: Where.
        feature: Of a few examples (n, *shape).
        reference: The model's outputs on them (n, k).
        tail: The model after the cut.
        tables: Tables of the transforms to choose from, the cheapest first.
        settings: Rates, threshold.
        classed: Whether the outputs are scores of classes.

    Raises:
        PlanError: The feature does not vary.
    """
    best: tuple[float, BlockedPCA, float, float] | None = None
    for transform, table in tables.items():
        y = transform.forward(feature, table)
        rms = math.sqrt(float(np.mean(np.square(y, dtype=np.float64))))
        if not rms:
            msg = f"tensor {cut.tensor!r} (cut {cut.index}) is constant: leave that cut out"
            raise PlanError(msg)

        def harm(
            share: float,
            y: Floats = y,
            rms: float = rms,
            transform: BlockedPCA = transform,
            table: Table = table,
        ) -> float:
            member = quantizer(share * rms, settings.threshold)
            shifts = fit(member, [y])
            restored = member.dequantize(member.quantize(y, shifts), shifts)
            outputs = tail.run(transform.inverse(restored, table))
            return _harm(reference, outputs, classed=classed)

        share = middle_share(harm, TARGET_NATS if classed else _TARGET_ERROR)
        bits = entropy_bits(np.rint(y / (share * rms)).astype(np.int64))
        if best is None or bits < _WORTH * best[0]:
            best = (bits, transform, rms, share)
    assert best is not None
    _, transform, rms, middle = best
    first = middle * 2 ** (-(settings.rates // 2) / 2)
    shares = tuple(first * 2 ** (k / 2) for k in range(settings.rates))
    return Scale(transform=transform, rms=rms, step_shares=shares)


def middle_share(harm: Callable[[float], float], target: float) -> float:
    """The step, as a share, at which the harm reaches the target.

    One trial and the square law; a second trial at the step so found where the first was far off.

    Example:
        >>> round(middle_share(lambda share: 0.8 * share**2, 0.05), 3)
        0.25
    """
    share = _TRIAL_SHARE
    for _ in range(2):
        found = harm(share)
        factor = math.sqrt(target / found) if found > 0 else _FARTHEST
        share *= min(max(factor, 1 / _FARTHEST), _FARTHEST)
        if 0.5 < factor < 2.0:
            break
    return share


def _harm(reference: Floats, outputs: Floats, *, classed: bool) -> float:
    if not np.isfinite(outputs).all():
        return math.inf
    if classed:
        return float(divergences(reference, outputs).mean())
    spread = float(np.var(reference, dtype=np.float64)) or 1.0
    return float(np.mean(np.square(reference - outputs, dtype=np.float64))) / spread


def entropy_bits(symbols: NDArray[np.int64]) -> float:
    """Bits of symbols (n, components, positions...) coded at their own entropy, by component.

    Example:
        >>> entropy_bits(np.array([[[0, 1, 0, 1], [5, 5, 5, 5]]]))
        4.0
    """
    rows = np.moveaxis(symbols, 1, 0).reshape(symbols.shape[1], -1).clip(-128, 127) + 128
    flat = rows + 256 * np.arange(len(rows))[:, None]
    counts = np.bincount(flat.reshape(-1), minlength=256 * len(rows)).reshape(len(rows), 256)
    shares = counts / rows.shape[1]
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(counts * logs).sum())
