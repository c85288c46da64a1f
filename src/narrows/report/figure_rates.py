"""Figure 2: the same cuts with codecs at several rates, beside pictures sent whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from narrows.plan.candidate import Candidate
from narrows.report.compressibility import Curve, curves
from narrows.report.figures import (
    Style,
    Theme,
    canvas,
    heading,
    key_below,
    log_bytes,
    millions,
    short,
)
from narrows.report.palette import FAMILIES, NETWORK_MARKS, PICTURE_FAMILIES, SPLIT_FAMILIES
from narrows.report.scene import Network, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHOLE_FAMILIES = (*PICTURE_FAMILIES, "raw")
COLUMNS = 3
MOST_TOGETHER = 2
NOTE = (
    "Every line is one cut at several rates. Pictures leave the device nothing to compute. "
    "Hollow: screened out on a part of the examples."
)


def level(candidate: Candidate, network: Network) -> float:
    """Metric of the original less the paired loss: comparable though n may differ."""
    return network.exact - candidate.choose_drop.value


def draw_rates(scene: Scene, theme: Theme) -> Figure | None:
    """A panel for each coder; with many networks a panel for each network, all on one scale."""
    drawn = [(network, curves(network)) for network in scene.networks]
    every = [curve for _, found in drawn for curve in found]
    families = [f for f in SPLIT_FAMILIES if any(curve.family == f for curve in every)]
    if not families:
        return None
    panels = _panels(drawn, families)
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (2.4 + 3.9 * columns, 1.9 + (3.4 if rows == 1 else 3.0) * rows)
    figure, grid = canvas(*size, rows, columns, sharex=True, sharey=True)
    axes = list(grid.flat)
    most = max(millions(network.variant.total_macs) for network in scene.networks) or 1.0
    for axis, panel in zip(axes, panels, strict=False):
        for network, found, mark in panel.networks:
            drawing = (network, found, mark, panel.families)
            _draw_panel(axis, drawing, most, scene, theme)
        axis.set_title(short(panel.title, 40))
        axis.set_xlabel("payload bytes (mean)")
        axis.xaxis.set_tick_params(labelbottom=True)
    for empty in axes[len(panels) :]:
        empty.set_visible(False)
    _limits(axes[0], scene, every)
    for row in grid:
        row[0].set_ylabel(scene.metric)
    figure.colorbar(
        theme.depth_scale(most), ax=axes, label="device MACs (millions)", pad=0.02, aspect=34
    )
    heading(figure, "Every cut with a codec, beside the picture sent whole", scene, theme, NOTE)
    key_below(figure, _handles(scene, every, theme, by_mark=len(panels[0].networks) > 1), 4)
    return figure


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one panel holds: networks with their curves and marks, and the families shown."""

    title: str
    networks: tuple[tuple[Network, tuple[Curve, ...], str], ...]
    families: tuple[str, ...]


def _panels(
    drawn: Sequence[tuple[Network, tuple[Curve, ...]]], families: Sequence[str]
) -> list[Panel]:
    marked = [
        (network, found, NETWORK_MARKS[index % len(NETWORK_MARKS)])
        for index, (network, found) in enumerate(drawn)
    ]
    if len(drawn) <= MOST_TOGETHER:
        return [
            Panel(title=FAMILIES[f].label, networks=tuple(marked), families=(f,)) for f in families
        ]
    return [
        Panel(title=network.label, networks=((network, found, "o"),), families=tuple(families))
        for network, found, _ in marked
    ]


def _draw_panel(
    panel: Axes,
    drawing: tuple[Network, Sequence[Curve], str, Sequence[str]],
    most: float,
    scene: Scene,
    theme: Theme,
) -> Any:
    network, found, mark, families = drawing
    factor = 100 if scene.is_share else 1
    for curve in found:
        x = [c.payload_bytes for c in curve.candidates]
        y = [factor * level(c, network) for c in curve.candidates]
        kind = FAMILIES[curve.family]
        tint = (
            theme.of(kind) if curve.cut is None else theme.depth()(curve.device_macs / 1e6 / most)
        )
        if curve.family in WHOLE_FAMILIES:
            panel.plot(x, y, color=tint, linewidth=1.4, linestyle=kind.dash, zorder=2)
            _dots(panel, curve, (x, y), tint, theme, marker=kind.mark, s=22)
        elif curve.family in families:
            panel.plot(x, y, color=tint, linewidth=0.9, linestyle=kind.dash, zorder=2)
            _dots(panel, curve, (x, y), tint, theme, marker=mark, s=13)
            _star(panel, curve, network, scene, theme)


def _dots(
    panel: Axes,
    curve: Curve,
    places: tuple[Sequence[float], Sequence[float]],
    tint: Any,
    theme: Theme,
    **style: Any,
) -> None:
    fills = [tint if c.choose.n == curve.whole_n else theme.page for c in curve.candidates]
    panel.scatter(*places, c=fills, edgecolors=[tint], linewidths=0.8, zorder=3, **style)


def _star(panel: Axes, curve: Curve, network: Network, scene: Scene, theme: Theme) -> None:
    """Mark the recommended candidate where it lies."""
    for candidate in curve.candidates:
        if candidate.id == scene.plans[network.plan].chosen:
            y = (100 if scene.is_share else 1) * level(candidate, network)
            style: Style = {"marker": "*", "s": 190, "zorder": 6, "edgecolors": theme.page}
            panel.scatter([candidate.payload_bytes], [y], color=theme.ink, **style)


def _limits(panel: Axes, scene: Scene, every: Sequence[Curve]) -> None:
    """Leave out what is useless: accuracy ends at most 20 points below the worst network."""
    points = [c for curve in every for c in curve.candidates]
    sizes = [c.payload_bytes for c in points if c.payload_bytes > 0]
    log_bytes(panel, "x", min(sizes), max(sizes))
    if scene.is_share:
        tops = [100 * network.exact for network in scene.networks]
        worst = 100 * max(candidate.choose_drop.value for candidate in points)
        panel.set_ylim(max(0.0, min(tops) - min(20.0, worst + 1)), min(100.5, max(tops) + 2))


def _handles(scene: Scene, every: Sequence[Curve], theme: Theme, *, by_mark: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    present = {curve.family for curve in every}
    style: Style
    for kind in (FAMILIES[key] for key in WHOLE_FAMILIES if key in present):
        style = {"color": theme.of(kind), "linestyle": kind.dash, "marker": kind.mark}
        handles.append(Line2D([], [], label=kind.label, markersize=5, **style))
    for kind in (FAMILIES[key] for key in SPLIT_FAMILIES if key in present and not by_mark):
        style = {"color": theme.of(FAMILIES["ans"]), "linestyle": kind.dash, "marker": "o"}
        handles.append(Line2D([], [], label=kind.label, markersize=4, linewidth=0.9, **style))
    for index, network in enumerate(scene.networks if by_mark else ()):
        mark = NETWORK_MARKS[index % len(NETWORK_MARKS)]
        label = short(network.label, 40)
        handles.append(Line2D([], [], color=theme.soft, marker=mark, linewidth=0.9, label=label))
    if any(plan.chosen for plan in scene.plans):
        style = {"color": theme.ink, "marker": "*", "markersize": 11, "linestyle": ""}
        handles.append(Line2D([], [], label="recommended", **style))
    return handles
