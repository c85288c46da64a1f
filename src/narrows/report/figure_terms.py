"""Figure 4: one answer's time, term by term, for the frontier and the honest alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from narrows.plan.candidate import Candidate, Route
from narrows.plan.record import PlanRecord
from narrows.report.figures import Style, Theme, canvas, heading, key_below, short
from narrows.report.palette import TERM_COLOURS, TERM_PLACES, TERMS, family_of
from narrows.report.scene import Scene, is_share, name_of, points_text
from narrows.units import bytes_text, seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 18
# What loses more is on the frontier for its few bytes, and deployed by nobody.
USEFUL_DROP = 0.03


def pick_bars(plan: PlanRecord, most: int = MOST_BARS) -> tuple[Candidate, ...]:
    """The candidates to draw, fastest first.

    Always the recommended one, and of each route and picture format the fastest that keeps the
    plan's bound on the loss; then members of the frontier, evenly spaced in latency, up to `most`.
    """
    whole_n = {variant.name: variant.choose.n for variant in plan.variants}
    whole = [c for c in plan.candidates if c.choose.n == whole_n[c.variant]]
    useful = [c for c in whole if c.choose_drop.value <= useful_drop(plan)]
    bound = plan.constraints.max_drop
    tight = [c for c in useful if bound is None or c.choose_drop.value <= bound]
    best: dict[str, Candidate] = {}
    for found in (tight, useful):
        for candidate in sorted(found, key=lambda c: c.cost.latency_s):
            best.setdefault(family_of(candidate).key, candidate)
    kept = {c.id: c for c in best.values()}
    kept |= {c.id: c for c in plan.candidates if c.id == plan.chosen}
    frontier = set(plan.frontier)
    rest = [c for c in useful if c.id in frontier and c.id not in kept]
    rest.sort(key=lambda c: c.cost.latency_s)
    room = max(0, most - len(kept))
    if len(rest) > room:
        places = (round(i * (len(rest) - 1) / max(1, room - 1)) for i in range(room))
        rest = [rest[place] for place in dict.fromkeys(places)]
    kept |= {c.id: c for c in rest}
    return tuple(sorted(kept.values(), key=lambda c: (c.cost.latency_s, c.id)))


def useful_drop(plan: PlanRecord) -> float:
    """The largest loss a bar may have: the plan's bound, at least 3 points (or 3 %)."""
    scale = 1.0
    if not is_share(plan):
        scale = max(abs(variant.choose.accuracy) for variant in plan.variants) or 1.0
    return max(plan.constraints.max_drop or 0.0, USEFUL_DROP * scale)


def draw_terms(scene: Scene, theme: Theme) -> Figure | None:
    """Stacked bars, one panel for each plan; predicted parts are hatched."""
    bars = [pick_bars(plan) for plan in scene.plans]
    if not any(bars):
        return None
    heights = [max(1, len(found)) for found in bars]
    figure, axes = canvas(
        10.5, 1.6 + 0.34 * sum(heights) + 0.5 * len(bars), len(bars), 1, height_ratios=heights
    )
    for index, (panel, found) in enumerate(zip(axes[:, 0], bars, strict=True)):
        _draw_plan(panel, scene, index, found, theme)
    heading(figure, "Where the time goes, from input to answer", scene, theme)
    key_below(figure, _handles(theme), 4)
    return figure


def _draw_plan(
    panel: Axes, scene: Scene, index: int, found: Sequence[Candidate], theme: Theme
) -> None:
    plan = scene.plans[index]
    rows = list(range(len(found)))
    left = [0.0] * len(found)
    for name in TERMS:
        colour = TERM_COLOURS[name][int(theme.dark)]
        for row, candidate in enumerate(found):
            term = candidate.cost.terms[name]
            hatch = None if term.measured else "////"
            style: Style = {
                "color": colour,
                "edgecolor": theme.page,
                "hatch": hatch,
                "linewidth": 0.0,
            }
            panel.barh(row, 1e3 * term.seconds, left=left[row], height=0.72, **style)
            left[row] += 1e3 * term.seconds
    end = _end(left)
    for row, candidate in enumerate(found):
        total = f"{seconds_text(candidate.cost.latency_s)} · {_facts(candidate, plan)}"
        total = f" {total}" if left[row] <= end else f" … to {total}"
        panel.text(min(left[row], end), row, total, va="center", fontsize=7.5, color=theme.ink)
    panel.axvspan(end, 1.45 * end, color=theme.page, zorder=1.5)
    several = len(plan.variants) > 1
    names = [_label(candidate, scene, index, several) for candidate in found]
    panel.set_yticks(rows, names, fontsize=8)
    for tick, candidate in zip(panel.get_yticklabels(), found, strict=True):
        tick.set_color(theme.ink)
        tick.set_fontweight("bold" if candidate.id == plan.chosen else "normal")
    panel.grid(visible=False, axis="y")
    panel.set_xlim(0, 1.45 * end)
    panel.set_xticks([tick for tick in panel.get_xticks() if 0 <= tick <= end])
    panel.set_ylim(len(found) - 0.4, -0.6)
    panel.set_xlabel("milliseconds")
    places = (plan.device.name, plan.link.name, plan.cloud.name)
    panel.set_title(" → ".join(short(place, 36) for place in places), fontsize=8.5)


def _end(totals: Sequence[float]) -> float:
    """Where the axis ends: bars far longer than the rest are cut off rather than squeeze them."""
    ordered = sorted(totals)
    for index in range(len(ordered) - 1, len(ordered) // 2, -1):
        if ordered[index] > 2.5 * ordered[index - 1]:
            return 1.3 * ordered[index - 1]
    return ordered[-1]


def _facts(candidate: Candidate, plan: PlanRecord) -> str:
    """Bytes and loss, in the margin of a bar."""
    loss = candidate.choose_drop.value
    size = bytes_text(candidate.payload_bytes) if candidate.route is not Route.LOCAL else "0 B"
    return f"{size} · drop {points_text(plan, loss)}"


def _label(candidate: Candidate, scene: Scene, index: int, several: bool) -> str:
    network = scene.network(index, candidate.variant)
    star = "★ " if candidate.id == scene.plans[index].chosen else ""
    return star + short(name_of(candidate, network, with_variant=several), 52)


def _handles(theme: Theme) -> list[Any]:
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=TERM_COLOURS[name][int(theme.dark)], label=f"{name} ({TERM_PLACES[name]})")
        for name in TERMS
    ]
    style: Style = {"facecolor": theme.soft, "edgecolor": theme.page, "linewidth": 0.0}
    handles.append(Patch(label="measured", **style))
    handles.append(Patch(label="predicted", hatch="////", **style))
    return handles
