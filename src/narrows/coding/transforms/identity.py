"""No transform: the components are the features themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from narrows.coding.base import Fitter, Floats, Shape, Table, Transform


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Transform):
    """Give back what comes in; the baseline of every transform.

    Example:
        >>> import numpy as np
        >>> x = np.ones((1, 2, 3), np.float32)
        >>> Identity().forward(x, {}) is x
        True
    """

    name: ClassVar[str] = "identity"

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter that needs no samples: the table is empty."""
        return _NothingToFit()

    def forward(self, x: Floats, table: Table) -> Floats:
        """Batch (n, *shape), unchanged."""
        return x

    def inverse(self, y: Floats, table: Table) -> Floats:
        """Batch (n, *shape), unchanged."""
        return y


class _NothingToFit:
    """The fitter of a member without a table."""

    __slots__ = ()

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch, of which nothing is kept."""

    def table(self) -> Table:
        """No arrays."""
        return {}
