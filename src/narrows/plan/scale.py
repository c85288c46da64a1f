"""The block and the steps of a cut, found on a few fit examples.

The block is the one whose symbols have the least entropy. The steps are laid around the one where
the answers begin to change: the divergence of the answers grows with the square of the step, so one
trial step tells where it reaches a target, and every cut of every network gets rates that matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
_TARGET_NATS = 0.05  # about where a thousand-class network has lost a point
_TARGET_ERROR = 0.003  # squared, over the variance of the outputs, where they are no classes
_FARTHEST = 16.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Block and steps of one cut.

    Args:
        block: Side of the transform's blocks.
        rms: Root mean square of the centred feature.
        step_shares: Steps over `rms`, rising.
    """

    block: int
    rms: float
    step_shares: tuple[float, ...]


def find_scale(
    cut: Cut,
    feature: Floats,
    reference: Floats,
    tail: Tail,
    tables: dict[int, Table],
    settings: Settings,
    *,
    classed: bool,
) -> Scale:
    """Block and steps for a cut.

    Args:
        cut: Where.
        feature: Of a few examples (n, *shape).
        reference: The model's outputs on them (n, k).
        tail: The model after the cut.
        tables: Transform tables by block.
        settings: Rates, threshold.
        classed: Whether the outputs are scores of classes.

    Raises:
        PlanError: The feature does not vary.
    """
    found = [_block_bits(cut, feature, block, table) for block, table in sorted(tables.items())]
    bits, block, rms = found[0]
    for other in found[1:]:
        if other[0] < _WORTH * bits:
            bits, block, rms = other
    transform, table = BlockedPCA(block=block), tables[block]
    y = transform.forward(feature, table)

    def harm(share: float) -> float:
        member = quantizer(share * rms, settings.threshold)
        shifts = fit(member, [y])
        restored = member.dequantize(member.quantize(y, shifts), shifts)
        outputs = tail.run(transform.inverse(restored, table))
        return _harm(reference, outputs, classed=classed)

    middle = _middle_share(harm, _TARGET_NATS if classed else _TARGET_ERROR)
    first = middle * 2 ** (-(settings.rates // 2) / 2)
    shares = tuple(first * 2 ** (k / 2) for k in range(settings.rates))
    return Scale(block=block, rms=rms, step_shares=shares)


def _block_bits(cut: Cut, feature: Floats, block: int, table: Table) -> tuple[float, int, float]:
    """Bits at the trial step, block, and the feature's root mean square."""
    y = BlockedPCA(block=block).forward(feature, table)
    # Padded positions would dilute the mean over y.
    rms = math.sqrt(float(np.square(y, dtype=np.float64).sum()) / feature.size)
    if not rms:
        msg = f"tensor {cut.tensor!r} (cut {cut.index}) is constant: leave that cut out"
        raise PlanError(msg)
    return entropy_bits(np.rint(y / (_TRIAL_SHARE * rms)).astype(np.int64)), block, rms


def _middle_share(harm: Callable[[float], float], target: float) -> float:
    """The step, as a share, at which the harm reaches the target.

    One trial and the square law; a second trial at the step so found where the first was far off.
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
