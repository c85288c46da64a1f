"""Which points are worth the whole choose set, from what a part of it showed.

A point costs a pass of a tail over the set; most points are far from any use. After a part of the
set, what goes on are the rates around the coarsest that keeps to the plan's quality there, and the
like for picture codecs. What is not kept stays in the record with the number of examples it saw,
but cannot be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from narrows.graph.cuts import Cut
from narrows.plan.candidate import Drop, Score
from narrows.plan.constraints import Constraints
from narrows.plan.scale import TARGET_NATS

DEFAULT_DROP = 0.01
_LEAST_EXAMPLES = 32
_CLEARLY = 0.9
_SLOW = ("avif",)

Seen = tuple[Score, Drop]


def screened_examples(examples: int, share: float) -> int:
    """How many examples every point sees first.

    Example:
        >>> screened_examples(250, 0.125), screened_examples(20, 0.125)
        (32, 20)
    """
    return min(examples, max(_LEAST_EXAMPLES, round(examples * share)))


def keeps(seen: Seen, constraints: Constraints) -> bool:
    """Whether a point is likely to keep to the plan's quality on the whole set.

    Divergence is judged, which a part of the set already tells well: the drop that is asked for is
    about `TARGET_NATS` a point. Without classes it is the drop itself.
    """
    score, drop = seen
    allowed = DEFAULT_DROP if constraints.max_drop is None else max(constraints.max_drop, 0.0)
    if score.logit_divergence is None:
        return drop.value <= allowed
    least = constraints.min_agreement
    if least is not None and score.agreement is not None and score.agreement < least - 1 / score.n:
        return False
    return score.logit_divergence <= TARGET_NATS * max(allowed / DEFAULT_DROP, 0.5)


def kept_rates(
    cuts: Sequence[Cut],
    seen: Mapping[tuple[int, int], Seen],
    sizes: Mapping[tuple[int, int], float],
    rates: int,
    constraints: Constraints,
) -> dict[int, tuple[int, ...]]:
    """Rates of each cut that go on to the whole set.

    Of a cut that no other dominates the coarsest of enough quality and its neighbours; of a
    dominated one that rate alone, and only if it takes clearly fewer bytes than every cut before.

    Args:
        cuts: Those that were planned.
        seen: Score and drop by cut and rate, on the part.
        sizes: Mean payload by cut and rate.
        rates: Number of rates, the finest first.
        constraints: The plan's.
    """
    kept = {}
    least = math.inf
    for cut in sorted(cuts, key=lambda cut: cut.head_macs):
        best = last_kept([seen[cut.index, k] for k in range(rates)], constraints)
        size = sizes[cut.index, best]
        around: tuple[int, ...] = (best - 1, best, best + 1)
        if cut.dominated_by is not None:
            around = (best,) if size < _CLEARLY * least else ()
        least = min(least, size)
        kept[cut.index] = tuple(k for k in around if 0 <= k < rates)
    return {index: rates for index, rates in kept.items() if rates}


def kept_pictures(
    curves: Mapping[tuple[str, float], Sequence[str]],
    seen: Mapping[str, Seen],
    sizes: Mapping[str, float],
    constraints: Constraints,
) -> list[str]:
    """Picture codecs that go on to the whole set.

    Of each format, at the scale that takes the fewest bytes for the quality asked for: the
    coarsest quality that keeps to it, and the next finer one (not of AVIF, whose encoder takes
    longer than most networks).

    Args:
        curves: Ids by format and scale, the finest quality first.
        seen: Score and drop by id, on the part.
        sizes: Mean payload by id.
        constraints: The plan's.
    """
    best: dict[str, tuple[bool, float, list[str]]] = {}
    for (name, _), curve in curves.items():
        place = last_kept([seen[i] for i in curve], constraints)
        missed = not keeps(seen[curve[place]], constraints)
        finer = 0 if name in _SLOW else 1
        found = (missed, sizes[curve[place]], list(curve[max(0, place - finer) : place + 1]))
        if name not in best or found[:2] < best[name][:2]:
            best[name] = found
    return [i for _, _, kept in best.values() for i in kept]


def last_kept(curve: Sequence[Seen], constraints: Constraints) -> int:
    """Place of the last point that keeps to the quality with all before it; 0 if none does.

    Args:
        curve: From the finest to the coarsest.
        constraints: The plan's.
    """
    count = 0
    while count < len(curve) and keeps(curve[count], constraints):
        count += 1
    return max(0, count - 1)
