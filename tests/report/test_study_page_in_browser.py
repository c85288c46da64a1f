"""The page of a study in headless Chromium: figures, controls, looks, manners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invented_studies import NAMES, write_study

from narrows.report.study_page import write_study_page
from narrows.report.study_scene import read_study

Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Open the page of an invented study; a complaint of it fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def note(asked: Any) -> None:
        if not asked.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"request: {asked.url}")

    def open_page(*, width: int = 1280, scheme: str = "light", **study: Any) -> Any:
        scene = read_study(write_study(tmp_path / f"study{len(contexts)}", **study))
        path = write_study_page(scene, tmp_path / f"page{len(contexts)}")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", note)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


NO_OVERLAP = """(id) => {
  const texts = [...document.querySelectorAll(`#${id} .ytick text`)];
  const boxes = texts.map((one) => one.getBoundingClientRect()).sort((a, b) => a.top - b.top);
  return boxes.every((box, i) => i === 0 || box.top >= boxes[i - 1].bottom - 2);
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_the_page_fits_and_draws_twenty_three_networks(show: Show, width: int, scheme: str) -> None:
    page = show(width=width, scheme=scheme, energy=True, failing=NAMES[:1])
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for name in ("bars", "ratios", "operators", "accuracy"):
        assert page.locator(f"#{name}-chart .main-svg").count() > 0, name
        assert page.evaluate(NO_OVERLAP, f"{name}-chart"), name
    assert page.locator("#bars-chart .point").count() == 2 * (len(NAMES) - 1)
    assert page.locator("#operators-chart .trace").count() == 8
    assert "14 cells failed" in page.locator("#facts").inner_text()
    assert "MobileNet v1 1.0, 14 cells: timm" in page.locator("#failed").inner_text()
    assert page.locator("#claims tr").count() == 8
    assert "Of 8 combinations" in page.locator("#sentence").inner_text()
    assert page.locator("#found li").count() == 3


def test_controls_change_what_is_drawn(show: Show) -> None:
    page = show(names=NAMES[12:17], energy=True)
    assert page.locator("#bars-chart .xtitle").text_content().startswith("time of one inference")
    page.select_option("#bars-quantity", "accuracy")
    assert page.locator("#bars-chart .point").count() == 3 * 3
    page.select_option("#bars-quantity", "energy")
    assert page.locator("#bars-chart .point").count() == 2 * 5
    before = page.locator("#ratios-chart .point").count()
    assert before == 4 * (5 + 1)
    page.click("#ratios-keys button:has-text('int8, OpenVINO')")
    assert page.locator("#ratios-chart .point").count() == before - 6
    page.select_option("#operators-network", NAMES[14])
    assert page.locator("#operators-chart .ytick text").count() == 3
    page.select_option("#accuracy-threads", "2")
    assert page.locator("#accuracy-chart .point").count() == 3 * 6


def test_the_table_sorts_filters_and_saves(show: Show) -> None:
    page = show(names=NAMES[14:16])
    assert page.locator("#table-body tr").count() == 28
    page.click("[data-column=time]")
    times = "() => shownRows(STATE.sorting).map((row) => row.time.value)"
    assert page.evaluate(times) == sorted(page.evaluate(times))
    page.fill("#table-filter", "weights openvino")
    assert page.locator("#table-body tr").count() == 4
    with page.expect_download() as download:
        page.click("#table-save")
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("network,variant,runtime,threads,time,time_low,time_high,ratio")


def test_hostile_names_stay_text(show: Show) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    page = show(names=(evil, NAMES[14]), title=evil)
    assert page.locator("h1").inner_text().startswith("</script><script>alert(1)")
    assert page.locator("img").count() == 0


def test_a_study_without_accuracy_or_energy_says_why(show: Show) -> None:
    page = show(names=NAMES[:2], threads=(1,))
    page.select_option("#bars-quantity", "energy")
    assert "no sensor here" in page.locator("#bars-note").inner_text()
    assert "random weights" in page.locator("#accuracy-note").inner_text()
    assert page.locator("#bars-threads").is_hidden()
