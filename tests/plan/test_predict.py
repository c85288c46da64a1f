from dataclasses import replace

import pytest
from plan_samples import PLACES, candidate

from narrows.plan.candidate import Route, Term
from narrows.plan.predict import Places, Work, cost, moved


def work(**changes: object) -> Work:
    base = Work(
        head=Term(seconds=0.010, measured=True),
        encode=Term(seconds=0.001),
        tail=Term(seconds=0.006),
        crosses=True,
        payload_bytes=2000.0,
        reply_bytes=400.0,
        device_macs=5,
        device_memory_bytes=7,
        device_flash_bytes=9,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_latency_is_the_sum_of_six_terms_worked_out_by_hand() -> None:
    found = cost(work(), PLACES)
    send_s = (2000 + 12 + 150) * 8 / 1e6 + 0.01
    reply_s = (400 + 100) * 8 / 4e6 + 0.01
    assert found.send.seconds == pytest.approx(send_s)
    assert found.reply.seconds == pytest.approx(reply_s)
    assert found.latency_s == pytest.approx(0.010 + 0.001 + send_s + 0.0 + 0.006 + reply_s)
    assert found.bytes_up == 2162
    assert found.bytes_down == 500
    waiting_s = send_s + 0.006 + reply_s
    radio_j = 2162e-6 + 500e-7
    assert found.energy_j == pytest.approx(2.0 * 0.011 + 0.5 * waiting_s + radio_j)
    assert found.price == pytest.approx(1e-9 * 2662 + 1e-7 + 1e-5 * 0.006)
    assert found.head.measured
    assert not found.send.measured


def test_the_local_route_costs_no_link_and_no_cloud() -> None:
    found = cost(work(crosses=False, tail=Term(seconds=0.0)), PLACES)
    assert found.latency_s == pytest.approx(0.011)
    assert found.price == 0.0
    assert found.bytes_up == found.bytes_down == 0.0


def test_energy_is_unknown_without_both_powers() -> None:
    unknown = replace(PLACES, device=replace(PLACES.device, idle_power_w=None))
    assert cost(work(), unknown).energy_j is None


@pytest.mark.parametrize("route", [Route.LOCAL, Route.SPLIT, Route.RAW])
def test_moving_equals_costing_anew(route: Route) -> None:
    new = Places(
        device=replace(PLACES.device, slowdown=3.0, active_power_w=1.0),
        link=replace(PLACES.link, bandwidth_up_bits_per_s=5e4, overhead_bytes_up=10),
        cloud=replace(PLACES.cloud, slowdown=0.5, service_s=0.004, queue_s=0.1),
    )
    scaled = candidate("there", route=route, head_s=0.03, tail_s=0.005, places=new)
    found = moved(candidate("here", route=route).cost, PLACES, new)
    for name, term in scaled.cost.terms.items():
        assert found.terms[name].seconds == pytest.approx(term.seconds), name
    assert found.bytes_up == pytest.approx(scaled.cost.bytes_up)
    assert found.energy_j == pytest.approx(scaled.cost.energy_j)
    assert found.price == pytest.approx(scaled.cost.price)
    assert not found.head.measured


def test_moving_nowhere_changes_nothing() -> None:
    made = candidate("here")
    assert moved(made.cost, PLACES, PLACES) == made.cost
