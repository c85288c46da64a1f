"""The figures as PNG and SVG, drawn by matplotlib without its global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from narrows.errors import MissingExtra
from narrows.files import make_folder, write_atomic
from narrows.report.palette import DEPTH_DARK, DEPTH_LIGHT, Family
from narrows.report.scene import Scene
from narrows.units import bytes_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

DPI = 160
Style = dict[str, Any]  # keyword arguments of matplotlib


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of paper and ink, light or dark."""

    dark: bool
    page: str
    ink: str
    soft: str
    line: str

    def of(self, family: Family) -> str:
        """The colour of a family."""
        return family.dark if self.dark else family.light

    def depth(self) -> Colormap:
        """The scale of depth as a colour map."""
        from matplotlib.colors import LinearSegmentedColormap

        stops = DEPTH_DARK if self.dark else DEPTH_LIGHT
        return LinearSegmentedColormap.from_list("depth", stops)

    def depth_scale(self, most: float) -> ScalarMappable:
        """The scale of depth from 0 to `most`, for a colour bar."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        return ScalarMappable(Normalize(0, most), self.depth())


LIGHT = Theme(dark=False, page="#ffffff", ink="#16202b", soft="#55616e", line="#dde2e8")
DARK = Theme(dark=True, page="#182029", ink="#e8edf2", soft="#a9b4c0", line="#323e4a")


def write_figures(
    scene: Scene,
    folder: str | Path,
    *,
    dark: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Draw every figure the plans have data for, as PNG and SVG.

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
    figures = [(name, partial(draw, scene)) for name, draw in _figures()]
    return draw_files(figures, folder, dark=dark, progress=progress)


def draw_files(
    figures: Sequence[tuple[str, Callable[[Theme], Figure | None]]],
    folder: str | Path,
    *,
    dark: bool,
    progress: Callable[[int, int], None],
) -> tuple[Path, ...]:
    """Draw figures as PNG and SVG files; see `write_figures`.

    Args:
        figures: Name of the file → what draws it, None where there are no data for it.
        folder: Where the files go; made if it is not there.
        dark: Light ink on a dark ground.
        progress: Told figures done and figures in all.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: A file cannot be written.
    """
    _need_matplotlib()
    folder = make_folder(Path(folder))
    theme, written = (DARK if dark else LIGHT), []
    for done, (name, draw) in enumerate(figures):
        progress(done, len(figures))
        with drawing(theme):
            figure = draw(theme)
            if figure is None:
                continue
            for kind in ("png", "svg"):
                path = folder / f"{name}.{kind}"
                write_atomic(path, rendered(figure, kind))
                written.append(path)
    progress(len(figures), len(figures))
    return tuple(written)


Draw = Callable[[Scene, Theme], "Figure | None"]


def _figures() -> tuple[tuple[str, Draw], ...]:
    """File name → drawing; the table of all figures."""
    from narrows.report.figure_cuts import draw_cuts
    from narrows.report.figure_depth import draw_depth
    from narrows.report.figure_rates import draw_rates
    from narrows.report.figure_routes import draw_routes
    from narrows.report.figure_terms import draw_terms

    return (
        ("figure1-every-cut", draw_cuts),
        ("figure2-with-codec", draw_rates),
        ("figure3-against-depth", draw_depth),
        ("figure4-time-by-term", draw_terms),
        ("figure5-routes", draw_routes),
    )


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        what = "drawing figures"
        raise MissingExtra(what, "report") from None


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """The house's settings, for as long as a figure is drawn.

    Names are never read as formulas (a `$` in one would be), and letters the font lacks become
    boxes without a warning.
    """
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.6,
        "grid.color": theme.line,
        "axes.facecolor": theme.page,
        "figure.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.soft,
        "xtick.color": theme.soft,
        "ytick.color": theme.soft,
        "legend.frameon": False,
        "hatch.linewidth": 0.8,
        "svg.fonttype": "path",
        "svg.hashsalt": "narrows",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a PNG or SVG file, the same for the same figure."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": "narrows"}
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight")
    return buffer.getvalue()


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **more: Any
) -> tuple[Figure, Any]:
    """A figure and its axes as an array (rows, columns), without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def heading(figure: Figure, title: str, scene: Scene, theme: Theme, note: str = "") -> None:
    """Above everything: the title and, in small, what the numbers stand on and how to read it."""
    title_above(figure, title, [short(scene.scope, 150), *([note] if note else [])], theme)


def title_above(figure: Figure, title: str, lines: Sequence[str], theme: Theme) -> None:
    """A title above everything, and lines in small between it and the axes."""
    inch = 1 / figure.get_size_inches()[1]
    for index, line in enumerate(reversed(lines)):
        place = 1 + inch * (0.1 + 0.17 * index)
        figure.text(0.01, place, line, fontsize=8, color=theme.soft, va="bottom")
    top = 1 + inch * (0.14 + 0.17 * len(lines))
    figure.text(0.01, top, title, fontsize=12, fontweight="bold", va="bottom")


def key_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """A legend outside the axes, so that it covers nothing."""
    labels = [short(handle.get_label(), 44) for handle in handles]
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=8)


def short(text: str, most: int) -> str:
    """Text of at most `most` characters, its middle left out.

    Example:
        >>> short("a_very_long_name", 9)
        'a_ve…name'
    """
    text = text.strip() or "(no name)"
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def log_bytes(axes: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis of bytes with ticks at 1, 2 and 5, in B, kB and MB."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = max(low, 1.0) / 1.25, max(high, 2.0) * 1.25
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [m * 10.0**e for e in range(12) for m in steps if low <= m * 10.0**e <= high]
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: bytes_text(value))


def millions(value: float) -> float:
    """MACs in millions, the unit of every axis of MACs."""
    return value / 1e6
