"""Figure: share of the time by type of operator, for each network and variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from narrows.report.figures import Theme, canvas, key_below, short, title_above
from narrows.report.study_colours import operator_colours, operator_shares
from narrows.report.study_figures import tint
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title, threads_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = tuple[str, str, str]
_COLUMNS: Final = 3


def draw_operators(scene: StudyScene, runtime: str, theme: Theme) -> Figure | None:
    """Stacked bars of one runtime; a network's variants stand together."""
    from matplotlib.patches import Patch

    every = operator_shares(scene)
    shares = {place: found for place, found in every.items() if place[2] == runtime}
    if not shares:
        return None
    networks = list(dict.fromkeys(network for network, _, _ in shares))
    columns = min(_COLUMNS, max(1, len(networks) // 4))
    per_column = -(-len(networks) // columns)
    parts = [networks[i * per_column : (i + 1) * per_column] for i in range(columns)]
    rows = [[place for place in shares if place[0] in part] for part in parts]
    height = 1.1 + 0.2 * max(
        len(places) + 0.7 * len(part) for places, part in zip(rows, parts, strict=True)
    )
    figure, grid = canvas(1.0 + 4.4 * columns, height, 1, columns)
    drawn = zip(grid.flat, rows, strict=True)
    deepest = max(_draw_column(axes, places, shares, theme) for axes, places in drawn)
    for axes in grid.flat:
        axes.set_ylim(deepest + 0.6, 0.4)
    where = f"{runtime_title(runtime)}, {threads_text(scene.threads[0])}"
    title = f"Where the time goes, {where}"
    title_above(figure, title, [scene.scope], theme)
    colours = operator_colours(list(next(iter(shares.values()))))
    handles = [Patch(color=tint(pair, theme), label=kind) for kind, pair in colours.items()]
    key_below(figure, handles, min(len(handles), 2 + 2 * columns))
    return figure


def _draw_column(
    axes: Axes, places: Sequence[Place], shares: Mapping[Place, Mapping[str, float]], theme: Theme
) -> float:
    """Draw the bars of some networks; give how deep they reach."""
    spots, spot = [], 0.0
    for index, place in enumerate(places):
        spot += 1.0 + 0.7 * (index > 0 and place[0] != places[index - 1][0])
        spots.append(spot)
    starts = [0.0] * len(places)
    for kind, pair in operator_colours(list(next(iter(shares.values())))).items():
        widths = [100 * shares[place][kind] for place in places]
        axes.barh(spots, widths, 0.8, left=starts, color=tint(pair, theme))
        starts = [a + b for a, b in zip(starts, widths, strict=True)]
    firsts = [i == 0 or places[i - 1][0] != place[0] for i, place in enumerate(places)]
    names = [
        f"{short(network, 22)} · {variant}" if is_first else variant
        for (network, variant, _), is_first in zip(places, firsts, strict=True)
    ]
    axes.set_yticks(spots, names, fontsize=7.5)
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the time")
    axes.grid(visible=False, axis="y")
    return spot
