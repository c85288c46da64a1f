"""Which points are worth the whole choose set, from what a part of it showed.

A point costs a pass of a tail over the set; most points are far from any use. After a part of the
set, the rates kept of a cut are the coarsest that keeps to the plan's drop there and its
neighbours (of a dominated cut that one alone), and the same for every picture codec. What is not
kept stays in the record with the number of examples it saw, but cannot be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from narrows.graph.cuts import Cut
from narrows.plan.candidate import Drop, Score
from narrows.plan.constraints import Constraints

DEFAULT_DROP = 0.01
_LEAST_EXAMPLES = 64

Seen = tuple[Score, Drop]


def screened_examples(examples: int, share: float) -> int:
    """How many examples every point sees first.

    Example:
        >>> screened_examples(250, 0.25), screened_examples(50, 0.25), screened_examples(1000, 0.25)
        (64, 50, 250)
    """
    return min(examples, max(_LEAST_EXAMPLES, round(examples * share)))


def keeps(seen: Seen, constraints: Constraints) -> bool:
    """Whether a point kept to the plan's quality on the part it saw, give or take one example."""
    score, drop = seen
    slack = 1.0 / score.n
    allowed = DEFAULT_DROP if constraints.max_drop is None else constraints.max_drop
    if drop.value > allowed + slack:
        return False
    least = constraints.min_agreement
    agreed = score.agreement
    return least is None or agreed is None or agreed >= least - slack


def kept_rates(
    cuts: Sequence[Cut],
    seen: Mapping[tuple[int, int], Seen],
    rates: int,
    constraints: Constraints,
) -> dict[int, tuple[int, ...]]:
    """Rates of each cut that go on to the whole set.

    Args:
        cuts: Those that were planned.
        seen: Score and drop by cut and rate, on the part.
        rates: Number of rates, the finest first.
        constraints: The plan's.
    """
    kept = {}
    for cut in cuts:
        best = last_kept([seen[cut.index, k] for k in range(rates)], constraints)
        around = (best,) if cut.dominated_by is not None else (best - 1, best, best + 1)
        kept[cut.index] = tuple(k for k in around if 0 <= k < rates)
    return kept


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
