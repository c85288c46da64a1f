"""Quantizer and coder tables of all rates of one cut, from batches of features.

a few examples   which components ever leave zero; gain and offset of the channels
many             counts of the kept symbols for each coder
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS, Table
from narrows.coding.base import Fitter, Floats
from narrows.coding.quantizers.uniform import Uniform
from narrows.coding.transforms.blocked_pca import MomentMatcher
from narrows.coding.transforms.separable_klt import SeparableKLT
from narrows.graph.cuts import Cut
from narrows.plan.fitted import (
    FittedCut,
    FittedRate,
    MapTransform,
    kept_flags,
    quantizer,
    truncated,
)
from narrows.plan.scale import Scale, channel_moments
from narrows.plan.settings import Settings

# Enough for static tables; Huffman's fitter keeps what it is given first.
_SYMBOLS = 1 << 21
_HUFFMAN_SYMBOLS = 1 << 19
_LEFT_OUT = 0.002
_CHANNELS = 16


@final
class Tally:
    """Gathers the tables of one cut.

    Args:
        cut: Where.
        scale: Its transform and steps.
        table: The transform's.
        first: Features of a few examples (n, *shape).
        settings: Coders, threshold.
    """

    def __init__(
        self, cut: Cut, scale: Scale, table: Table, first: Floats, settings: Settings
    ) -> None:
        self.cut, self._scale, self._settings, self._table = cut, scale, settings, table
        self._seen = 0
        y = scale.transform.forward(first, table)
        # Moments are matched on these examples against their own: against those of the whole set
        # the gain would make up for a difference between examples.
        own = {**table, **channel_moments(first, scale.transform)}
        self._rates = [
            _Rate(
                quantizer(scale.rms * share, settings.threshold),
                scale.transform,
                own,
                y,
                settings.coders,
            )
            for share in scale.step_shares
        ]

    @property
    def enough(self) -> bool:
        """Whether more examples would change little."""
        return self._seen >= _SYMBOLS

    def count(self, feature: Floats) -> None:
        """Count the symbols of features (n, *shape)."""
        y = self._scale.transform.forward(feature, self._table)
        huffman_too = self._seen < _HUFFMAN_SYMBOLS
        self._seen += y.size
        for rate in self._rates:
            rate.count(y, huffman_too=huffman_too)

    def result(self) -> FittedCut:
        """What was fitted."""
        shares = self._scale.step_shares
        return FittedCut(
            cut=self.cut.index,
            shape=self.cut.shape,
            transform=self._scale.transform,
            transform_table=self._table,
            threshold=self._settings.threshold,
            rates=tuple(rate.result(k, shares[k]) for k, rate in enumerate(self._rates)),
        )


def _multiple(transform: MapTransform, table: Table) -> int:
    """A separable transform computes whole positions, a convolution blocks of 16 channels."""
    return len(table["gain"]) if isinstance(transform, SeparableKLT) else _CHANNELS


def kept_components(active: NDArray[np.int64], multiple: int) -> int:
    """How many components to code, from how often each left zero, the largest variance first.

    What is left out is one in five hundred of the symbols that are not zero.

    Args:
        active: How often each left zero.
        multiple: The number is a multiple of it where it can be: what costs the head no more.

    Example:
        >>> kept_components(np.array([900, 90, 9] + 30 * [0] + [1]), 16)
        16
    """
    total = np.cumsum(active)
    needed = int(np.searchsorted(total, (1 - _LEFT_OUT) * total[-1])) + 1
    return min(len(active), -(-needed // multiple) * multiple)


class _Rate:
    """One step of one cut."""

    def __init__(
        self,
        member: Uniform,
        transform: MapTransform,
        table: Table,
        y: Floats,
        coders: tuple[str, ...],
    ) -> None:
        self._member = member
        self._quantizer_table = member.fitter(y.shape[1:]).table()
        symbols = member.quantize(y, self._quantizer_table)
        active = np.count_nonzero(symbols, axis=(0, *range(2, symbols.ndim)))
        self._kept = kept_components(
            active.reshape(table["weight"].shape).sum(0), _multiple(transform, table)
        )
        self._flags = kept_flags(table, self._kept)
        smaller = truncated(table, self._kept)
        values = member.dequantize(symbols[:, self._flags], self._quantizer_table)
        matcher = MomentMatcher(smaller)
        matcher.add(transform.inverse(values, smaller), channels_last=transform.channels_last)
        self._matched = matcher.matched()
        shape = (int(self._flags.sum()), *y.shape[2:])
        self._coders: dict[str, Fitter] = {name: CODERS[name]().fitter(shape) for name in coders}

    def count(self, y: Floats, *, huffman_too: bool) -> None:
        kept = y if self._flags.all() else y[:, self._flags]
        symbols: NDArray[np.int32] = self._member.quantize(kept, self._quantizer_table)
        for name, fitter in self._coders.items():
            if name != "huffman" or huffman_too:
                fitter.add(symbols)

    def result(self, index: int, share: float) -> FittedRate:
        assert not isinstance(self._member.step, tuple)
        return FittedRate(
            index=index,
            step=self._member.step,
            step_share=share,
            kept=self._kept,
            gain=self._matched["gain"],
            offset=self._matched["offset"],
            quantizer_table=self._quantizer_table,
            coder_tables={name: fitter.table() for name, fitter in self._coders.items()},
        )
