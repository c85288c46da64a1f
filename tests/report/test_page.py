"""The page as text: one file, small, nothing from outside, no text taken for markup."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from invented_plans import make_plan, nine_networks
from test_figures import _forbid

from narrows.config import to_dict, write_json
from narrows.errors import MissingExtra, PlanError
from narrows.plan.candidate import Route
from narrows.report import page as page_module
from narrows.report.page import render_page, write_page
from narrows.report.page_data import page_data
from narrows.report.scene import gather, plain, read_plans

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;"


def embedded(text: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return found[1]


def test_many_networks_still_make_a_page_below_8_megabytes() -> None:
    assert len(render_page(gather([nine_networks()])).encode()) < 8_000_000


def test_nothing_but_the_scripts_written_here_may_run_and_nothing_is_fetched() -> None:
    text = render_page(gather([make_plan(rates=2)]))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == [f"'sha256-{value}'" for value in hashes]
    shell = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|//\w|@import|url\(", shell)


def test_text_can_not_leave_its_place() -> None:
    plan = make_plan(names=((EVIL, 64, 1e8, 0.7),), title=EVIL, task=EVIL, rates=2)
    text = render_page(gather([replace(plan, explanation=EVIL)]))
    data = embedded(text)
    assert "<" not in data
    assert "\u2028" not in data
    assert json.loads(data)["plans"][0]["explanation"] == EVIL
    assert f"<title>{html.escape(EVIL)}</title>" in text
    assert text.count("<script") == 3


def test_placeholders_in_text_stay_text() -> None:
    text = render_page(gather([make_plan(title="@DATA@ @SCRIPTS@", rates=2)]))
    assert "<h1>@DATA@ @SCRIPTS@</h1>" in text


def test_a_page_too_large_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_BYTES", 1000)
    with pytest.raises(PlanError, match=r"cannot put 17 candidates .* at most 1000"):
        render_page(gather([make_plan(rates=1)]))


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _forbid(monkeypatch, "plotly")
    with pytest.raises(MissingExtra, match=r"narrows\[report\]"):
        write_page(gather([make_plan(rates=1)]), tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_records_are_read_from_files_and_folders_and_cleaned(tmp_path: Path) -> None:
    plan = make_plan(rates=2, title="a\x00b\u202etitle")
    write_json(tmp_path / "plan.json", plan)
    by_file, by_folder = read_plans([tmp_path / "plan.json", tmp_path])
    assert by_file == by_folder
    assert by_file.title == "a\ufffdb\ufffdtitle" == plain(plan.title)
    assert to_dict(by_file) == to_dict(replace(plan, title=by_file.title))


def test_columns_hold_every_candidate_and_its_costs() -> None:
    plan = make_plan()
    data = page_data(gather([plan]))["plans"][0]
    columns = data["columns"]
    assert columns["id"] == [c.id for c in plan.candidates]
    assert columns["head"] == [c.cost.head.seconds for c in plan.candidates]
    assert columns["bytes_up"] == [c.cost.bytes_up for c in plan.candidates]
    assert columns["drop"] == [c.choose_drop.value for c in plan.candidates]
    assert [columns["id"][i] for i in (data["chosen"],)] == [plan.chosen]
    assert sorted(columns["order"]) == list(range(len(plan.candidates)))
    by_order = [columns["id"][columns["order"].index(i)] for i in range(len(plan.candidates))]
    assert by_order == sorted(by_order)


def test_the_large_numbers_are_those_of_the_choice_on_the_report_set() -> None:
    plan = make_plan(demonstration=True)
    chosen = plan.candidate(plan.chosen or "")
    assert chosen.route is Route.SPLIT
    tiles = {name: (value, note) for name, value, note in _tiles(plan)}
    assert tiles["Payload"][0] == "3.76 kB"
    assert tiles["Drop"][0] == "0.6 points"
    assert "n = 800" in tiles["Drop"][1]
    assert "report set" in tiles["Drop"][1]
    assert "demonstration" in tiles["Drop"][1]
    assert "predicted: head" in tiles["Time to answer"][1]
    assert "measured: tail" in tiles["Time to answer"][1]
    bound = plan.constraints.max_drop or 0
    pictures = [c for c in plan.candidates if c.route is Route.IMAGE]
    within = [c for c in pictures if c.choose_drop.value <= bound and c.choose.n == 250]
    least = min(c.payload_bytes for c in within)
    assert tiles["Against pictures"][0] == f"{least / chosen.payload_bytes:.1f}×"


def test_a_choice_that_no_picture_equals_says_so() -> None:
    plan = make_plan()
    candidates = tuple(
        replace(c, choose_drop=replace(c.choose_drop, value=0.5)) if c.route is Route.IMAGE else c
        for c in plan.candidates
    )
    tiles = {name: value for name, value, _ in _tiles(replace(plan, candidates=candidates))}
    assert tiles["Against pictures"] == "none as good"


def test_one_name_in_two_plans_is_told_apart() -> None:
    scene = gather([make_plan(title="one", rates=2), make_plan(title="two", rates=2)])
    assert [n.label for n in scene.networks] == [
        "lite0-224 (one, plan 1)",
        "lite0-224 (two, plan 2)",
    ]


def _tiles(plan: object) -> list[list[str]]:
    tiles: list[list[str]] = page_data(gather([plan]))["plans"][0]["tiles"]  # type: ignore[list-item]
    return tiles
