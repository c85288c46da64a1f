"""The recommended row in a few large numbers, and what the plan assumed, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from narrows.plan.candidate import Candidate, Drop, Route, Score
from narrows.plan.choose import misses
from narrows.plan.predict import Places
from narrows.plan.profile import Cloud, Device
from narrows.plan.record import PlanRecord
from narrows.report.figure_routes import bounds_text
from narrows.report.palette import codec_text
from narrows.report.scene import Scene, is_share, points_text
from narrows.units import bandwidth_text, bytes_text, joules_text, percent_text, seconds_text

Texts = list[list[str]]


def tiles(scene: Scene, index: int) -> Texts:
    """Name, value and note of each large number; empty when nothing was chosen."""
    plan = scene.plans[index]
    chosen = next((c for c in plan.candidates if c.id == plan.chosen), None)
    if chosen is None:
        return []
    network = scene.network(index, chosen.variant)
    share = chosen.cost.device_macs / max(1, network.variant.total_macs)
    cost = chosen.cost
    memory = f"{bytes_text(cost.device_memory_bytes)} of memory"
    if cost.device_flash_bytes:
        memory += f", {bytes_text(cost.device_flash_bytes)} of flash"
    found = [
        _sent(chosen),
        ["Time to answer", seconds_text(chosen.cost.latency_s), _terms_note(chosen)],
        _loss(chosen, plan),
        ["Work on the device", percent_text(share), f"of the MACs, {memory}"],
        _against_pictures(chosen, plan),
    ]
    return [tile for tile in found if tile]


def _sent(chosen: Candidate) -> list[str]:
    if chosen.route is Route.LOCAL:
        return ["Sent", "0 B", "nothing crosses the link"]
    note = f"95 % under {bytes_text(chosen.payload_bytes_p95)}; on the wire "
    note += f"{bytes_text(chosen.cost.bytes_up)} up, {bytes_text(chosen.cost.bytes_down)} down"
    return ["Payload", bytes_text(chosen.payload_bytes), note]


def _terms_note(chosen: Candidate) -> str:
    terms = [(name, term) for name, term in chosen.cost.terms.items() if term.seconds > 0]
    measured = [name for name, term in terms if term.measured]
    if not measured:
        return "predicted in every term"
    predicted = [name for name, term in terms if not term.measured]
    if not predicted:
        return "measured in every term"
    return f"measured: {', '.join(measured)}; predicted: {', '.join(predicted)}"


def _loss(chosen: Candidate, plan: PlanRecord) -> list[str]:
    score: Score = chosen.report or chosen.choose
    drop: Drop = chosen.report_drop or chosen.choose_drop
    name = "report set" if chosen.report and chosen.report_drop else "choose set"
    low = points_text(plan, drop.low).removesuffix(" points")
    note = f"95 %: {low} to {points_text(plan, drop.high)}, "
    note += f"{name}, n = {score.n}"
    if score.agreement is not None:
        note += f"; agreement {percent_text(score.agreement)}"
    if plan.demonstration:
        note += "; demonstration"
    return ["Drop", points_text(plan, drop.value), note]


def _against_pictures(chosen: Candidate, plan: PlanRecord) -> list[str]:
    """How many times fewer bytes than the best picture codec that keeps the drop's bound."""
    whole_n = {variant.name: variant.choose.n for variant in plan.variants}
    pictures = [
        c for c in plan.candidates if c.route is Route.IMAGE and c.choose.n == whole_n[c.variant]
    ]
    if not pictures or chosen.route is not Route.SPLIT or not chosen.payload_bytes:
        return []
    name = "Against pictures"
    limit = max(plan.constraints.max_drop or 0.0, chosen.choose_drop.value)
    equal = [c for c in pictures if c.choose_drop.value <= limit]
    if not equal:
        return [name, "none as good", f"no picture codec tried keeps to {points_text(plan, limit)}"]
    best = min(equal, key=lambda c: (c.payload_bytes, c.id))
    ratio = best.payload_bytes / chosen.payload_bytes
    note = (
        f"bytes of {codec_text(best.codec)} ({bytes_text(best.payload_bytes)}) over the payload, "
    )
    note += f"both within {points_text(plan, limit)}{_other_bounds(best, plan)}"
    return [name, f"{ratio:.1f}×", note]


