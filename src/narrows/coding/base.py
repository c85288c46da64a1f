"""Transform, quantizer and coder: three independent axes, and one class that holds one of each.

    x ──forward──► y ──quantize──► symbols ──encode──► payload
    x ◄──inverse── y ◄─dequantize─ symbols ◄─decode─── payload

What must be known to decode (a basis, a step, counts) is a *table*: named arrays, fitted once from
samples and shipped apart from the payloads. Fitting is pushed, not pulled: a `Fitter` is given
batches as they come, so one pass over the data can fit many members at once in bounded memory.

Shapes: x is (channels, positions...), e.g. (40, 28, 28), or (features,) alone; a batch has one more
axis in front.
Symbols are int32 arrays (components, positions...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import CodecError

Table = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]
Floats = NDArray[np.float32]
Symbols = NDArray[np.int32]
Promise = Literal["zero", "once", "order", "bin"]
PROMISES: Final[frozenset[Promise]] = frozenset(("zero", "once", "order", "bin"))


class Fitter(Protocol):
    """Gathers what a table needs, batch by batch."""

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch (samples on the first axis)."""

    def table(self) -> Table:
        """The table fitted to everything added so far."""


class Transform(ABC):
    """A map from features to components that are cheaper to code, and back."""

    name: ClassVar[str]

    @abstractmethod
    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""

    @abstractmethod
    def forward(self, x: Floats, table: Table) -> Floats:
        """Batch (n, *shape) to components (n, *components)."""

    @abstractmethod
    def inverse(self, y: Floats, table: Table) -> Floats:
        """Components (n, *components) back to a batch (n, *shape)."""


class Quantizer(ABC):
    """A map from numbers to integers, and back to the values they stand for."""

    name: ClassVar[str]

    @property
    def promises(self) -> frozenset[Promise]:
        """What the contract checks hold it to beyond what every quantizer must do.

        "zero": zero stands for itself. "once": what was quantized is quantized to the same symbols.
        "order": each number has a symbol, and a greater number none that is less. "bin": so, and no
        number in the range that was fitted is farther from what its symbol stands for than the
        symbols beside that one are.
        """
        return PROMISES

    @property
    def stochastic(self) -> bool:
        """Whether symbols are drawn: then `quantize` takes `noise`, uniform in [0, 1), as well."""
        return False

    @abstractmethod
    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""

    @abstractmethod
    def quantize(self, x: Any, table: Table) -> Any:
        """Batch (n, *shape) to integers, of the same shape unless one stands for several numbers.

        Integers are (n, components, positions...) too, those of each sample for itself.
        """

    @abstractmethod
    def dequantize(self, symbols: Any, table: Table) -> Any:
        """Integers to the values they stand for."""


class Coder(ABC):
    """Integers to bytes, exactly. Tables hold integers only: no floating point decides a bit."""

    name: ClassVar[str]

    @abstractmethod
    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for symbol arrays of this shape."""

    @abstractmethod
    def validate(self, shape: Shape, table: Table) -> None:
        """Check a table, which may come from a file, for symbol arrays of this shape.

        `encode` and `decode` check it too; whoever reads tables can refuse them early.

        Raises:
            CorruptData: The table is not one that a fitter made for this shape.
        """

    @abstractmethod
    def encode(self, symbols: Symbols, table: Table) -> bytes:
        """One array of symbols (components, positions...) to a payload.

        Raises:
            CodecError: The symbols are not int32.
            CorruptData: The table is not one for their shape.
        """

    @abstractmethod
    def decode(self, data: bytes, shape: Shape, table: Table) -> Symbols:
        """A payload back to the symbols.

        Raises:
            CorruptData: The bytes are not what `encode` wrote, or the table is not one for this
                shape. Some corrupt payloads decode to other symbols of the right shape; a frame's
                checksum is what finds those.
        """


def fit(member: Transform | Quantizer | Coder, batches: Iterable[NDArray[Any]]) -> Table:
    """Fit one member to batches (samples on the first axis).

    Raises:
        CodecError: There was no batch.
    """
    fitter: Fitter | None = None
    for batch in batches:
        fitter = fitter or member.fitter(batch.shape[1:])
        fitter.add(batch)
    if fitter is None:
        msg = f"cannot fit {member.name!r} to no samples: give at least one batch"
        raise CodecError(msg)
    return fitter.table()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One transform, one quantizer and one coder."""

    transform: Transform
    quantizer: Quantizer
    coder: Coder

    def fit(self, samples: NDArray[Any]) -> FittedCodec:
        """Fit all three to samples (n, *shape), each to what the one before gives."""
        transform_table = fit(self.transform, [samples])
        y = self.transform.forward(samples, transform_table)
        quantizer_table = fit(self.quantizer, [y])
        symbols = self.quantizer.quantize(y, quantizer_table)
        return FittedCodec(
            codec=self,
            component_shape=tuple(symbols.shape[1:]),
            transform_table=transform_table,
            quantizer_table=quantizer_table,
            coder_table=fit(self.coder, [symbols]),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCodec:
    """A codec with its tables: arrays to payloads and back."""

    codec: Codec
    component_shape: Shape
    transform_table: Table
    quantizer_table: Table
    coder_table: Table

    def symbols(self, x: Floats) -> Symbols:
        """One sample (*shape) to its symbols."""
        y = self.codec.transform.forward(x[None], self.transform_table)
        symbols: Symbols = self.codec.quantizer.quantize(y, self.quantizer_table)[0]
        return symbols

    def restored(self, symbols: Symbols) -> Floats:
        """Symbols to the sample they stand for."""
        y = self.codec.quantizer.dequantize(symbols[None], self.quantizer_table)
        sample: Floats = self.codec.transform.inverse(y, self.transform_table)[0]
        return sample

    def encode(self, x: Floats) -> bytes:
        """One sample (*shape) to a payload."""
        return self.codec.coder.encode(self.symbols(x), self.coder_table)

    def decode(self, data: bytes) -> Floats:
        """A payload to the sample it stands for."""
        symbols = self.codec.coder.decode(data, self.component_shape, self.coder_table)
        return self.restored(symbols)

    @property
    def side_bytes(self) -> int:
        """Size of the tables, shipped once."""
        tables = (self.transform_table, self.quantizer_table, self.coder_table)
        return sum(array.nbytes for table in tables for array in table.values())
