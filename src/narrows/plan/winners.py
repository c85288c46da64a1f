"""Which candidate wins where: the choice repeated over bandwidth × round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from narrows.errors import NothingFits
from narrows.plan.candidate import Candidate
from narrows.plan.choose import at_places, choose, misses, objective_value
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.predict import Places
from narrows.plan.record import WinnersMap

BANDWIDTHS_BITS_PER_S = tuple(0.05e6 * 2000 ** (i / 22) for i in range(23))
ROUND_TRIPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

# Bounds that the link has no part in: what fails them at one link fails them at all.
_OF_THE_LINK = ("max_latency_s", "max_energy_j", "max_price", "min_frames_per_s")


def winners_map(
    candidates: Sequence[Candidate],
    constraints: Constraints,
    objective: Objective,
    places: Places,
    *,
    bandwidths_bits_per_s: Sequence[float] = BANDWIDTHS_BITS_PER_S,
    round_trips_s: Sequence[float] = ROUND_TRIPS_S,
) -> WinnersMap:
    """Choose anew for every bandwidth and round trip.

    Args:
        candidates: With costs at `places`.
        constraints: The plan's.
        objective: The plan's.
        places: The plan's; device, cloud and the rest of the link stay.
        bandwidths_bits_per_s: Columns, rising; the downlink keeps its ratio to the uplink.
        round_trips_s: Rows, rising.
    """
    assert all(a < b for a, b in (*pairwise(bandwidths_bits_per_s), *pairwise(round_trips_s)))
    fixed = replace(constraints, **dict.fromkeys(_OF_THE_LINK))
    eligible = [c for c in candidates if not misses(c, fixed, places)]
    rows = [
        [
            _winner(eligible, constraints, objective, places, _linked(places, bandwidth, trip))
            for bandwidth in bandwidths_bits_per_s
        ]
        for trip in round_trips_s
    ]
    return WinnersMap(
        bandwidths_bits_per_s=tuple(bandwidths_bits_per_s),
        round_trips_s=tuple(round_trips_s),
        winners=tuple(tuple(cell[0] for cell in row) for row in rows),
        values=tuple(tuple(cell[1] for cell in row) for row in rows),
    )


def _linked(places: Places, bandwidth_bits_per_s: float, round_trip_s: float) -> Places:
    link = places.link
    down = link.bandwidth_down_bits_per_s / link.bandwidth_up_bits_per_s * bandwidth_bits_per_s
    new = replace(
        link,
        bandwidth_up_bits_per_s=bandwidth_bits_per_s,
        bandwidth_down_bits_per_s=down,
        round_trip_s=round_trip_s,
    )
    return replace(places, link=new)


def _winner(
    eligible: Sequence[Candidate],
    constraints: Constraints,
    objective: Objective,
    old: Places,
    new: Places,
) -> tuple[str | None, float | None]:
    if not eligible:
        return None, None
    try:
        chosen = choose(at_places(eligible, old, new), constraints, objective, new)
    except NothingFits:
        return None, None
    value = objective_value(chosen, objective)
    return chosen.id, -value if objective is Objective.ACCURACY else value
