"""The figures as files: all there, readable, and safe against names."""

from __future__ import annotations

import builtins
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from invented_plans import make_plan, nine_networks
from PIL import Image

from narrows.errors import MissingExtra, PlanError, StorageError
from narrows.plan.candidate import Route
from narrows.report.figure_depth import draw_depth
from narrows.report.figure_routes import bounds_text, edges
from narrows.report.figure_terms import _end, pick_bars
from narrows.report.figures import LIGHT, drawing, rendered, write_figures
from narrows.report.scene import gather, plain

HOSTILE = ("$\\frac{1}$ <b>x</b>", "_under", "网络🙂", "a" * 300, "&amp;\"'")


@pytest.mark.parametrize("dark", [False, True])
def test_five_figures_are_written_as_png_and_svg(tmp_path: Path, dark: bool) -> None:
    told: list[tuple[int, int]] = []
    scene = gather([make_plan(demonstration=True, rates=5)])
    written = write_figures(
        scene, tmp_path / "made" / "here", dark=dark, progress=lambda *step: told.append(step)
    )
    assert [path.suffix for path in written] == [".png", ".svg"] * 5
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    for path in written:
        if path.suffix == ".svg":
            ET.parse(path)
        else:
            with Image.open(path) as image:
                corner = image.convert("L").getpixel((2, 2))
                assert image.width > 1000
                assert (corner < 60) == dark


def test_several_networks_and_plans_are_drawn(tmp_path: Path) -> None:
    other = make_plan(title="another", classes=None, names=(("other", 96, 1e7, 0.5),), rates=2)
    names = (("a", 96, 1e7, 0.5), ("b", 128, 2e7, 0.6), ("c", 160, 3e7, 0.7))
    many = make_plan(names=names, rates=2)
    assert len(write_figures(gather([many, other]), tmp_path)) == 10


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = tuple(
        (plain(name), 64, 1e8, 0.7)
        for name in (HOSTILE[0] + HOSTILE[2], HOSTILE[1] + HOSTILE[4] + HOSTILE[3])
    )
    plan = make_plan(names=names, title=HOSTILE[0], task="$x_$ <script>", rates=2)
    for path in write_figures(gather([plan]), tmp_path):
        if path.suffix == ".svg":
            ET.parse(path)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_is_the_same_bytes_when_drawn_again(kind: str) -> None:
    scene = gather([make_plan(rates=1)])
    drawn = []
    for _ in range(2):
        with drawing(LIGHT):
            figure = draw_depth(scene, LIGHT)
            assert figure is not None
            drawn.append(rendered(figure, kind))
    assert drawn[0] == drawn[1]


def test_a_plan_with_only_local_and_pictures_still_has_its_other_figures(tmp_path: Path) -> None:
    from dataclasses import replace

    plan = make_plan(rates=2)
    kept = tuple(c for c in plan.candidates if c.route is not Route.SPLIT)
    nothing = replace(plan, candidates=kept, chosen=None, frontier=())
    names = {path.stem for path in write_figures(gather([nothing]), tmp_path)}
    assert names == {"figure1-every-cut", "figure4-time-by-term", "figure5-routes"}


def test_bars_hold_the_choice_and_the_best_of_each_route_within_the_bound() -> None:
    plan = nine_networks(extra_cuts=0)
    bars = pick_bars(plan)
    assert len(bars) <= 18
    assert plan.chosen in [c.id for c in bars]
    assert {"local", "image", "raw", "split"} <= {c.route.value for c in bars}
    assert [c.cost.latency_s for c in bars] == sorted(c.cost.latency_s for c in bars)
    bound = plan.constraints.max_drop
    assert bound is not None
    jpegs = [c for c in plan.candidates if c.codec and c.codec.name == "jpeg"]
    within = [c for c in jpegs if c.choose_drop.value <= bound]
    assert all(c.choose.n == plan.sets.choose for c in bars)
    assert min(within, key=lambda c: c.cost.latency_s) in bars


def test_one_far_longer_bar_does_not_squeeze_the_others() -> None:
    assert _end([1.0, 1.1, 1.2, 9.0]) == pytest.approx(1.2 * 1.3)
    assert _end([1.0, 2.0, 3.0]) == 3.0
    assert _end([4.0]) == 4.0


def test_cells_of_the_map_meet_halfway_between_their_middles() -> None:
    assert edges([1.0, 100.0]) == pytest.approx([0.1, 10.0, 1000.0])
    assert len(edges([5.0])) == 2


def test_bounds_are_told_with_their_units() -> None:
    assert bounds_text(make_plan(rates=2)) == "drop ≤ 1.1 points"


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid(monkeypatch, "matplotlib")
    with pytest.raises(MissingExtra, match=r"narrows\[report\]"):
        write_figures(gather([make_plan(rates=2)]), tmp_path)


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_figures(gather([make_plan(rates=2)]), tmp_path / "file")


def test_plans_that_cannot_be_shown_are_refused() -> None:
    from dataclasses import replace

    plan = make_plan(rates=2)
    with pytest.raises(PlanError, match="at least one"):
        gather([])
    with pytest.raises(PlanError, match="0 candidates"):
        gather([replace(plan, candidates=())])
    broken = replace(plan.candidates[0], payload_bytes=float("nan"))
    with pytest.raises(PlanError, match=f"{broken.id}.*not finite"):
        gather([replace(plan, candidates=(broken, *plan.candidates[1:]))])


def _forbid(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package look as if it were not installed."""
    real = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", importing)
