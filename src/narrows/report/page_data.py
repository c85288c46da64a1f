"""What the page's script reads: plans as columns, networks as cuts and curves, colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from narrows.plan.candidate import Candidate
from narrows.plan.constraints import Constraints
from narrows.plan.record import PlanRecord
from narrows.report.answer import facts, footer, profiles, tiles
from narrows.report.compressibility import Curve, Need, best_picture, curves, drops, needs_by_cut
from narrows.report.figure_routes import route_label
from narrows.report.figure_terms import pick_bars
from narrows.report.palette import (
    DEPTH_DARK,
    DEPTH_LIGHT,
    FAMILIES,
    NETWORK_SYMBOLS,
    SPLIT_FAMILIES,
    TERM_COLOURS,
    TERM_PLACES,
    TERMS,
    codec_text,
    family_of,
)
from narrows.report.scene import Network, Scene, is_share, name_of

Json = dict[str, Any]

_DEVICE = ("slowdown", "memory_bytes", "active_power_w", "idle_power_w")
_LINK = (
    "bandwidth_up_bits_per_s",
    "bandwidth_down_bits_per_s",
    "round_trip_s",
    "jitter_s",
    "overhead_bytes_up",
    "overhead_bytes_down",
    "price_per_byte",
    "energy_j_per_byte_up",
    "energy_j_per_byte_down",
)
_CLOUD = ("slowdown", "service_s", "queue_s", "price_per_call", "price_per_s")


def page_data(scene: Scene) -> Json:
    """Everything the page draws, as what JSON can hold."""
    metric = scene.metric
    if all(plan.demonstration for plan in scene.plans):
        metric += ", demonstration, n = " + "/".join(str(p.sets.choose) for p in scene.plans)
    return {
        "metric": metric,
        "metric_name": scene.metric.partition(" (")[0],
        "share": scene.is_share,
        "scope": scene.scope,
        "palette": _palette(),
        "networks": [_network(scene, network) for network in scene.networks],
        "plans": [_plan(scene, index) for index in range(len(scene.plans))],
    }


def _palette() -> Json:
    families = {
        key: {
            "label": f.label,
            "light": f.light,
            "dark": f.dark,
            "symbol": f.symbol,
            "dash": f.dash,
        }
        for key, f in FAMILIES.items()
    }
    terms = {
        name: {"light": TERM_COLOURS[name][0], "dark": TERM_COLOURS[name][1], "place": place}
        for name, place in TERM_PLACES.items()
    }
    depth = {"light": DEPTH_LIGHT, "dark": DEPTH_DARK}
    return {"families": families, "terms": terms, "depth": depth, "symbols": NETWORK_SYMBOLS}


def _network(scene: Scene, network: Network) -> Json:
    cuts, found = network.variant.cuts, curves(network)
    place = {c.id: i for i, c in enumerate(scene.plans[network.plan].candidates)}
    names = ("index", "tensor", "size_bytes", "head_macs", "head_macs_share")
    return {
        "label": network.label,
        "plan": network.plan,
        "input_shape": "×".join(str(side) for side in network.variant.input_shape),
        "total_macs": network.variant.total_macs,
        "accuracy": network.variant.choose.accuracy,
        "exact": network.exact,
        "original": _whole_text(network),
        "cuts": {name: [getattr(cut, name) for cut in cuts] for name in names}
        | {"shape": ["×".join(str(side) for side in cut.shape) for cut in cuts]},
        "curves": [_curve(curve, place) for curve in found],
        "needs": [_needs(network, found, label, drop) for label, drop in drops(scene, network)],
    }


def _whole_text(network: Network) -> str:
    """What a drop of none means, beside its line."""
    variant = network.variant
    own = variant.original == variant.name
    return "nothing compressed" if own else f"{variant.original}, nothing compressed"


def _curve(curve: Curve, place: dict[str, int]) -> Json:
    return {
        "codec": curve.codec,
        "family": curve.family,
        "cut": curve.cut,
        "device_macs": curve.device_macs,
        "rows": [place[candidate.id] for candidate in curve.candidates],
    }


def _needs(network: Network, found: Sequence[Curve], label: str, drop: float) -> Json:
    share = {cut.index: cut.head_macs_share for cut in network.variant.cuts}
    families = {
        key: [
            {"cut": cut, "share": share.get(cut, 0.0), **_need(answer)}
            for cut, answer in needs_by_cut(found, key, drop)
        ]
        for key in SPLIT_FAMILIES
    }
    picture = best_picture(found, drop)
    shown = {key: points for key, points in families.items() if points}
    return {"label": label, "families": shown, "picture": picture and _need(picture)}


def _need(need: Need) -> Json:
    return {
        "size_bytes": need.size_bytes,
        "is_bound": need.is_bound,
        "codec": need.codec,
        "family": need.family,
    }


def _plan(scene: Scene, index: int) -> Json:
    plan = scene.plans[index]
    place = {candidate.id: i for i, candidate in enumerate(plan.candidates)}
    bars = pick_bars(plan)
    note = f"{len(bars)} of {len(plan.candidates)} candidates: the recommended one, the fastest of "
    note += "each route and picture codec within the bound on the drop, and of the frontier those "
    note += "that lose little, evenly spaced."
    return {
        "title": plan.title,
        "demonstration": plan.demonstration,
        "n": plan.sets.choose,
        "share": is_share(plan),
        "best_accuracy": max(variant.choose.accuracy for variant in plan.variants),
        "objective": plan.objective.value,
        "bounds": {name: getattr(plan.constraints, name) for name in Constraints.__slots__},
        "places": {
            "device": {name: getattr(plan.device, name) for name in _DEVICE},
            "link": {name: getattr(plan.link, name) for name in _LINK},
            "cloud": {name: getattr(plan.cloud, name) for name in _CLOUD},
        },
        "chosen": None if plan.chosen is None else place.get(plan.chosen),
        "explanation": plan.explanation,
        "facts": facts(plan),
        "tiles": tiles(scene, index),
        "profiles": profiles(plan),
        "footer": footer(plan),
        "bars": [place[candidate.id] for candidate in bars],
        "bars_note": note,
        "columns": _columns(scene, index),
    }


def _columns(scene: Scene, index: int) -> Json:
    plan = scene.plans[index]
    network_of = {n.variant.name: i for i, n in enumerate(scene.networks) if n.plan == index}
    ids = sorted(candidate.id for candidate in plan.candidates)
    order = {name: place for place, name in enumerate(ids)}
    rows = [
        _row(scene, plan, candidate, network_of[candidate.variant], order[candidate.id])
        for candidate in plan.candidates
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _row(scene: Scene, plan: PlanRecord, candidate: Candidate, place: int, order: int) -> Json:
    network, several = scene.networks[place], len(plan.variants) > 1
    cost, score, drop = candidate.cost, candidate.choose, candidate.choose_drop
    terms = {name: cost.terms[name] for name in TERMS}
    return {
        "id": candidate.id,
        "name": name_of(candidate, network, with_variant=several),
        "region": route_label(candidate, network, with_variant=several),
        "network": place,
        "route": candidate.route.value,
        "family": family_of(candidate).key,
        "codec": codec_text(candidate.codec),
        "cut": candidate.cut,
        "tensor": candidate.tensor,
        "payload_bytes": candidate.payload_bytes,
        "payload_bytes_p95": candidate.payload_bytes_p95,
        "n": score.n,
        "whole": network.is_whole(candidate),
        "accuracy": score.accuracy,
        "agreement": score.agreement,
        "drop": drop.value,
        "low": drop.low,
        "high": drop.high,
        **{name: term.seconds for name, term in terms.items()},
        "measured_bits": sum(term.measured << bit for bit, term in enumerate(terms.values())),
        "bytes_up": cost.bytes_up,
        "bytes_down": cost.bytes_down,
        "device_macs": cost.device_macs,
        "device_memory_bytes": cost.device_memory_bytes,
        "device_flash_bytes": cost.device_flash_bytes,
        "order": order,
        "on_frontier": candidate.on_frontier,
        "report": _report(candidate),
    }


def _report(candidate: Candidate) -> Json | None:
    if candidate.report is None or candidate.report_drop is None:
        return None
    drop = candidate.report_drop
    return {"n": candidate.report.n, "drop": drop.value, "low": drop.low, "high": drop.high}
