"""What fitting a cut gives: a transform, and quantizer and coder tables of every rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from narrows.coding import CODERS, Codec, FittedCodec, Table
from narrows.coding.base import Shape
from narrows.coding.quantizers.uniform import Uniform
from narrows.coding.transforms.blocked_pca import BlockedPCA


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedRate:
    """One quantizer step for a cut, with the tables that go with it.

    Args:
        index: Position on the rate curve, the finest step first.
        step: In units of the transformed feature.
        step_share: Over the feature's root mean square.
        quantizer_table: Of `Uniform`.
        coder_tables: Coder name → its table.
    """

    index: int
    step: float
    step_share: float
    quantizer_table: Table
    coder_tables: Mapping[str, Table]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedCut:
    """The transform of one cut and its rates.

    Args:
        cut: Index of the cut.
        block: Side of the transform's blocks.
        shape: Of a feature.
        component_shape: Of its components, and of the symbols.
        transform_table: Of `BlockedPCA`.
        threshold: Of the quantizers.
        rates: The finest step first.
    """

    cut: int
    block: int
    shape: Shape
    component_shape: Shape
    transform_table: Table
    threshold: float
    rates: tuple[FittedRate, ...]

    @property
    def transform(self) -> BlockedPCA:
        """The transform without its table."""
        return BlockedPCA(block=self.block)

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the transform adds to the head."""
        return self.transform.macs(self.shape)

    def quantizer(self, rate: FittedRate) -> Uniform:
        """The quantizer of a rate, without its table."""
        return quantizer(rate.step, self.threshold)

    def codec(self, rate_index: int = 0, coder: str | None = None) -> FittedCodec:
        """Everything of one rate and one coder (by default the first)."""
        rate = self.rates[rate_index]
        name = coder or next(iter(rate.coder_tables))
        codec = Codec(
            transform=self.transform, quantizer=self.quantizer(rate), coder=CODERS[name]()
        )
        return FittedCodec(
            codec=codec,
            component_shape=self.component_shape,
            transform_table=self.transform_table,
            quantizer_table=rate.quantizer_table,
            coder_table=rate.coder_tables[name],
        )


def quantizer(step: float, threshold: float) -> Uniform:
    """The quantizer that plans use: one step for all components, a fitted shift for each."""
    return Uniform(step=step, threshold=threshold, fit_shift=True)
