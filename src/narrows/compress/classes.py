"""Classes of units: which elements of a network's activations stand and fall together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

FIXED = 0


@final
class Classes:
    """Labels joined by union-find; class 0 is what cannot be removed.

    Every element of an activation carries a label. Two labels are of one class when the units
    they stand for must be removed together.

    Example:
        >>> classes = Classes()
        >>> first, second = classes.fresh(3), classes.fresh(3)
        >>> classes.join(first, second, "they are added")
        >>> classes.of(second).tolist()
        [1, 2, 3]
        >>> classes.pin(first[:1], "it is the output")
        >>> classes.of(second).tolist(), classes.reason(second)
        ([0, 2, 3], 'it is the output')
    """

    def __init__(self) -> None:
        self._parents = torch.zeros(1, dtype=torch.int64)
        self._reasons: list[tuple[Tensor, str]] = []

    def fresh(self, count: int) -> Tensor:
        """Labels (count,) that were never used."""
        start = len(self._parents)
        made = torch.arange(start, start + count)
        self._parents = torch.cat([self._parents, made])
        return made

    def of(self, labels: Tensor) -> Tensor:
        """The class of each label: the smallest label in it."""
        return self._parents[labels]

    def join(self, some: Tensor, others: Tensor, reason: str) -> None:
        """Make element by element one class of two.

        Args:
            some: Labels, any shape.
            others: Labels of the same shape.
            reason: Why, should this join a class with what is fixed.
        """
        a, b = self.of(some).reshape(-1), self.of(others).reshape(-1)
        differ = a != b
        if not bool(differ.any()):
            return
        before = self._parents.clone()
        known, roots = _joined(a[differ], b[differ])
        moved = torch.arange(len(self._parents))
        moved[known] = roots
        self._parents = moved[self._parents]
        pinned = ((before != FIXED) & (self._parents == FIXED)).nonzero().reshape(-1)
        if len(pinned):
            self._reasons.append((pinned, reason))

    def pin(self, labels: Tensor, reason: str) -> None:
        """Make classes fixed."""
        self.join(labels, torch.zeros_like(labels), reason)

    def reason(self, labels: Tensor) -> str:
        """Why the first of these labels to be fixed is."""
        wanted = labels.reshape(-1)
        for pinned, reason in self._reasons:
            if bool(torch.isin(wanted, pinned).any()):
                return reason
        return "it was never free"

    def varying(self, labels: Tensor) -> list[int]:
        """The axes along which the class differs."""
        found = self.of(labels)
        if found.numel() == 0:
            return []
        return [
            axis
            for axis in range(found.ndim)
            if found.shape[axis] > 1 and not bool((found == found.narrow(axis, 0, 1)).all())
        ]

    def along(self, labels: Tensor, axis: int, reason: str) -> Tensor:
        """One label for each place of an axis: all that lies at one place becomes one class."""
        rows = labels.movedim(axis, 0).reshape(labels.shape[axis], -1)
        self.join(rows, rows[:, :1].expand_as(rows), reason)
        return rows[:, 0]

    def left_along(self, labels: Tensor, axis: int) -> int:
        """How many classes that are not fixed `along` would leave."""
        rows = self.of(labels).movedim(axis, 0).reshape(labels.shape[axis], -1)
        roots = _joined(rows.reshape(-1), rows[:, :1].expand_as(rows).reshape(-1))[1]
        return int((roots.unique() != FIXED).sum())

    def settle(self, arrays: Iterable[tuple[Tensor, str]]) -> None:
        """Let the class depend on one axis of each array only, the one that leaves most classes.

        Only then what remains of the array after a removal is a dense array again.
        """
        waiting = list(arrays)
        changed = True
        while changed:
            changed = False
            for labels, reason in waiting:
                axes = self.varying(labels)
                if len(axes) > 1:
                    best = max(axes, key=lambda axis: self.left_along(labels, axis))
                    self.along(labels, best, reason)
                    changed = True


def _joined(some: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The labels in some pairs, in order, and the smallest label each one is joined with.

    In each round every root that meets a smaller one points to it. What is left of roots that meet
    is at most half, so that there are few rounds.
    """
    known, places = torch.cat([some, others]).unique(return_inverse=True)
    a, b = places.chunk(2)
    parents = torch.arange(len(known))
    while not torch.equal(parents[a], parents[b]):
        low = torch.minimum(parents[a], parents[b])
        high = torch.maximum(parents[a], parents[b])
        parents = parents.scatter_reduce(0, high, low, "amin")
        while not torch.equal(parents[parents], parents):
            parents = parents[parents]
    return known, known[parents]
