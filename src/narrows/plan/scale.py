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

from narrows.coding import Table, fit
from narrows.coding.base import Floats, Symbols
from narrows.coding.coders.ans import Ans
from narrows.coding.transforms.blocked_pca import BlockedPCA, MomentMatcher
from narrows.coding.transforms.separable_klt import SeparableKLT
from narrows.errors import PlanError
from narrows.graph.cuts import Cut
from narrows.measure.divergence import divergences, scale_of
from narrows.plan.features import Tail
from narrows.plan.fitted import MapTransform, quantizer
from narrows.plan.settings import Settings

_WORTH = 0.97  # a larger block must save 3 % of the bits: its projection costs the head more
_TRIAL_SHARE = 1.0
TARGET_NATS = 0.04  # about where a thousand-class network has lost a point
_TARGET_ERROR = 0.003  # squared, over the variance of the outputs, where they are no classes
_FARTHEST = 16.0
# Moments of a block cost its dimension squared, and the fused head its dimension.
_MOST_DIMENSION = 768
_LEAST_DIMENSION, _VECTORS = 16, 4
_WHOLE_MAP = 256  # positions; the product over them costs the head their number a value


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Transform and steps of one cut.

    Args:
        transform: The one that needs the fewest bits.
        rms: Root mean square of the components.
        step_shares: Steps over `rms`, rising.
    """

    transform: MapTransform
    rms: float
    step_shares: tuple[float, ...]


def transforms_of(cut: Cut, settings: Settings, examples: int) -> tuple[MapTransform, ...]:
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
    channels, sides = (shape[-1], shape[:-1]) if last else (shape[0], shape[1:])
    blocks = [int(name[3:]) for name in settings.transforms if name != "klt"]
    found: list[MapTransform] = [
        _transform(cut, block, examples, last)
        for block in blocks
        if block == 1 or channels * block**2 <= _MOST_DIMENSION or len(settings.transforms) == 1
    ]
    if "klt" in settings.transforms and min(sides) > 1:
        found.append(SeparableKLT(block=_klt_block(sides), channels_last=last))
    return tuple(found or [_transform(cut, 1, examples, last)])


def _klt_block(sides: tuple[int, ...]) -> int:
    """The whole of a small map; else the side of 4 to 8 that pads least, and of those the largest.

    Example:
        >>> _klt_block((14, 14)), _klt_block((28, 28)), _klt_block((30, 30))
        (14, 7, 6)
    """
    if math.prod(sides) <= _WHOLE_MAP:
        return max(2, *sides)
    return min(range(8, 3, -1), key=lambda block: sum(-side % block for side in sides))


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
    tables: Mapping[MapTransform, Table],
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
    best: tuple[float, MapTransform, float, float] | None = None
    for transform, table in tables.items():
        y = transform.forward(feature, table)
        rms = math.sqrt(float(np.mean(np.square(y, dtype=np.float64))))
        if not rms:
            msg = f"tensor {cut.tensor!r} (cut {cut.index}) is constant: leave that cut out"
            if len(feature) == 1:
                msg = "the fit set has one example: codecs need some that differ, fifty or more"
            raise PlanError(msg)

        own = channel_moments(feature, transform)

        def harm(
            share: float,
            own: Table = own,
            y: Floats = y,
            rms: float = rms,
            transform: MapTransform = transform,
            table: Table = table,
        ) -> float:
            member = quantizer(share * rms, settings.threshold)
            shifts = fit(member, [y])
            values = member.dequantize(member.quantize(y, shifts), shifts)
            matcher = MomentMatcher({**table, **own})
            last = transform.channels_last
            matcher.add(transform.inverse(values, table), channels_last=last)
            outputs = tail.run(transform.inverse(values, {**table, **matcher.matched()}))
            return _harm(reference, outputs, classed=classed)

        share = middle_share(harm, TARGET_NATS if classed else _TARGET_ERROR)
        member = quantizer(share * rms, settings.threshold)
        bits = coded_bits(member.quantize(y, fit(member, [y])))
        if best is None or bits < _WORTH * best[0]:
            best = (bits, transform, rms, share)
    assert best is not None
    _, transform, rms, middle = best
    below = settings.rates // 2
    shares = tuple(middle * settings.step_ratio ** (k - below) for k in range(settings.rates))
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
        return float(divergences(reference, outputs, scale_of(reference)).mean())
    spread = float(np.var(reference, dtype=np.float64)) or 1.0
    return float(np.mean(np.square(reference - outputs, dtype=np.float64))) / spread


def coded_bits(symbols: Symbols) -> float:
    """Bits of symbols (n, components, positions...) under tables counted on them.

    The tables are those of classes of components: one for each component would seem to know all
    about the few symbols that it has.

    Example:
        >>> round(coded_bits(np.array([[[0, 1, 0, 1], [5, 5, 5, 5]]], np.int32)), 1)
        4.3
    """
    coder = Ans()
    table = fit(coder, [symbols])
    return sum(coder.cost_bits(sample, table) for sample in symbols)


def channel_moments(feature: Floats, transform: MapTransform) -> Table:
    """Mean and variance of each channel of features (n, *shape), as tables have them."""
    x = np.moveaxis(feature, -1 if transform.channels_last else 1, 0)
    rows = x.reshape(len(x), -1)
    mean, variance = rows.mean(1, dtype=np.float64), rows.var(1, dtype=np.float64)
    return {
        "channel_mean": mean.astype(np.float32),
        "channel_variance": variance.astype(np.float32),
    }
