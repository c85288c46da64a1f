"""The figures of a study as PNG and SVG, in the house's settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.report.figures import Theme, draw_files, short
from narrows.report.study_colours import Pair
from narrows.report.study_scene import StudyScene
from narrows.study.cells import threads_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[[Theme], "Figure | None"]


def write_study_figures(
    scene: StudyScene,
    folder: str | Path,
    *,
    dark: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Draw every figure the study has data for, as PNG and SVG.

    Args:
        scene: What to show.
        folder: Where the files go; made if it is not there.
        dark: Light ink on a dark ground.
        progress: Told figures done and figures in all.

    Returns:
        The files written.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: A file cannot be written.
    """
    return draw_files(_figures(scene), folder, dark=dark, progress=progress)


def _figures(scene: StudyScene) -> list[tuple[str, Draw]]:
    """File name → drawing; those of time once for each number of threads."""
    from narrows.report.study_accuracy import draw_accuracy, draw_accuracy_against_time
    from narrows.report.study_bars import draw_bars
    from narrows.report.study_operators import draw_operators
    from narrows.report.study_ratios import draw_ratios

    found: list[tuple[str, Draw]] = []
    for threads in scene.threads:
        for name, draw in (
            ("study1-before-after", draw_bars),
            ("study2-ratios", draw_ratios),
            ("study3-accuracy-against-time", draw_accuracy_against_time),
        ):
            end = threads_text(threads).replace(" ", "-")
            found.append((f"{name}-{end}", partial(draw, scene, threads)))
    found.append(("study4-accuracy", partial(draw_accuracy, scene)))
    for runtime in scene.compiled:
        found.append((f"study5-operators-{runtime}", partial(draw_operators, scene, runtime)))
    return found


def tint(pair: Pair, theme: Theme) -> str:
    """A colour on the theme's ground."""
    return pair[1] if theme.dark else pair[0]


def network_rows(axes: Axes, names: Sequence[str], theme: Theme) -> None:
    """One row for each name, the first on top, every other one on a band of its own."""
    for index in range(1, len(names), 2):
        axes.axhspan(index - 0.5, index + 0.5, color=theme.line, alpha=0.35, linewidth=0, zorder=0)
    axes.set_yticks(range(len(names)), [short(name, 30) for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def offsets(count: int, room: float = 0.76) -> list[float]:
    """Places of `count` marks inside a row, around its middle.

    Example:
        >>> offsets(2, 0.8)
        [-0.2, 0.2]
    """
    step = room / max(1, count)
    return [(index - (count - 1) / 2) * step for index in range(count)]
