"""Figure 5: a map of the winning route over bandwidth × round trip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from narrows.plan.candidate import Candidate, Route
from narrows.plan.constraints import Constraints
from narrows.plan.record import PlanRecord, WinnersMap
from narrows.report.figures import Style, Theme, canvas, heading, short
from narrows.report.palette import depth_colour, family_of, ink_on
from narrows.report.scene import Network, Scene, cut_text, is_share, points_text
from narrows.units import bandwidth_text, bytes_text, percent_text, seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTHING = "nothing fits"
MOST_KEYS = 12
LEAST_NAMED = 0.04
LETTERS_PER_CELL = 5  # of 23 columns in the width of the figure


def route_label(candidate: Candidate, network: Network, *, with_variant: bool) -> str:
    """What a region of the map is called: the route, with the cut but without the rate."""
    start = f"{network.label}: " if with_variant else ""
    if candidate.route is not Route.SPLIT or candidate.cut is None:
        return start + family_of(candidate).label
    cut = network.cut(candidate.cut)
    return f"{start}split at {f'cut {candidate.cut}' if cut is None else cut_text(cut)}"


def route_colour(candidate: Candidate, network: Network, theme: Theme) -> str:
    """Splits by their depth, everything else by its family."""
    if candidate.route is Route.SPLIT:
        share = candidate.cost.device_macs / max(1, network.variant.total_macs)
        return depth_colour(share, dark=theme.dark)
    return theme.of(family_of(candidate))


def draw_routes(scene: Scene, theme: Theme) -> Figure | None:
    """One map for each plan that has one."""
    shown = [
        (index, plan)
        for index, plan in enumerate(scene.plans)
        if any(map(len, plan.winners.winners))
    ]
    if not shown:
        return None
    figure, axes = canvas(10.5, 1.0 + 4.2 * len(shown), len(shown), 1)
    for panel, (index, plan) in zip(axes[:, 0], shown, strict=True):
        _draw_map(panel, scene, index, plan, theme)
    heading(figure, "Which route wins where", scene, theme)
    return figure


def _draw_map(panel: Axes, scene: Scene, index: int, plan: PlanRecord, theme: Theme) -> None:
    from matplotlib.colors import ListedColormap

    label_of, colour_of = _regions(scene, index, plan, theme)
    winners = plan.winners
    counts = Counter(label_of[cell] for row in winners.winners for cell in row)
    labels = [label for label, _ in counts.most_common()]
    cells = [[labels.index(label_of[cell]) for cell in row] for row in winners.winners]
    panel.pcolormesh(
        edges(winners.bandwidths_bits_per_s),
        edges(winners.round_trips_s),
        cells,
        cmap=ListedColormap([colour_of[label] for label in labels]),
        vmin=-0.5,
        vmax=len(labels) - 0.5,
        edgecolors=theme.page,
        linewidth=0.25,
    )
    panel.set(xscale="log", yscale="log", xlabel="uplink bandwidth", ylabel="round trip")
    panel.grid(visible=False)
    panel.xaxis.set_major_formatter(lambda value, _: bandwidth_text(value))
    panel.yaxis.set_major_formatter(lambda value, _: seconds_text(value))
    here = (plan.link.bandwidth_up_bits_per_s, plan.link.round_trip_s)
    panel.plot(*here, marker="P", markersize=11, color=theme.ink, markeredgecolor=theme.page)
    places = f"{short(plan.device.name, 50)}, {short(plan.cloud.name, 50)}"
    title = f"{places}\nbest {plan.objective.value}: {short(bounds_text(plan), 100)}"
    panel.set_title(title, fontsize=8.5)
    _name_regions(panel, winners, cells, labels, colour_of)
    _key(panel, counts, colour_of, plan, theme)


def _regions(
    scene: Scene, index: int, plan: PlanRecord, theme: Theme
) -> tuple[dict[str | None, str], dict[str, str]]:
    """Candidate id → region, region → colour."""
    by_id = {candidate.id: candidate for candidate in plan.candidates}
    label_of: dict[str | None, str] = {None: NOTHING}
    colour_of = {NOTHING: theme.line}
    for winner in {cell for row in plan.winners.winners for cell in row if cell in by_id}:
        candidate = by_id[str(winner)]
        network = scene.network(index, candidate.variant)
        label = route_label(candidate, network, with_variant=len(plan.variants) > 1)
        label_of[winner] = label
        colour_of[label] = route_colour(candidate, network, theme)
    unknown = {cell for row in plan.winners.winners for cell in row} - set(label_of)
    label_of |= dict.fromkeys(unknown, NOTHING)
    return label_of, colour_of


def _name_regions(
    panel: Axes,
    winners: WinnersMap,
    cells: Sequence[Sequence[int]],
    labels: Sequence[str],
    colour_of: dict[str, str],
) -> None:
    """Write the name of each large region into it, at its cell nearest the region's middle."""
    for index, label in enumerate(labels):
        own = [(r, c) for r, row in enumerate(cells) for c, cell in enumerate(row) if cell == index]
        if len(own) < LEAST_NAMED * len(cells) * len(cells[0]):
            continue
        middle = [sum(place[axis] for place in own) / len(own) for axis in (0, 1)]
        row, column = min(own, key=lambda p: (p[0] - middle[0]) ** 2 + (p[1] - middle[1]) ** 2)
        x, y = winners.bandwidths_bits_per_s[column], winners.round_trips_s[row]
        name = short(label.rpartition(": ")[2], 40).replace(" (", "\n(")
        room = sum(place[0] == row for place in own) * LETTERS_PER_CELL
        if max(map(len, name.split("\n"))) > room:
            continue
        ink = ink_on(colour_of[label])
        panel.text(x, y, name, ha="center", va="center", fontsize=7.5, color=ink, clip_on=True)


