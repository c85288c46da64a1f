"""Figure 3: compressibility against depth, the bytes each cut needs at two losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from narrows.report.compressibility import Curve, best_picture, curves, drops, needs_by_cut
from narrows.report.figures import Style, Theme, canvas, heading, key_below, log_bytes, short
from narrows.report.palette import FAMILIES, SPLIT_FAMILIES
from narrows.report.scene import Network, Scene
from narrows.units import bytes_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3


def draw_depth(scene: Scene, theme: Theme) -> Figure | None:
    """One panel for each network: bytes against the share of MACs before the cut."""
    pairs = [(network, curves(network)) for network in scene.networks]
    drawn = [pair for pair in pairs if any(curve.cut is not None for curve in pair[1])]
    if not drawn:
        return None
    columns = min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    wide = 8.0 if columns == 1 else 3.9 * columns
    figure, axes = canvas(wide, 1.7 + 3.2 * rows, rows, columns, sharex=True, sharey=True)
    panels = list(axes.flat)
    sizes: list[float] = []
    for panel, (network, found) in zip(panels, drawn, strict=False):
        sizes += _draw_network(panel, network, found, scene, theme)
        panel.set_title(short(network.label, 38))
    for empty in panels[len(drawn) :]:
        empty.set_visible(False)
    log_bytes(panels[0], "y", min(sizes), max(sizes))
    for row in axes:
        row[0].set_ylabel("bytes")
    for panel in panels[max(0, len(drawn) - columns) : len(drawn)]:
        panel.set_xlabel("device MACs (% of the network)")
        panel.xaxis.set_tick_params(labelbottom=True)
    note = (
        "Read off each cut's curve of rates, linear in log bytes. "
        "Hollow: at most, the coarsest rate still holds."
    )
    heading(figure, "How far the feature compresses, by depth", scene, theme, note)
    key_below(figure, _handles(scene, drawn, theme), 2 if columns == 1 else 3)
    return figure


def _draw_network(
    panel: Axes, network: Network, found: Sequence[Curve], scene: Scene, theme: Theme
) -> list[float]:
    share = {cut.index: 100 * cut.head_macs_share for cut in network.variant.cuts}
    plain = [(100 * c.head_macs_share, c.size_bytes) for c in network.variant.cuts]
    panel.plot(*zip(*plain, strict=True), color=theme.soft, linewidth=0.8, linestyle=":")
    sizes = [float(size) for _, size in plain]
    for family in SPLIT_FAMILIES:
        kind = FAMILIES[family]
        for (_, drop), filled in zip(drops(scene, network), (True, False), strict=True):
            answers = needs_by_cut(found, family, drop)
            x = [share[cut] for cut, _ in answers]
            y = [answer.size_bytes for _, answer in answers]
            style: Style = {"color": theme.of(kind), "linewidth": 1.8 if filled else 0.9}
            panel.plot(x, y, linestyle="-" if filled else "--", **style)
            fill = [theme.page if answer.is_bound else theme.of(kind) for _, answer in answers]
            edge = theme.of(kind)
            panel.scatter(x, y, c=fill, edgecolors=edge, marker=kind.mark, s=20, zorder=3)
            sizes += y
    best = best_picture(found, drops(scene, network)[0][1])
    if best is not None:
        colour = theme.of(FAMILIES[best.family])
        panel.axhline(best.size_bytes, color=colour, linewidth=1.1)
        text = f"best picture: {best.codec}, {bytes_text(best.size_bytes)}"
        spot: Style = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        panel.annotate(
            text,
            (0.99, best.size_bytes),
            xytext=(0, 3),
            ha="right",
            fontsize=7,
            color=colour,
            **spot,
        )
        sizes.append(best.size_bytes)
    return sizes


def _handles(
    scene: Scene, drawn: Sequence[tuple[Network, Sequence[Curve]]], theme: Theme
) -> list[Any]:
    from matplotlib.lines import Line2D

    names = [name for name, _ in drops(scene, drawn[0][0])]
    handles: list[Any] = [
        Line2D([], [], color=theme.soft, linestyle=":", linewidth=0.8, label="uncompressed")
    ]
    present = {curve.family for _, found in drawn for curve in found}
    for key in (key for key in SPLIT_FAMILIES if key in present):
        kind = FAMILIES[key]
        for name, dash, width in zip(names, ("-", "--"), (1.8, 0.9), strict=True):
            style: Style = {"color": theme.of(kind), "linestyle": dash, "linewidth": width}
            label = f"{kind.label}, {name}"
            handles.append(Line2D([], [], marker=kind.mark, markersize=4, label=label, **style))
    return handles
