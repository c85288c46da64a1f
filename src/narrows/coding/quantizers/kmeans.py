"""k-means: of numbers on a line, exactly and fast, and of many small sets of vectors at once.

None of the libraries that narrows needs has it, and scikit-learn would come to every device for it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Start = Literal["linear", "density", "random"]
Floats = NDArray[np.float64]

_MOST_PASSES: Final = 5000
_MOST_VECTOR_PASSES: Final = 50
_AT_ONCE: Final = 2**23  # distances, 64 MB


def line_centres(values: NDArray[Any], levels: int, *, start: Start, seed: int = 0) -> Floats:
    """At most so many centres, ascending, such that values are near them in squared distance.

    Lloyd's rule by turns: each value belongs to its nearest centre, each centre is the mean of its
    values. Clusters on a line are intervals of the sorted values, so that a pass needs the ends of
    the intervals and cumulative sums, and takes the same time for thousands of values as for
    millions; the means of the last pass are those of each interval's own values. A centre without
    values goes to the cluster of the largest squared error, which is then divided at its mean.
    Where no more values differ than there are levels, these are the centres.

    Args:
        values: At least one, finite.
        levels: Centres asked for; there are fewer where fewer values differ.
        start: First centres: "linear" evenly in [min, max]; "density" evenly in the share of values
            below; "random" some of the values.
        seed: Of "random".

    Example:
        >>> line_centres(np.array([1.0, 1.2, 5.0, 9.0, 9.5, 10.0]), 3, start="linear").tolist()
        [1.1, 5.0, 9.5]
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    distinct: Floats = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    if len(distinct) <= levels:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(ordered))])
    centres = _line_start(ordered, levels, start, seed)
    for _ in range(_MOST_PASSES):
        ends = np.searchsorted(ordered, (centres[:-1] + centres[1:]) / 2, side="right")
        bounds = np.unique(np.concatenate([[0], ends, [len(ordered)]]))
        bounds = _divided(bounds, ordered, sums, squares, levels)
        moved = np.diff(sums[bounds]) / np.diff(bounds)
        if np.array_equal(moved, centres):
            break
        centres = moved
    # Differences of cumulative sums lose what is small beside all that stands before it.
    own: Floats = np.add.reduceat(ordered, bounds[:-1]) / np.diff(bounds)
    return own


def _line_start(ordered: Floats, levels: int, start: Start, seed: int) -> Floats:
    if start == "linear":
        return np.linspace(ordered[0], ordered[-1], levels)
    if start == "density":
        places = ((np.arange(levels) + 0.5) * len(ordered) / levels).astype(np.int64)
        return ordered[places]
    chosen = np.random.default_rng(seed).choice(ordered, min(levels, len(ordered)), replace=False)
    found: Floats = np.sort(chosen)
    return found


def _divided(
    bounds: NDArray[np.int64], ordered: Floats, sums: Floats, squares: Floats, levels: int
) -> NDArray[np.int64]:
    """Bounds of the clusters, those of the largest squared error divided until there are enough."""
    missing = levels + 1 - len(bounds)
    if missing <= 0:
        return bounds
    counts = np.diff(bounds)
    means = np.diff(sums[bounds]) / counts
    errors = np.diff(squares[bounds]) - np.square(means) * counts
    errors[ordered[bounds[:-1]] == ordered[bounds[1:] - 1]] = -np.inf  # of one value
    largest = np.argsort(-errors, kind="stable")[:missing]
    divisible = largest[np.isfinite(errors[largest])]
    cuts = np.searchsorted(ordered, means[divisible], side="right")
    inside = np.clip(cuts, bounds[divisible] + 1, bounds[divisible + 1] - 1)
    made: NDArray[np.int64] = np.unique(np.concatenate([bounds, inside]))
    return made


def vector_centres(vectors: NDArray[Any], levels: int, *, seed: int = 0) -> Floats:
    """Centres of vectors, for each group of them its own.

    Lloyd's rule from a k-means++ start; a centre without vectors goes to the vector that is
    farthest from its own. Where fewer vectors differ, centres are repeated.

    Args:
        vectors: (groups, n, length), finite.
        levels: Centres of a group; at most n.
        seed: Of the start.

    Returns:
        (groups, levels, length).

    Reference:
        Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
    """
    groups, count, length = vectors.shape
    chance = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // (count * max(levels, length)))
    parts = [vectors[first : first + step] for first in range(0, groups, step)]
    return np.concatenate(
        [_group_centres(part.astype(np.float64), levels, chance) for part in parts]
    )


def _group_centres(vectors: Floats, levels: int, chance: np.random.Generator) -> Floats:
    centres = _careful_start(vectors, levels, chance)
    groups, _, length = vectors.shape
    first = levels * np.arange(groups)[:, None]
    lengths, before = np.square(vectors).sum(-1), None
    for _ in range(_MOST_VECTOR_PASSES):
        distances = np.square(centres).sum(-1)[:, None] - 2 * vectors @ centres.transpose(0, 2, 1)
        nearest = distances.argmin(-1)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        flat = (first + nearest).reshape(-1)
        sizes = np.bincount(flat, minlength=groups * levels)
        sums = [
            np.bincount(flat, vectors[..., axis].reshape(-1), minlength=groups * levels)
            for axis in range(length)
        ]
        means = np.stack(sums, -1) / np.maximum(sizes, 1)[:, None]
        centres = np.where((sizes > 0)[:, None], means, centres.reshape(-1, length))
        centres = centres.reshape(groups, levels, length)
        errors = np.take_along_axis(distances, nearest[..., None], -1)[..., 0] + lengths
        _fill_empty_(centres, sizes.reshape(groups, levels), vectors, errors)
    return centres


def _careful_start(vectors: Floats, levels: int, chance: np.random.Generator) -> Floats:
    """k-means++: each next centre is a vector, by its squared distance from those before."""
    groups, count, length = vectors.shape
    every = np.arange(groups)
    centres = np.empty((groups, levels, length))
    centres[:, 0] = vectors[every, chance.integers(count, size=groups)]
    nearest = np.full((groups, count), np.inf)
    for number in range(1, levels):
        away = np.square(vectors - centres[:, number - 1, None]).sum(-1)
        nearest = np.minimum(nearest, away)
        below = np.cumsum(nearest, axis=1)
        drawn = chance.random(groups) * below[:, -1]
        place = np.minimum((below <= drawn[:, None]).sum(1), count - 1)
        centres[:, number] = vectors[every, place]
    return centres


def _fill_empty_(
    centres: Floats, sizes: NDArray[np.int64], vectors: Floats, errors: Floats
) -> None:
    """Put centres without vectors where vectors are farthest from theirs, in place."""
    for group in np.flatnonzero((sizes == 0).any(1)):
        empty = np.flatnonzero(sizes[group] == 0)
        farthest = np.argsort(-errors[group], kind="stable")[: len(empty)]
        farthest = farthest[errors[group][farthest] > 0]
        centres[group, empty[: len(farthest)]] = vectors[group, farthest]
