"""Quantizer and coder tables of all rates of one cut, from batches of features in two rounds.

round 1   which components ever leave zero; moments of the channels
round 2   counts of the kept symbols for each coder; gain and offset of the channels
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS, Table
from narrows.coding.base import Fitter, Floats
from narrows.coding.quantizers.uniform import Uniform
from narrows.coding.transforms.blocked_pca import MomentMatcher
from narrows.graph.cuts import Cut
from narrows.plan.fitted import FittedCut, FittedRate, kept_flags, quantizer, truncated
from narrows.plan.scale import Scale
from narrows.plan.settings import Settings

# Huffman's fitter keeps what it is given first, to group the components.
_HUFFMAN_SYMBOLS = 1 << 20
_MATCHED_EXAMPLES = 48


@final
class Tally:
    """Gathers the tables of one cut.

    Args:
        cut: Where.
        scale: Its transform and steps.
        table: The transform's.
        settings: Coders, threshold.
    """

    def __init__(self, cut: Cut, scale: Scale, table: Table, settings: Settings) -> None:
        self.cut, self._scale, self._settings, self._table = cut, scale, settings, table
        tiles = scale.transform.geometry(cut.shape)
        self._moments = np.zeros((3, tiles.channels))
        self._looked = 0
        shape = (tiles.groups * tiles.dimension, *tiles.blocks)
        self._rates = [
            _Rate(quantizer(scale.rms * share, settings.threshold), shape)
            for share in scale.step_shares
        ]

    def look(self, feature: Floats) -> None:
        """Round 1: features (n, *shape)."""
        transform = self._scale.transform
        y = transform.forward(feature, self._table)
        for rate in self._rates:
            rate.look(y)
        if self._looked < _MATCHED_EXAMPLES:
            x = np.moveaxis(feature, -1, 1) if transform.channels_last else feature
            rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)
            self._moments += np.stack([np.ones(len(rows)) * rows.shape[1], *_sums(rows)])
        self._looked += len(feature)

    def close_first(self) -> None:
        """Round 1 is over."""
        # Moments are matched on the examples that both rounds see first: against those of the
        # whole set, the gain would make up for a difference between examples.
        count, total, squares = self._moments
        mean = total / count
        table = {
            **self._table,
            "channel_mean": mean.astype(np.float32),
            "channel_variance": np.maximum(squares / count - mean**2, 0).astype(np.float32),
        }
        for rate in self._rates:
            rate.close_first(table, self._settings.coders)

    def count(self, feature: Floats) -> None:
        """Round 2: features (n, *shape)."""
        transform = self._scale.transform
        y = transform.forward(feature, self._table)
        for rate in self._rates:
            symbols = rate.count(y)
            if rate.matched < _MATCHED_EXAMPLES:
                values = rate.member.dequantize(symbols, rate.quantizer_table)
                restored = transform.inverse(values, rate.transform_table)
                rate.match(restored, channels_last=transform.channels_last)

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


def _sums(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows.sum(1), np.einsum("cp,cp->c", rows, rows)


class _Rate:
    """One step of one cut."""

    def __init__(self, member: Uniform, shape: tuple[int, ...]) -> None:
        self.member, self._shape = member, shape
        self.matched = 0
        self.quantizer_table: Table = member.fitter(shape).table()
        self._active: NDArray[np.bool_] = np.zeros(shape[0], np.bool_)
        self._seen = 0

    def look(self, y: Floats) -> None:
        symbols = self.member.quantize(y, self.quantizer_table)
        self._active |= (symbols != 0).any(axis=(0, *range(2, symbols.ndim)))

    def close_first(self, table: Table, coders: tuple[str, ...]) -> None:
        groups, dimension = table["weight"].shape
        last = np.flatnonzero(self._active.reshape(groups, dimension).any(0))
        self._kept = int(last[-1]) + 1 if last.size else 1
        self._flags = kept_flags(table, self._kept)
        self.transform_table = truncated(table, self._kept)
        self._matcher = MomentMatcher(self.transform_table)
        shape = (int(self._flags.sum()), *self._shape[1:])
        self._coders: dict[str, Fitter] = {name: CODERS[name]().fitter(shape) for name in coders}

    def count(self, y: Floats) -> NDArray[np.int32]:
        kept = y if self._flags.all() else y[:, self._flags]
        symbols: NDArray[np.int32] = self.member.quantize(kept, self.quantizer_table)
        for name, fitter in self._coders.items():
            if name != "huffman" or self._seen < _HUFFMAN_SYMBOLS:
                fitter.add(symbols)
        self._seen += symbols.size
        return symbols

    def match(self, restored: Floats, *, channels_last: bool) -> None:
        self._matcher.add(restored, channels_last=channels_last)
        self.matched += len(restored)

    def result(self, index: int, share: float) -> FittedRate:
        table = self._matcher.matched()
        assert not isinstance(self.member.step, tuple)
        return FittedRate(
            index=index,
            step=self.member.step,
            step_share=share,
            kept=self._kept,
            gain=table["gain"],
            offset=table["offset"],
            quantizer_table=self.quantizer_table,
            coder_tables={name: fitter.table() for name, fitter in self._coders.items()},
        )
