"""The choice in one sentence, beside the best of the other routes."""

from __future__ import annotations

from collections.abc import Sequence

from narrows.errors import NothingFits
from narrows.plan.candidate import Candidate, Route
from narrows.plan.choose import choose, objective_value
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.predict import Places
from narrows.plan.record import VariantRow
from narrows.units import bytes_text, joules_text, macs_text, percent_text, seconds_text


def explanation(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    variants: Sequence[VariantRow],
    constraints: Constraints,
    objective: Objective,
    places: Places,
) -> str:
    """Why `chosen`: what to do, what it costs, and what the best of the other routes would cost."""
    others = [c for c in candidates if c.route is not chosen.route]
    parts = [
        f"{what_to_do(chosen, variants)}: {value_text(chosen, objective)}",
        f"drop {100 * chosen.choose_drop.value:.1f} points on {chosen.choose.n} choose examples",
    ]
    try:
        rival = choose(others, constraints, objective, places) if others else None
    except NothingFits:
        rival = None
    if rival is None:
        return f"{', '.join(parts)}; no other route keeps to the constraints."
    return (
        f"{', '.join(parts)}; the best of the other routes is {rival.id} "
        f"with {value_text(rival, objective)}."
    )


def what_to_do(candidate: Candidate, variants: Sequence[VariantRow]) -> str:
    """The candidate as an instruction."""
    payload = bytes_text(candidate.payload_bytes)
    if candidate.route is Route.LOCAL:
        return f"Run all of {candidate.variant} on the device"
    assert candidate.codec is not None
    if candidate.route is Route.SPLIT:
        variant = next(v for v in variants if v.name == candidate.variant)
        row = next(row for row in variant.cuts if row.index == candidate.cut)
        shape = " x ".join(str(side) for side in row.shape)
        return (
            f"Cut {candidate.variant} at {candidate.cut} ({shape}, "
            f"{percent_text(row.head_macs_share)} of the MACs on the device) "
            f"and send {payload} of {candidate.codec.name}"
        )
    if candidate.route is Route.IMAGE:
        scale = candidate.codec.scale or 1.0
        shrunk = f" at {percent_text(scale)} of the side" if scale < 1 else ""
        return (
            f"Send the picture to {candidate.variant} in the cloud as {candidate.codec.name} "
            f"of quality {candidate.codec.quality}{shrunk}, {payload}"
        )
    return (
        f"Send the input to {candidate.variant} in the cloud as {candidate.codec.name}, {payload}"
    )


def value_text(candidate: Candidate, objective: Objective) -> str:
    """The objective's value with its unit."""
    value = objective_value(candidate, objective)
    if objective is Objective.ACCURACY:
        return f"metric {-value:.4f}"
    if objective is Objective.COST:
        return f"price {value:.3g} a request"
    text = {
        Objective.LATENCY: seconds_text,
        Objective.BYTES: bytes_text,
        Objective.ENERGY: joules_text,
        Objective.DEVICE_MACS: macs_text,
    }[objective]
    return text(value)
