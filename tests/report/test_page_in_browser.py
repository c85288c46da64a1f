"""The page in headless Chromium: its arithmetic, its controls, its looks, its manners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from invented_plans import CLOUD, DEVICE, LINK, make_plan, nine_networks
from test_page import EVIL

from narrows import units
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.predict import Places, moved
from narrows.plan.record import PlanRecord
from narrows.plan.winners import BANDWIDTHS_BITS_PER_S, ROUND_TRIPS_S, winners_map

Opened = Callable[..., Any]
PLACES = Places(device=DEVICE, link=LINK, cloud=CLOUD)
FASTER = replace(
    PLACES, device=replace(DEVICE, slowdown=DEVICE.slowdown / 7), cloud=replace(CLOUD, queue_s=0.3)
)

WINNERS = """([setting, bounds, objective, bands, trips]) => {
  const plan = PLANS[0];
  const to = placesOf(plan, { ...planSetting(plan), ...setting });
  const all = { ...plan.bounds, ...bounds };
  const map = winnersMap(plan.rows, plan.places, to, all, objective, bands, trips);
  return map.map((line) => line.map((cell) => (cell ? cell.row.id : null)));
}"""

COSTS = """([speed, queue, band, trip]) => {
  const plan = PLANS[0];
  const to = linked(placesOf(plan, { speed, queue }), band, trip);
  return plan.rows.map((row) => moved(row, plan.places, to));
}"""

CASES = [
    (PLACES, {}, Constraints(max_drop=0.011), Objective.LATENCY),
    (FASTER, {"speed": 7, "queue": 0.3}, Constraints(max_drop=0.02), Objective.LATENCY),
    (PLACES, {}, Constraints(max_drop=0.02, max_latency_s=0.3), Objective.BYTES),
    (FASTER, {"speed": 7, "queue": 0.3}, Constraints(max_latency_s=0.5), Objective.ACCURACY),
    (PLACES, {}, Constraints(max_drop=0.05, max_latency_s=0.4), Objective.ENERGY),
    (PLACES, {}, Constraints(min_accuracy=0.8, min_frames_per_s=4.0), Objective.COST),
    (PLACES, {}, Constraints(max_drop=0.03, max_energy_j=0.3), Objective.DEVICE_MACS),
    (PLACES, {}, Constraints(max_drop=0.001, max_latency_s=0.05), Objective.LATENCY),
]


def test_the_map_in_the_page_is_the_planners(opened: Opened) -> None:
    plan = make_plan(names=(("lite0", 224, 385e6, 0.826), ("lite1", 192, 500e6, 0.83)), rates=4)
    page = opened(plan)
    grid = [list(BANDWIDTHS_BITS_PER_S[::2]), list(ROUND_TRIPS_S)]
    seen = set()
    for places, setting, constraints, objective in CASES:
        whole = [c for c in plan.candidates if c.choose.n == plan.sets.choose]
        at_new = [replace(c, cost=moved(c.cost, PLACES, places)) for c in whole]
        wanted = winners_map(
            at_new,
            constraints,
            objective,
            places,
            bandwidths_bits_per_s=grid[0],
            round_trips_s=grid[1],
        )
        bounds = {name: getattr(constraints, name) for name in Constraints.__slots__}
        found = page.evaluate(WINNERS, [setting, bounds, objective.value, *grid])
        assert [tuple(line) for line in found] == list(wanted.winners)
        seen |= {cell for line in found for cell in line}
    assert None in seen
    assert len(seen) > 8


def test_costs_in_the_page_are_the_planners(usual: Any) -> None:
    plan, page = make_plan(), usual
    for speed, queue, band, trip in (
        (1, 0.004, 8e5, 0.06),
        (7, 0.3, 5e4, 0.5),
        (0.1, 0, 1e8, 1e-3),
    ):
        link = replace(
            LINK,
            bandwidth_up_bits_per_s=band,
            bandwidth_down_bits_per_s=1.5 * band,
            round_trip_s=trip,
        )
        device = replace(DEVICE, slowdown=DEVICE.slowdown / speed)
        places = Places(device=device, link=link, cloud=replace(CLOUD, queue_s=queue))
        found = page.evaluate(COSTS, [speed, queue, band, trip])
        for candidate, cost in zip(plan.candidates, found, strict=True):
            wanted = moved(candidate.cost, PLACES, places)
            for name, term in wanted.terms.items():
                assert cost[name] == pytest.approx(term.seconds, rel=1e-12), name
            for name in ("latency_s", "energy_j", "price", "interval_s", "bytes_up", "bytes_down"):
                assert cost[name] == pytest.approx(getattr(wanted, name), rel=1e-12), name


def test_numbers_are_written_as_units_writes_them(usual: Any) -> None:
    values = [m * 10.0**e for e in range(-8, 10) for m in (1, 1.234567, 4.2, 9.87)] + [0.0]
    for script, write in (
        ("bytesText", units.bytes_text),
        ("secondsText", units.seconds_text),
        ("joulesText", units.joules_text),
        ("bandwidthText", units.bandwidth_text),
        ("macsText", units.macs_text),
    ):
        assert usual.evaluate(f"(v) => v.map({script})", values) == [write(v) for v in values]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (420, "dark")])
def test_the_page_fits_and_draws_every_figure(opened: Opened, width: int, scheme: str) -> None:
    page = opened(make_plan(demonstration=True), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for name in ("frontier", "cuts", "rates", "depth", "terms", "routes", "ranking"):
        assert page.locator(f"#{name}-chart .main-svg").count() > 0, name
    assert page.locator("#cuts-chart .point").count() == 10
    assert "demonstration, n = 250" in page.locator("#facts").inner_text()
    assert "demonstration, n = 250" in page.locator("#rates-chart .ytitle").text_content()
    assert page.locator("#sentence").inner_text().endswith("within a point.")


def test_the_table_sorts_filters_and_keeps_the_choice_on_top(opened: Opened) -> None:
    plan = make_plan()
    page = opened(plan)
    first = page.locator("#table-body tr").first
    assert "★" in first.inner_text()
    payloads = "() => shownRows(PLANS[0], STATE.sorting).slice(1).map((row) => row.payload_bytes)"
    page.click("[data-column=payload]")
    rising = page.evaluate(payloads)
    assert rising == sorted(rising)
    assert page.locator("th[aria-sort=ascending]").inner_text() == "payload"
    page.click("[data-column=payload]")
    assert page.evaluate(payloads) == sorted(rising, reverse=True)
    page.fill("#table-filter", "cut5/ huffman")
    assert page.locator("#table-body tr").count() == 6
    page.fill("#table-filter", "")
    page.select_option("#table-route", "image")
    assert page.locator("#table-body tr").count() == 18
    page.select_option("#table-route", "all")
    page.check("#table-frontier")
    assert page.locator("#table-body tr").count() == len(plan.frontier)
    with page.expect_download() as download:
        page.click("#table-save")
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 1 + len(plan.frontier)
    assert lines[0].startswith("id,route,codec,cut")


def compressed_plan() -> PlanRecord:
    """A network and a smaller one that was made of it."""
    plan = make_plan(names=(("lite0", 224, 385e6, 0.826), ("pruned", 224, 190e6, 0.821)), rates=4)
    original, pruned = plan.variants
    smaller = replace(pruned, original=original.name)
    return replace(plan, variants=(original, smaller))


def test_the_frontier_holds_every_variant_and_each_can_be_hidden(opened: Opened) -> None:
    plan = compressed_plan()
    page = opened(plan)
    on = [c for c in plan.candidates if c.on_frontier]
    mine = [c for c in on if c.variant == "pruned"]
    assert 0 < len(mine) < len(on)
    points = page.locator("#frontier-chart .point")
    assert points.count() == len(on)
    assert page.locator("#frontier-chart .scatterlayer .trace").count() == 3  # and the scale's
    assert f"pruned ({len(mine)})" in page.locator("#frontier-keys").inner_text()
    page.click("#frontier-keys button:has-text('pruned')")
    assert points.count() == len(on) - len(mine)
    page.click("#frontier-keys button:has-text('pruned')")
    assert points.count() == len(on)
    page.select_option("#frontier-axis", label="payload bytes")
    assert "none" in page.locator("#frontier-chart .xaxislayer-above").text_content()
    assert points.count() == len(on)


def test_what_a_variant_loses_is_drawn_below_its_original(opened: Opened) -> None:
    page = opened(compressed_plan())
    level = "() => Math.max(...PLANS[0].rows.map((row) => DATA.networks[row.network].exact))"
    assert page.evaluate(level) == 0.826
    page.select_option("#rates-model", label="pruned")
    assert "lite0, nothing compressed" in page.locator("#rates-chart").text_content()
    tops = "() => document.getElementById('rates-chart').data.flatMap((trace) => trace.y)"
    drawn = [y for y in page.evaluate(tops) if y is not None]
    assert max(drawn) == pytest.approx(82.7, abs=0.2)


def test_codecs_and_models_can_be_hidden_and_chosen(opened: Opened) -> None:
    page = opened(nine_networks(extra_cuts=0, rates=3))
    every = page.locator("#rates-chart .scatterlayer .trace").count()
    page.click("#rates-keys button:has-text('Huffman')")
    fewer = page.locator("#rates-chart .scatterlayer .trace").count()
    assert every - fewer == 6
    assert page.locator("#rates-keys button[aria-pressed=false]").count() == 1
    page.click("#rates-keys button:has-text('Huffman')")
    assert page.locator("#rates-chart .scatterlayer .trace").count() == every
    before = page.locator("#cuts-chart .point").count()
    page.click("#cuts-keys button:has-text('lite1-192')")
    assert page.locator("#cuts-chart .point").count() == before * 8 / 9
    page.select_option("#rates-model", label="lite2-224")
    assert page.evaluate("DATA.networks[STATE.ratesNetwork].label") == "lite2-224"
    page.select_option("#depth-drop", label="−3 points")
    page.select_option("#cuts-axes", index=1)
    assert page.locator("#cuts-chart .ytitle").text_content() == "bytes across the cut"


def test_sliders_move_the_answer_and_come_back(opened: Opened) -> None:
    page = opened(make_plan())
    start = page.locator("#whatif").inner_text()
    assert "800 kbit/s" in start
    assert "cut 4" in start

    def move(name: str, position: float) -> str:
        set_it = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }"
        page.locator(f"#slider-{name}").evaluate(set_it, position)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
        return str(page.locator("#whatif").inner_text())

    assert "all on the device" in move("bandwidth", 0)
    fast = move("bandwidth", 100)
    assert "100 Mbit/s" in fast
    assert "avif" in fast
    assert "all on the device" in move("roundTrip", 100)
    assert "nothing fits" in move("deadline", 1)
    page.click("#reset")
    page.wait_for_function(
        "(text) => document.getElementById('whatif').innerText === text", arg=start
    )
    slow = page.locator("#routes-keys").inner_text()
    move("speed", 100)
    assert page.locator("#routes-keys").inner_text() != slow


def test_hovering_tells_what_a_point_is(usual: Any) -> None:
    page = usual
    page.locator("#rates-chart").scroll_into_view_if_needed()
    box = page.locator("#rates-chart .scatterlayer .trace").nth(3).locator(".point").nth(2)
    box = box.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#rates-chart .hoverlayer .hovertext")
    told = page.locator("#rates-chart .hoverlayer .hovertext").first.text_content()
    assert "payload" in told
    assert "n = 250" in told


def test_the_theme_can_be_changed(usual: Any) -> None:
    themes = []
    for _ in range(3):
        usual.click("#theme")
        shown = usual.evaluate("document.documentElement.dataset.theme")
        themes.append((usual.locator("#theme").inner_text(), shown))
    wanted = [("Theme: light", "light"), ("Theme: dark", "dark"), ("Theme: system", "light")]
    assert themes == wanted


def test_hostile_names_stay_text_everywhere(opened: Opened) -> None:
    plan = make_plan(names=((EVIL, 64, 1e8, 0.7), ("!<b>bold", 64, 1e8, 0.6)), title=EVIL, rates=2)
    link = replace(plan.link, name=EVIL)
    page = opened(replace(plan, explanation=EVIL, task=EVIL, link=link))
    assert page.locator("h1").inner_text().startswith("</script><script>alert(1)")
    assert page.locator("img").count() == 0
    point = page.locator("#cuts-chart .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#cuts-chart .hoverlayer .hovertext")
    assert "<img" in page.locator("#cuts-chart .hoverlayer").text_content()
    assert "!<b>bold: " in page.locator("#terms-chart").text_content()


def test_a_plan_where_nothing_fits_says_so(opened: Opened) -> None:
    plan = replace(make_plan(rates=2), chosen=None, explanation="Nothing fits: off by 3 ms.")
    page = opened(plan)
    assert page.locator("#answer h2").inner_text() == "Nothing fits"
    assert page.locator("#sentence").inner_text() == "Nothing fits: off by 3 ms."
    assert page.locator(".tile").count() == 0
    assert page.locator("tr.chosen").count() == 0


def test_of_several_plans_each_can_be_shown(opened: Opened) -> None:
    second = make_plan(title="another plan", classes=None, rates=2, task="series")
    page = opened(make_plan(title="a plan", rates=2), second)
    assert page.locator("#plan-field").is_visible()
    page.select_option("#plan", label="another plan")
    assert "series" in page.locator("#facts").inner_text()
    assert page.locator("#table-body tr").count() == len(second.candidates)
