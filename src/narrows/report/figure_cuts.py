"""Figure 1: accuracy, bytes and device MACs of every cut, nothing compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from narrows.report.figures import (
    Style,
    Theme,
    canvas,
    heading,
    key_below,
    log_bytes,
    millions,
)
from narrows.report.palette import NETWORK_MARKS
from narrows.report.scene import Network, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_cuts(scene: Scene, theme: Theme) -> Figure | None:
    """Accuracy against bytes coloured by device MACs, and bytes against device MACs."""
    networks = [network for network in scene.networks if network.variant.cuts]
    if not networks:
        return None
    figure, axes = canvas(10.5, 4.9 + 0.14 * len(networks), columns=2)
    left, right = axes[0]
    sizes = [cut.size_bytes for network in networks for cut in network.variant.cuts]
    most = max(millions(network.variant.total_macs) for network in networks) or 1.0
    handles = []
    for index, network in enumerate(networks):
        mark = NETWORK_MARKS[index % len(NETWORK_MARKS)]
        shown = _draw_network(left, right, network, mark, most, scene, theme)
        handles.append(_handle(network, mark, theme))
    figure.colorbar(shown, ax=left, label="device MACs (millions)", pad=0.02, aspect=32)
    left.set(title="Accuracy against bytes", xlabel="bytes across the cut", ylabel=scene.metric)
    log_bytes(left, "x", min(sizes), max(sizes))
    right.set(title="Bytes against device MACs", xlabel="device MACs (millions)")
    right.set_ylabel("bytes across the cut")
    log_bytes(right, "y", min(sizes), max(sizes))
    left.margins(y=0.12)
    note = "Hollow: the input itself. A cut changes what is sent and computed, never the accuracy."
    heading(figure, "Every cut, nothing compressed", scene, theme, note)
    key_below(figure, handles, 3)
    return figure


def _draw_network(
    left: Axes, right: Axes, network: Network, mark: str, most: float, scene: Scene, theme: Theme
) -> Any:
    cuts = network.variant.cuts
    sizes = [cut.size_bytes for cut in cuts]
    macs = [millions(cut.head_macs) for cut in cuts]
    factor = 100 if scene.is_share else 1
    level = [factor * network.variant.choose.accuracy] * len(cuts)
    style: Style = {"cmap": theme.depth(), "vmin": 0, "vmax": most, "marker": mark, "s": 26}
    shown = left.scatter(sizes, level, c=macs, linewidths=0.4, edgecolors=theme.page, **style)
    right.plot(macs, sizes, color=theme.soft, linewidth=0.6, alpha=0.45)
    right.scatter(macs, sizes, c=macs, linewidths=0.4, edgecolors=theme.page, zorder=3, **style)
    for panel, x, y in ((left, sizes[0], level[0]), (right, macs[0], sizes[0])):
        panel.scatter(
            [x], [y], marker=mark, s=46, facecolors=theme.page, edgecolors=theme.ink, zorder=4
        )
    return shown


def _handle(network: Network, mark: str, theme: Theme) -> Any:
    from matplotlib.lines import Line2D

    side = "×".join(str(size) for size in network.variant.input_shape)
    label = f"{network.label} ({side})"
    return Line2D([], [], marker=mark, linestyle="", color=theme.soft, label=label)