def _key(
    panel: Axes, counts: Counter[str], colour_of: dict[str, str], plan: PlanRecord, theme: Theme
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    whole = sum(counts.values())
    handles: list[Any] = [
        Patch(color=colour_of[label], label=f"{short(label, 36)}  {100 * count / whole:.0f} %")
        for label, count in counts.most_common(MOST_KEYS)
    ]
    style: Style = {"color": theme.ink, "marker": "P", "markersize": 9, "linestyle": ""}
    handles.append(Line2D([], [], label=short(f"the plan's link: {plan.link.name}", 40), **style))
    panel.legend(
        handles,
        [h.get_label() for h in handles],
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        fontsize=8,
    )


def edges(centres: Sequence[float]) -> list[float]:
    """Borders of cells whose middles are given, on a logarithmic axis; one more than middles.

    Example:
        >>> [round(edge, 3) for edge in edges([1.0, 4.0, 16.0])]
        [0.5, 2.0, 8.0, 32.0]
    """
    if len(centres) < 2:
        return [centres[0] / 2, centres[0] * 2]
    inner = [(a * b) ** 0.5 for a, b in pairwise(centres)]
    return [centres[0] ** 2 / inner[0], *inner, centres[-1] ** 2 / inner[-1]]


def bounds_text(plan: PlanRecord) -> str:
    """The plan's constraints in words."""
    bounds: Constraints = plan.constraints
    share = percent_text if is_share(plan) else "{:.3g}".format
    parts = (
        ("accuracy ≥ ", bounds.min_accuracy, share),
        ("drop ≤ ", bounds.max_drop, lambda d: points_text(plan, d)),
        ("agreement ≥ ", bounds.min_agreement, percent_text),
        ("payload ≤ ", bounds.max_payload_bytes, bytes_text),
        ("latency ≤ ", bounds.max_latency_s, seconds_text),
        ("energy ≤ ", bounds.max_energy_j, "{:.3g} J".format),
        ("price ≤ ", bounds.max_price, "{:.3g}".format),
        ("device MACs ≤ ", bounds.max_device_macs, "{:.3g}".format),
        ("device memory ≤ ", bounds.max_device_memory_bytes, bytes_text),
        ("file on the device ≤ ", bounds.max_device_flash_bytes, bytes_text),
        ("frames/s ≥ ", bounds.min_frames_per_s, "{:.3g}".format),
    )
    texts = [start + write(value) for start, value, write in parts if value is not None]
    return ", ".join(texts) or "no constraints"
