"""How few bytes a cut gets by with at a given loss, read off its curve of rates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from narrows.plan.candidate import Candidate, Route
from narrows.report.palette import PICTURE_FAMILIES, family_of
from narrows.report.scene import Network, Scene


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The rates of one codec at one place of one network, most bytes first.

    Args:
        codec: Name of the codec, with the scale for pictures.
        family: Key of its legend entry.
        cut: Index of the cut; None for what is sent instead of a feature.
        device_macs: What the device computes.
        whole_n: Examples of the whole choose set; a point with fewer was screened out.
        candidates: The points.
    """

    codec: str
    family: str
    cut: int | None
    device_macs: int
    whole_n: int
    candidates: tuple[Candidate, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes needed at a loss.

    Args:
        size_bytes: Payload.
        is_bound: The coarsest rate tried still holds, so fewer bytes may do.
        codec: Which codec got there.
        family: Key of its legend entry.
    """

    size_bytes: float
    is_bound: bool
    codec: str
    family: str


def curves(network: Network) -> tuple[Curve, ...]:
    """The rate curves of a network, cut by cut, then those of the pictures and the raw input."""
    groups: dict[tuple[int | None, str], list[Candidate]] = defaultdict(list)
    for candidate in network.candidates:
        if candidate.route is Route.LOCAL or candidate.codec is None:
            continue
        scale = candidate.codec.scale
        name = candidate.codec.name
        if candidate.route is Route.IMAGE and scale is not None and scale < 1:
            name = f"{name} at {100 * scale:.0f} %"
        groups[candidate.cut, name].append(candidate)
    found = []
    order = sorted(groups, key=lambda key: (key[0] is None, key[0] or 0, key[1]))
    for cut, name in order:
        points = sorted(groups[cut, name], key=lambda c: -c.payload_bytes)
        found.append(
            Curve(
                codec=name,
                family=family_of(points[0]).key,
                cut=cut,
                device_macs=points[0].cost.device_macs,
                whole_n=network.variant.choose.n,
                candidates=tuple(points),
            )
        )
    return tuple(found)


def bytes_at_drop(points: Sequence[tuple[float, float]], drop: float) -> tuple[float, bool] | None:
    """Bytes at which a rate curve first exceeds a loss, coming from its finest rate.

    Linear in log bytes between the two rates on either side. Every finer rate holds, so a curve
    that dips below the bound again at some coarser rate does not count.

    Args:
        points: (payload bytes, loss) in any order.
        drop: The loss allowed, in the loss's unit.

    Returns:
        The bytes and whether they are only an upper bound; None when the finest rate fails.

    Example:
        >>> bytes_at_drop([(4000, 0.0), (1000, 0.02)], 0.01)
        (2000.0..., False)
        >>> bytes_at_drop([(4000, 0.0), (1000, 0.02)], 0.05), bytes_at_drop([(4000, 0.2)], 0.05)
        ((1000, True), None)
    """
    ordered = sorted(((b, d) for b, d in points if b > 0), reverse=True)
    if not ordered or ordered[0][1] > drop:
        return None
    for (fine, fine_drop), (coarse, coarse_drop) in pairwise(ordered):
        if coarse_drop > drop:
            share = (drop - fine_drop) / (coarse_drop - fine_drop)
            return math.exp(math.log(fine) + share * math.log(coarse / fine)), False
    return ordered[-1][0], True


def need(options: Sequence[Curve], drop: float) -> Need | None:
    """The fewest bytes any of some curves gets by with; None when none holds the loss.

    A rate that was screened out on a part of the examples counts only where it fails.
    """
    found = []
    for curve in options:
        points = [
            (c.payload_bytes, c.choose_drop.value)
            for c in curve.candidates
            if c.choose.n == curve.whole_n or c.choose_drop.value > drop
        ]
        if (answer := bytes_at_drop(points, drop)) is not None:
            size_bytes, is_bound = answer
            made = {"codec": curve.codec, "family": curve.family}
            found.append(Need(size_bytes=size_bytes, is_bound=is_bound, **made))
    return min(found, key=lambda n: n.size_bytes, default=None)


def needs_by_cut(found: Sequence[Curve], family: str, drop: float) -> tuple[tuple[int, Need], ...]:
    """(index of the cut, bytes needed) for one family, where a rate holds the loss."""
    by_cut: dict[int, list[Curve]] = {}
    for curve in found:
        if curve.family == family and curve.cut is not None:
            by_cut.setdefault(curve.cut, []).append(curve)
    answers = ((cut, need(options, drop)) for cut, options in sorted(by_cut.items()))
    return tuple((cut, answer) for cut, answer in answers if answer is not None)


def best_picture(found: Sequence[Curve], drop: float) -> Need | None:
    """The fewest bytes of any picture codec at full or reduced size."""
    return need([curve for curve in found if curve.family in PICTURE_FAMILIES], drop)


def drops(scene: Scene, network: Network) -> tuple[tuple[str, float], ...]:
    """The two losses that are read off: 1 and 3 points, or 1 and 3 % of what is no share."""
    if scene.is_share:
        return ("−1 point", 0.01), ("−3 points", 0.03)
    whole = abs(network.variant.choose.accuracy) or 1.0
    return ("−1 %", 0.01 * whole), ("−3 %", 0.03 * whole)
