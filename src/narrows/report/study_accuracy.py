"""Figures: accuracy before and after with intervals, and accuracy against time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from narrows.measure.intervals import Estimate
from narrows.report.figures import Style, Theme, canvas, key_below, short, title_above
from narrows.report.study_colours import MARKS, variant_colours
from narrows.report.study_figures import network_rows, offsets, tint
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title, threads_text
from narrows.study.record import MeasuredRecord
from narrows.units import seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS: Final = tuple(m * 10.0**e for e in range(-6, 3) for m in (1, 2, 5))


Judged = list[tuple[MeasuredRecord, Estimate]]


def _judged(scene: StudyScene) -> Judged:
    """The records that have an accuracy, and it."""
    scores = ((record, record.facts.score) for record in scene.records)
    return [(record, score.accuracy) for record, score in scores if score and score.accuracy]


def _scope(judged: Judged) -> str:
    scores = [record.facts.score for record, _ in judged if record.facts.score]
    counts = " / ".join(str(count) for count in sorted({score.n for score in scores}))
    sets = " / ".join(sorted({score.set for score in scores}))
    return f"accuracy on the {sets} set, n = {counts}; bars: 95 % intervals"


def draw_accuracy(scene: StudyScene, theme: Theme) -> Figure | None:
    """Accuracy of every variant, a column for each runtime."""
    judged = _judged(scene)
    if not judged:
        return None
    found = {(r.cell.network, r.cell.variant, r.cell.runtime): a for r, a in judged}
    networks = [name for name in scene.networks if any(key[0] == name for key in found)]
    runtimes = [name for name in scene.compiled if any(key[2] == name for key in found)]
    height = 1.1 + len(networks) * (0.14 + 0.13 * len(scene.variants))
    figure, grid = canvas(1.9 + 3.4 * len(runtimes), height, 1, len(runtimes), sharey=True)
    colours, width = variant_colours(scene.variants), 0.66 / len(scene.variants)
    for axes, runtime in zip(grid.flat, runtimes, strict=True):
        network_rows(axes, networks, theme)
        for variant, offset in zip(scene.variants, offsets(len(scene.variants)), strict=True):
            for index, network in enumerate(networks):
                if accuracy := found.get((network, variant, runtime)):
                    colour = tint(colours[variant], theme)
                    _draw_bar(axes, accuracy, index + offset, (width, colour), theme)
        axes.set_xlim(0, 112)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("accuracy (%)")
        axes.set_title(runtime_title(runtime))
    title_above(figure, "Accuracy before and after", [_scope(judged)], theme)
    key_below(figure, _variant_handles(scene, theme), len(scene.variants))
    return figure


def _draw_bar(
    axes: Axes, accuracy: Estimate, place: float, looks: tuple[float, str], theme: Theme
) -> None:
    width, colour = looks
    axes.barh(place, 100 * accuracy.value, width, color=colour)
    ends = [100 * accuracy.low, 100 * accuracy.high]
    axes.plot(ends, [place, place], color=theme.soft, linewidth=1.0)
    told = f" {100 * accuracy.value:.1f}"
    axes.text(ends[1], place, told, fontsize=6.5, va="center", color=theme.soft)


def draw_accuracy_against_time(scene: StudyScene, threads: int, theme: Theme) -> Figure | None:
    """Each network's variants joined by a line, on each runtime."""
    judged = [(r, accuracy) for r, accuracy in _judged(scene) if r.cell.threads == threads]
    if not judged:
        return None
    figure, grid = canvas(8.4, 5.2)
    axes = grid[0, 0]
    colours = variant_colours(scene.variants)
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record, accuracy in judged:
        x, y = record.latency.median, 100 * accuracy.value
        lines.setdefault((record.cell.network, record.cell.runtime), []).append((x, y))
        colour = tint(colours[record.cell.variant], theme)
        place = scene.runtimes.index(record.cell.runtime)
        filled = colour if place == 0 else theme.page
        style: Style = {"marker": MARKS[place % len(MARKS)], "markeredgecolor": colour}
        axes.plot([x], [y], markerfacecolor=filled, markersize=6, zorder=3, **style)
    for points in lines.values():
        axes.plot(*zip(*points, strict=True), color=theme.line, zorder=2)
    _log_time(axes, [record.latency.median for record, _ in judged])
    _name_networks(axes, lines, theme)
    axes.set_xlabel("time of one inference")
    axes.set_ylabel("accuracy (%)")
    title = f"Accuracy against time, {threads_text(threads)}"
    title_above(figure, title, [scene.scope, _scope(judged)], theme)
    key_below(figure, [*_variant_handles(scene, theme), *_runtime_handles(scene, theme)], 5)
    return figure


def _name_networks(
    axes: Axes, lines: Mapping[tuple[str, str], Sequence[tuple[float, float]]], theme: Theme
) -> None:
    """Names right of the axes, moved apart where they would meet, each led to a point."""
    slowest: dict[str, tuple[float, float]] = {}
    for (network, _), points in lines.items():
        slowest[network] = max([*points, slowest.get(network, (0.0, 0.0))])
    low, high = axes.get_ylim()
    least, last = 0.042 * (high - low), float("-inf")
    for network, (x, y) in sorted(slowest.items(), key=lambda item: item[1][1]):
        last = max(y, last + least)
        axes.annotate(
            short(network, 30),
            (x, y),
            (1.02, last),
            xycoords="data",
            textcoords=axes.get_yaxis_transform(),
            fontsize=7.5,
            color=theme.soft,
            va="center",
            arrowprops={"arrowstyle": "-", "color": theme.line, "linewidth": 0.7},
        )


def _log_time(axes: Axes, times_s: list[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(times_s) / 1.25, max(times_s) * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [t for t in _TICKS if low <= t <= high and round(t / 10.0 ** _power(t)) in steps]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value))


def _power(value: float) -> int:
    return math.floor(math.log10(value) + 1e-9)


def _variant_handles(scene: StudyScene, theme: Theme) -> list[Any]:
    from matplotlib.patches import Patch

    colours = variant_colours(scene.variants)
    return [Patch(color=tint(colours[name], theme), label=name) for name in scene.variants]


def _runtime_handles(scene: StudyScene, theme: Theme) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for place, runtime in enumerate(scene.compiled):
        style: Style = {"marker": MARKS[place % len(MARKS)], "markeredgecolor": theme.soft}
        filled = theme.soft if place == 0 else theme.page
        label = runtime_title(runtime)
        handles.append(Line2D([], [], linestyle="", markerfacecolor=filled, label=label, **style))
    return handles
