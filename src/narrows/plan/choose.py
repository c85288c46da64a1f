"""Constraints and one objective → the candidate to deploy, or what is nearest and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from narrows.errors import NothingFits, PlanError
from narrows.plan.candidate import Candidate
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.predict import Places, moved

# One point of accuracy or agreement counts as a tenth of a bound: both kinds of miss are then of
# the same order when "nearest" is looked for.
_MISS_PER_SHARE = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A bound that a candidate does not keep to.

    Args:
        quantity: Name of the constraint, e.g. "max_latency_s".
        found: What the candidate has.
        bound: What was asked.
    """

    quantity: str
    found: float
    bound: float

    @property
    def size(self) -> float:
        """How bad it is: excess over the bound; ten times the points for shares."""
        if self.quantity in _SHARES:
            return abs(self.found - self.bound) * _MISS_PER_SHARE
        if self.quantity.startswith("min_"):
            return self.bound / self.found - 1.0 if self.found > 0 else math.inf
        return self.found / self.bound - 1.0 if self.bound > 0 else math.inf


_SHARES = ("min_accuracy", "max_drop", "min_agreement")

_QUANTITIES: dict[str, Callable[[Candidate, Places], float | None]] = {
    "min_accuracy": lambda c, _: c.choose.accuracy,
    "max_drop": lambda c, _: c.choose_drop.value,
    "min_agreement": lambda c, _: c.choose.agreement,
    "max_payload_bytes": lambda c, _: c.payload_bytes,
    "max_latency_s": lambda c, places: deadline_latency_s(c, places),
    "max_energy_j": lambda c, _: c.cost.energy_j,
    "max_price": lambda c, _: c.cost.price,
    "max_device_macs": lambda c, _: c.cost.device_macs,
    "max_device_memory_bytes": lambda c, _: c.cost.device_memory_bytes,
    "max_device_flash_bytes": lambda c, _: c.cost.device_flash_bytes,
    "min_frames_per_s": lambda c, _: 1.0 / c.cost.interval_s if c.cost.interval_s else math.inf,
}

_OBJECTIVES: dict[Objective, Callable[[Candidate], float | None]] = {
    Objective.ACCURACY: lambda c: -c.choose.accuracy,
    Objective.BYTES: lambda c: c.payload_bytes,
    Objective.LATENCY: lambda c: c.cost.latency_s,
    Objective.ENERGY: lambda c: c.cost.energy_j,
    Objective.COST: lambda c: c.cost.price,
    Objective.DEVICE_MACS: lambda c: c.cost.device_macs,
}


def deadline_latency_s(candidate: Candidate, places: Places) -> float:
    """Latency that a deadline is held against: the median and, over a link, its jitter."""
    crosses = candidate.cost.bytes_up > 0
    return candidate.cost.latency_s + (places.link.jitter_s if crosses else 0.0)


def objective_value(candidate: Candidate, objective: Objective) -> float:
    """The number that is made small; accuracy counts negative.

    Raises:
        PlanError: The objective is energy and the device profile states no power.
    """
    value = _OBJECTIVES[objective](candidate)
    if value is None:
        raise PlanError(_no_energy("objective energy"))
    return value


def misses(candidate: Candidate, constraints: Constraints, places: Places) -> tuple[Miss, ...]:
    """The bounds that a candidate does not keep to; empty if it fits.

    The device's own memory is a bound too, where its profile states one.

    Raises:
        PlanError: A bound is on something that was not found out: energy without a power in the
            profile, agreement of a regression.
    """
    found_misses = []
    for quantity, value_of in _QUANTITIES.items():
        bound = getattr(constraints, quantity)
        if quantity == "max_device_memory_bytes":
            bounds = [b for b in (bound, places.device.memory_bytes) if b is not None]
            bound = min(bounds, default=None)
        if bound is None:
            continue
        value = value_of(candidate, places)
        if value is None:
            raise PlanError(_unknown(quantity))
        over = value < bound if quantity.startswith("min_") else value > bound
        if over:
            found_misses.append(Miss(quantity=quantity, found=float(value), bound=float(bound)))
    return tuple(found_misses)


def choose(
    candidates: Sequence[Candidate],
    constraints: Constraints,
    objective: Objective,
    places: Places,
) -> Candidate:
    """The best candidate that keeps to every constraint.

    Ties go to the lower latency, then the smaller payload, then the fewer device MACs, then the
    id, so that the choice does not hang on the order of the candidates.

    Raises:
        NothingFits: None does; the message names the nearest and what it misses by how much.
        PlanError: There are no candidates, or a bound is on something that was not found out.
    """
    if not candidates:
        msg = "there is nothing to choose from: no candidate was evaluated"
        raise PlanError(msg)
    fitting = [c for c in candidates if not misses(c, constraints, places)]
    if not fitting:
        raise NothingFits(nearest_text(candidates, constraints, places))
    return min(fitting, key=lambda c: _rank(c, objective))


def nearest(
    candidates: Sequence[Candidate], constraints: Constraints, places: Places
) -> tuple[Candidate, tuple[Miss, ...]]:
    """The candidate with the smallest sum of misses, and those misses, largest first."""
    missed = [(c, misses(c, constraints, places)) for c in candidates]
    best, its = min(missed, key=lambda pair: (sum(m.size for m in pair[1]), pair[0].id))
    return best, tuple(sorted(its, key=lambda miss: -miss.size))


def nearest_text(candidates: Sequence[Candidate], constraints: Constraints, places: Places) -> str:
    """One sentence for when nothing fits."""
    best, its = nearest(candidates, constraints, places)
    parts = [
        f"{m.quantity} is {m.found:.4g} against {m.bound:.4g}, off by {abs(m.found - m.bound):.3g}"
        for m in its
    ]
    return (
        f"none of {len(candidates)} candidates keeps to the constraints; nearest is {best.id}: "
        f"{'; '.join(parts)}. Loosen that, or plan for another device, link or model"
    )


def at_places(candidates: Sequence[Candidate], old: Places, new: Places) -> tuple[Candidate, ...]:
    """The same candidates with their costs at other places."""
    return tuple(replace(c, cost=moved(c.cost, old, new)) for c in candidates)


def _rank(candidate: Candidate, objective: Objective) -> tuple[float, float, float, float, str]:
    cost = candidate.cost
    value = objective_value(candidate, objective)
    return (value, cost.latency_s, candidate.payload_bytes, cost.device_macs, candidate.id)


def _unknown(quantity: str) -> str:
    if quantity == "max_energy_j":
        return _no_energy("constraint max_energy_j")
    return f"constraint {quantity} cannot be checked: a regression has no {quantity[4:]}; drop it"


def _no_energy(what: str) -> str:
    return (
        f"{what} needs the device's power: its profile has no active_power_w and idle_power_w; "
        "measure them and put them into the profile"
    )
