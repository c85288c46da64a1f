"""Figure: time over that of the original with intervals, network by network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from narrows.report.figures import Theme, canvas, key_below, title_above
from narrows.report.study_colours import MARKS, variant_colours
from narrows.report.study_figures import network_rows, offsets, tint
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title, threads_text
from narrows.study.claims import time_ratio
from narrows.study.settings import ORIGINAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTE: Final = "Left of 1 is faster than the original on the same runtime. Bars: 95 % intervals."
_MEAN: Final = "geometric mean"
_TICKS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)


def draw_ratios(scene: StudyScene, threads: int, theme: Theme) -> Figure | None:
    """A mark for each variant and runtime in each network's row, and their geometric means."""
    series = [
        (claim.variant, claim.runtime)
        for claim in scene.claims
        if claim.threads == threads and claim.networks
    ]
    if not series:
        return None
    names = [*scene.networks, _MEAN]
    figure, grid = canvas(8.2, 1.2 + len(names) * (0.14 + 0.075 * len(series)))
    axes = grid[0, 0]
    network_rows(axes, names, theme)
    ends = [1.0]
    for (variant, runtime), offset in zip(series, offsets(len(series)), strict=True):
        ends += _draw_series(axes, scene, (variant, runtime, threads), offset, theme)
    _log_axis(axes, min(ends), max(ends))
    axes.axvline(1.0, color=theme.ink, linewidth=1.0, zorder=1)
    axes.axhline(len(names) - 1.5, color=theme.soft, linewidth=0.8)
    axes.set_xlabel("time ÷ time of the original")
    axes.get_yticklabels()[-1].set_fontweight("bold")
    title = f"Time against the original, {threads_text(threads)}"
    title_above(figure, title, [scene.scope, _NOTE], theme)
    key_below(figure, _handles(scene, series, theme), 2)
    return figure


def _draw_series(
    axes: Axes, scene: StudyScene, series: tuple[str, str, int], offset: float, theme: Theme
) -> list[float]:
    """Draw one variant on one runtime; give the ends of all its intervals."""
    variant, runtime, _ = series
    style = _style(scene, variant, runtime, theme)
    ends: list[float] = []
    for index, network in enumerate(scene.networks):
        record = scene.get(network, *series)
        if record is None or record.ratio is None:
            continue
        ratio = time_ratio(record)
        ends += [ratio.low, ratio.high]
        place = index + offset
        axes.plot([ratio.low, ratio.high], [place, place], color=style["color"], linewidth=1.2)
        axes.plot([ratio.value], [place], markersize=4.2, linestyle="", **style)
    claim = next(c for c in scene.claims if (c.variant, c.runtime, c.threads) == series)
    axes.plot(
        [claim.time.value], [len(scene.networks) + offset], markersize=6.5, linestyle="", **style
    )
    return ends


def _style(scene: StudyScene, variant: str, runtime: str, theme: Theme) -> dict[str, Any]:
    colour = tint(variant_colours(scene.variants)[variant], theme)
    place = scene.compiled.index(runtime)
    filled = colour if place == 0 else theme.page
    return {
        "color": colour,
        "marker": MARKS[place % len(MARKS)],
        "markerfacecolor": filled,
        "markeredgecolor": colour,
        "zorder": 4,
    }


def _log_axis(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(low, 0.95) / 1.08, max(high, 1.05) * 1.08
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _handles(scene: StudyScene, series: list[tuple[str, str]], theme: Theme) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            label=f"{variant}, {runtime_title(runtime)}",
            linewidth=1.2,
            markersize=5,
            **_style(scene, variant, runtime, theme),
        )
        for variant, runtime in series
        if variant != ORIGINAL
    ]