def _other_bounds(best: Candidate, plan: PlanRecord) -> str:
    places = Places(device=plan.device, link=plan.link, cloud=plan.cloud)
    missed = [miss.quantity.partition("_")[2] for miss in misses(best, plan.constraints, places)]
    names = [name.removesuffix("_s").removesuffix("_j").replace("_", " ") for name in missed]
    return f"; it misses the bound on {', '.join(names)}" if names else ""


def facts(plan: PlanRecord) -> Texts:
    """What was planned, for the head of the page."""
    sizes = f"n = {plan.sets.choose} to choose, {plan.sets.report} to report"
    return [
        ["models", ", ".join(variant.name for variant in plan.variants)],
        ["data", f"{plan.task}, {sizes}"],
        ["device", plan.device.name],
        ["link", plan.link.name],
        ["cloud", plan.cloud.name],
        ["best", f"{plan.objective.value}: {bounds_text(plan)}"],
    ]


def profiles(plan: PlanRecord) -> list[list[object]]:
    """Titles with name, value and source of what the three places were taken to be."""
    device, link, cloud = plan.device, plan.link, plan.cloud
    power = "not known" if device.active_power_w is None else f"{device.active_power_w:.3g} W"
    memory = "does not bind" if device.memory_bytes is None else bytes_text(device.memory_bytes)
    on_device = [
        ("time", _pace(device), "slowdown"),
        ("threads", str(device.threads), "threads"),
        ("memory", memory, "memory_bytes"),
        ("power computing", power, "active_power_w"),
    ]
    on_link = [
        ("up", bandwidth_text(link.bandwidth_up_bits_per_s), "bandwidth_up_bits_per_s"),
        ("down", bandwidth_text(link.bandwidth_down_bits_per_s), "bandwidth_down_bits_per_s"),
        ("round trip", seconds_text(link.round_trip_s), "round_trip_s"),
        ("jitter", seconds_text(link.jitter_s), "jitter_s"),
        ("a byte up", joules_text(link.energy_j_per_byte_up), "energy_j_per_byte_up"),
    ]
    in_cloud = [
        ("time", _pace(cloud), "slowdown"),
        ("service", seconds_text(cloud.service_s), "service_s"),
        ("queue", seconds_text(cloud.queue_s), "queue_s"),
        ("price a call", f"{cloud.price_per_call:.3g}", "price_per_call"),
    ]
    return [
        [f"Device: {device.name}", _sourced(on_device, device.sources)],
        [f"Link: {link.name}", _sourced(on_link, link.sources)],
        [f"Cloud: {cloud.name}", _sourced(in_cloud, cloud.sources)],
        ["This plan", _sourced(_making(plan), {})],
    ]


def _sourced(rows: Sequence[tuple[str, str, str]], sources: Mapping[str, str]) -> Texts:
    return [[name, value, sources.get(key, "")] for name, value, key in rows]


def _pace(place: Device | Cloud) -> str:
    return "timed here" if place.here else f"{place.slowdown:.3g} × {place.rates_from}"


def _making(plan: PlanRecord) -> list[tuple[str, str, str]]:
    sets = plan.sets
    return [
        ("created", plan.created, ""),
        ("metric", plan.metric if is_share(plan) else f"{plan.metric} (higher is better)", ""),
        ("candidates", f"{len(plan.candidates)}, {len(plan.frontier)} on the frontier", ""),
        ("examples", f"fit {sets.fit}, choose {sets.choose}, report {sets.report}", ""),
        ("planning took", seconds_text(sum(stage.seconds for stage in plan.stages)), ""),
        ("one plain pass", seconds_text(plan.plain_pass_s), ""),
    ]


def footer(plan: PlanRecord) -> str:
    """Where it was measured."""
    named = ("cpu_model", "cores", "system", "python", "onnxruntime", "narrows")
    parts = [f"{name} {plan.environment[name]}" for name in named if name in plan.environment]
    return "Planned on: " + ", ".join(parts) if parts else ""
