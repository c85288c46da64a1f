"""Figure: every variant as a share of its original, in size, time and energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from narrows.report.figures import Style, Theme, canvas, key_below, title_above
from narrows.report.study_colours import variant_colours
from narrows.report.study_figures import network_rows, offsets, tint
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title, threads_text
from narrows.study.claims import energy_j
from narrows.study.record import MeasuredRecord
from narrows.study.settings import ORIGINAL
from narrows.units import bytes_text, joules_text, seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST: Final = 260.0
_NOTE: Final = "The line at 100 % is the original on the same runtime; numbers are before → after."


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One column of bars.

    Args:
        title: What a reader sees.
        runtime: Of the records it shows.
        amount: A record's value; None where it has none.
        text: How the value is written.
    """

    title: str
    runtime: str
    amount: Callable[[MeasuredRecord], float | None]
    text: Callable[[float], str]


def draw_bars(scene: StudyScene, threads: int, theme: Theme) -> Figure | None:
    """A column for the size, one for the time on each runtime, one for energy where measured."""
    changed = [variant for variant in scene.variants if variant != ORIGINAL]
    panels = _panels(scene, threads)
    if not changed or not panels:
        return None
    width, height = (
        1.9 + 3.0 * len(panels),
        1.0 + len(scene.networks) * (0.12 + 0.15 * len(changed)),
    )
    figure, grid = canvas(width, height, 1, len(panels), sharey=True)
    for axes, panel in zip(grid.flat, panels, strict=True):
        _draw_panel(axes, scene, panel, changed, threads, theme)
    title = f"Before and after, {threads_text(threads)}"
    title_above(figure, title, [scene.scope, _NOTE], theme)
    key_below(figure, _handles(scene, changed, theme), len(changed) + 1)
    return figure


def _panels(scene: StudyScene, threads: int) -> list[Panel]:
    here = [record for record in scene.records if record.cell.threads == threads]
    present = [one for one in scene.compiled if any(r.cell.runtime == one for r in here)]
    if not present:
        return []
    size = Panel(title="size of the file", runtime=present[0], amount=_size, text=bytes_text)
    panels = [size]
    for runtime in present:
        title = f"time, {runtime_title(runtime)}"
        panels.append(Panel(title=title, runtime=runtime, amount=_time, text=seconds_text))
    for runtime in present:
        own = [record for record in here if record.cell.runtime == runtime]
        if any(energy_j(record) is not None for record in own):
            title = f"energy, {runtime_title(runtime)}"
            panels.append(Panel(title=title, runtime=runtime, amount=energy_j, text=joules_text))
    return panels


def _size(record: MeasuredRecord) -> float:
    return record.facts.size.file_bytes


def _time(record: MeasuredRecord) -> float:
    return record.latency.median


def _draw_panel(
    axes: Axes, scene: StudyScene, panel: Panel, changed: list[str], threads: int, theme: Theme
) -> None:
    colours = variant_colours(scene.variants)
    network_rows(axes, scene.networks, theme)
    most = 110.0
    for variant, offset in zip(changed, offsets(len(changed)), strict=True):
        for index, network in enumerate(scene.networks):
            pair = [scene.get(network, one, panel.runtime, threads) for one in (variant, ORIGINAL)]
            values = [None if one is None else panel.amount(one) for one in pair]
            if values[0] is None or not values[1]:
                continue
            share = 100 * values[0] / values[1]
            shown = min(share, _MOST)
            most = max(most, shown)
            place = index + offset
            axes.barh(place, shown, 0.68 / len(changed), color=tint(colours[variant], theme))
            over = f"{share:.0f} %: " if share > _MOST else ""
            told = f" {over}{panel.text(values[1])} → {panel.text(values[0])}"
            ground = {"facecolor": theme.page, "alpha": 0.75, "linewidth": 0, "pad": 0.6}
            style: Style = {"fontsize": 6.2, "va": "center", "color": theme.soft, "bbox": ground}
            axes.text(shown, place, told, **style)
    axes.axvline(100, color=tint(colours[ORIGINAL], theme), linewidth=1.2, zorder=1.5)
    axes.set_xlim(0, most * 1.62)
    axes.set_xticks([tick for tick in (0, 50, 100, 150, 200, 250) if tick <= most])
    axes.set_xlabel("% of the original")
    axes.set_title(panel.title)


def _handles(scene: StudyScene, changed: list[str], theme: Theme) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = variant_colours(scene.variants)
    handles: list[Any] = [
        Patch(color=tint(colours[variant], theme), label=variant) for variant in changed
    ]
    line = Line2D([], [], color=tint(colours[ORIGINAL], theme), label="original")
    return [line, *handles]
