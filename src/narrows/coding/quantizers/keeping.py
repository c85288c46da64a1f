"""A fitter that keeps what it is given: k-means looks at all numbers again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Table
from narrows.coding.quantizers.broadcast import narrowed
from narrows.errors import CodecError


@final
class KeepingFitter:
    """Keeps all samples, and makes the table of them.

    Args:
        shaped: From a batch, float32, to what is kept of it.
        made: From all that was kept, one after another, to the table.
    """

    __slots__ = ("_made", "_parts", "_shaped")

    def __init__(
        self,
        shaped: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        made: Callable[[NDArray[np.float32]], Table],
    ) -> None:
        self._shaped, self._made = shaped, made
        self._parts: list[NDArray[np.float32]] = []

    def add(self, batch: NDArray[Any]) -> None:
        """Take in a batch (n, ...).

        Raises:
            CodecError: A value of it is not finite in float32, or it has another number of
                components than the batch before.
        """
        part = self._shaped(narrowed(batch))
        if self._parts and part.shape[1:] != self._parts[0].shape[1:]:
            before, now = self._parts[0].shape[1], part.shape[1]
            msg = f"a batch of {now} components after one of {before}: fit all to one number"
            raise CodecError(msg)
        self._parts.append(part)

    def table(self) -> Table:
        """The table.

        Raises:
            CodecError: There were no numbers.
        """
        if not sum(part.size for part in self._parts):
            msg = "cannot place centres among no numbers: give samples"
            raise CodecError(msg)
        return self._made(np.concatenate(self._parts))
