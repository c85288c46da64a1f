"""What fitting a cut gives: a transform, and quantizer and coder tables of every rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS, Codec, FittedCodec, Table
from narrows.coding.base import Floats, Shape, Symbols
from narrows.coding.quantizers.uniform import Uniform
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.coding.transforms.separable_klt import SeparableKLT

MapTransform = BlockedPCA | SeparableKLT
# What a table holds for each component, and loses with it.
_BY_COMPONENT = ("basis", "weight", "variance")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedRate:
    """One quantizer step for a cut, with the tables that go with it.

    Args:
        index: Position on the rate curve, the finest step first.
        step: In units of the transformed feature.
        step_share: Over the transformed feature's root mean square.
        kept: Components of each group that are coded; the rest is zero at this step.
        gain: Of each channel, after the inverse transform.
        offset: Of each channel.
        quantizer_table: Of `Uniform`, for the kept components.
        coder_tables: Coder name → its table.
    """

    index: int
    step: float
    step_share: float
    kept: int
    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    quantizer_table: Table
    coder_tables: Mapping[str, Table]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedCut:
    """The transform of one cut and its rates.

    Args:
        cut: Index of the cut.
        shape: Of a feature.
        transform: Without its table.
        transform_table: With all components and no correction of moments.
        threshold: Of the quantizers.
        rates: The finest step first.
    """

    cut: int
    shape: Shape
    transform: MapTransform
    transform_table: Table
    threshold: float
    rates: tuple[FittedRate, ...]

    def macs(self, rate: FittedRate) -> int:
        """Multiply-accumulates that the transform adds to the head."""
        if isinstance(self.transform, SeparableKLT):
            return self.transform.macs(self.shape)
        tiles = self.transform.geometry(self.shape)
        return tiles.groups * rate.kept * tiles.dimension * prod(tiles.blocks)

    def component_shape(self, rate: FittedRate) -> Shape:
        """Shape of the symbols."""
        tiles = self.transform.geometry(self.shape)
        return (tiles.groups * rate.kept, *tiles.blocks)

    def components(self, feature: Floats) -> Floats:
        """Features (n, *shape) to all their components, for `symbols` of any rate."""
        return self.transform.forward(feature, self.transform_table)

    def symbols(self, components: Floats, rate: FittedRate) -> Symbols:
        """Components to the symbols of a rate (n, *component_shape)."""
        flags = kept_flags(self.transform_table, rate.kept)
        kept = components if flags.all() else components[:, flags]
        symbols: Symbols = self.quantizer(rate).quantize(kept, rate.quantizer_table)
        return symbols

    def restored(self, symbols: Symbols, rate: FittedRate) -> Floats:
        """Symbols to the features they stand for (n, *shape)."""
        y = self.quantizer(rate).dequantize(symbols, rate.quantizer_table)
        return self.transform.inverse(y, self.rate_table(rate))

    def rate_table(self, rate: FittedRate) -> Table:
        """The transform's table at a rate."""
        table = truncated(self.transform_table, rate.kept)
        return {**table, "gain": rate.gain, "offset": rate.offset}

    def quantizer(self, rate: FittedRate) -> Uniform:
        """The quantizer of a rate, without its table."""
        return quantizer(rate.step, self.threshold)

    def codec(self, rate: FittedRate, coder: str | None = None) -> FittedCodec:
        """Everything of one rate and one coder (by default the first)."""
        name = coder or next(iter(rate.coder_tables))
        codec = Codec(
            transform=self.transform, quantizer=self.quantizer(rate), coder=CODERS[name]()
        )
        return FittedCodec(
            codec=codec,
            component_shape=self.component_shape(rate),
            transform_table=self.rate_table(rate),
            quantizer_table=rate.quantizer_table,
            coder_table=rate.coder_tables[name],
        )

    @property
    def middle(self) -> FittedRate:
        """The rate whose times stand for all."""
        return self.rates[len(self.rates) // 2]


def quantizer(step: float, threshold: float) -> Uniform:
    """The quantizer that plans use: one step for all components, and a dead zone.

    Reconstruction points stay in the middle: shifted to the mean of their bins the error is smaller
    and the answers are worse (docs/results.md).
    """
    return Uniform(step=step, threshold=threshold)


def kept_flags(table: Table, kept: int) -> NDArray[np.bool_]:
    """For each component of a transform (groups · d) whether the first `kept` hold it."""
    groups, dimension = table["weight"].shape
    return np.tile(np.arange(dimension) < kept, groups)


def truncated(table: Table, kept: int) -> dict[str, NDArray[Any]]:
    """A transform's table with the first `kept` components of each group."""
    smaller = dict(table)
    for name in smaller.keys() & _BY_COMPONENT:
        smaller[name] = np.ascontiguousarray(table[name][:, :kept])
    return smaller
