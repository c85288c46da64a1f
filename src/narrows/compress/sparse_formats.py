"""In which format a weight with zeros in it is kept: dense, or its non-zeros with their indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from narrows.errors import ConfigError

Format = Literal["dense", "csr"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSize:
    """Bytes of one weight, dense and as compressed sparse rows (CSR).

        dense  rows · columns · v              v, i  bytes of a number and of an index
        CSR    n · (v + i) + (rows + 1) · i    n     numbers that are not zero

    Args:
        rows: Outputs; of a kernel its filters.
        columns: Everything else.
        nonzeros: n.
        value_bytes: v.
        index_bytes: i, of a column and of where a row begins.

    Example:
        >>> size = WeightSize(rows=500, columns=800, nonzeros=32_000)
        >>> size.dense_bytes, size.csr_bytes, size.format
        (1600000, 258004, 'csr')
        >>> round(size.break_even, 3)
        0.499
    """

    rows: int
    columns: int
    nonzeros: int
    value_bytes: int = 4
    index_bytes: int = 4

    @property
    def dense_bytes(self) -> int:
        """With its zeros."""
        return self.rows * self.columns * self.value_bytes

    @property
    def csr_bytes(self) -> int:
        """Numbers that are not zero, and all indices."""
        pointers = (self.rows + 1) * self.index_bytes
        return self.nonzeros * (self.value_bytes + self.index_bytes) + pointers

    @property
    def format(self) -> Format:
        """The smaller of the two."""
        return "csr" if self.csr_bytes < self.dense_bytes else "dense"

    @property
    def size_bytes(self) -> int:
        """In the smaller of the two."""
        return min(self.csr_bytes, self.dense_bytes)

    @property
    def density(self) -> float:
        """Share (0–1) of the numbers that are not zero."""
        return self.nonzeros / max(1, self.rows * self.columns)

    @property
    def break_even(self) -> float:
        """Density (0–1) below which CSR is the smaller."""
        room = self.dense_bytes - (self.rows + 1) * self.index_bytes
        whole = self.rows * self.columns * (self.value_bytes + self.index_bytes)
        return max(0.0, room / max(1, whole))


def weight_size(weight: Tensor, *, index_bytes: int = 4) -> WeightSize:
    """Count a weight's bytes in both formats; of a kernel as (filters, all else).

    Args:
        weight: (rows, ...).
        index_bytes: Of an index: 4 as scipy keeps them, 8 as torch does by default, 2 or 1 where
            the columns and the non-zeros are few enough.

    Raises:
        ConfigError: The indices are too short for the weight's columns or non-zeros.
    """
    nonzeros = int(weight.count_nonzero())
    columns = weight[0].numel() if len(weight) else 0
    if max(columns, nonzeros) >= 256**index_bytes:
        msg = f"{max(columns, nonzeros):,} needs longer indices than {index_bytes} bytes: give more"
        raise ConfigError(msg)
    return WeightSize(
        rows=len(weight),
        columns=columns,
        nonzeros=nonzeros,
        value_bytes=weight.element_size(),
        index_bytes=index_bytes,
    )


def choose_format(weight: Tensor, *, break_even: float | None = None) -> Format:
    """The format that is smaller, or, of a break-even that was measured, the faster one.

    Args:
        weight: (rows, ...), as it is used.
        break_even: Density (0–1) below which the sparse product was faster than the dense one, of
            a weight of about this shape on the machine it is for (`measure_break_even` gives
            it; its `low` is certain). None chooses by size.

    Example:
        >>> import torch
        >>> weight = torch.eye(64)
        >>> choose_format(weight), choose_format(weight, break_even=0.01)
        ('csr', 'dense')
    """
    size = weight_size(weight)
    if break_even is None:
        return size.format
    return "csr" if size.density < break_even else "dense"
