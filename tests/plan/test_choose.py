import itertools
import random
from dataclasses import replace

import pytest
from plan_samples import PLACES, candidate

from narrows.errors import ConfigError, NothingFits, PlanError
from narrows.plan.candidate import Candidate, Route
from narrows.plan.choose import at_places, choose, misses, nearest
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.predict import Places
from narrows.plan.winners import winners_map

ROUTES = [
    candidate("local", route=Route.LOCAL, head_s=0.2, macs=400, memory_bytes=30_000),
    candidate("jpeg", route=Route.IMAGE, head_s=0.0, tail_s=0.02, payload_bytes=15_000, drop=0.008),
    candidate("raw", route=Route.RAW, head_s=0.0, tail_s=0.02, payload_bytes=150_000),
    candidate("early", head_s=0.03, tail_s=0.015, payload_bytes=4000, macs=120, drop=0.006),
    candidate("late", head_s=0.09, tail_s=0.003, payload_bytes=600, macs=350, agreement=0.97),
    candidate("broken", head_s=0.01, tail_s=0.001, payload_bytes=10, accuracy=0.1, drop=0.7),
]


def exhaustive(
    candidates: list[Candidate], constraints: Constraints, objective: Objective
) -> str | None:
    """The definition, without any of the code under test but the cost records."""
    best: tuple[float, str] | None = None
    for c in candidates:
        bounds = [
            (c.choose_drop.value, constraints.max_drop),
            (c.payload_bytes, constraints.max_payload_bytes),
            (c.cost.latency_s, constraints.max_latency_s),
            (c.cost.energy_j, constraints.max_energy_j),
            (c.cost.price, constraints.max_price),
            (c.cost.device_macs, constraints.max_device_macs),
            (c.cost.device_memory_bytes, constraints.max_device_memory_bytes),
            (-(c.choose.agreement or 0), _negative(constraints.min_agreement)),
            (-c.choose.accuracy, _negative(constraints.min_accuracy)),
        ]
        if any(bound is not None and value > bound for value, bound in bounds):
            continue
        value = {
            Objective.ACCURACY: -c.choose.accuracy,
            Objective.BYTES: c.payload_bytes,
            Objective.LATENCY: c.cost.latency_s,
            Objective.ENERGY: c.cost.energy_j,
            Objective.COST: c.cost.price,
            Objective.DEVICE_MACS: c.cost.device_macs,
        }[objective]
        if best is None or value < best[0]:
            best = (value, c.id)
    return best and best[1]


def _negative(bound: float | None) -> float | None:
    return None if bound is None else -bound


def chosen_id(
    candidates: list[Candidate], constraints: Constraints, objective: Objective, places: Places
) -> str | None:
    try:
        return choose(candidates, constraints, objective, places).id
    except NothingFits:
        return None


@pytest.mark.parametrize("objective", [Objective.LATENCY, Objective.ENERGY, Objective.COST])
def test_the_choice_equals_exhaustive_search_on_a_grid(objective: Objective) -> None:
    winners = set()
    grid = itertools.product(
        (0.05e6, 0.3e6, 2e6, 100e6), (0.001, 0.05), (0.2, 1.0, 8.0), (0.0, 0.2), (None, 0.15)
    )
    for bandwidth, round_trip, slowdown, queue, deadline in grid:
        new = Places(
            device=replace(PLACES.device, slowdown=slowdown),
            link=replace(PLACES.link, bandwidth_up_bits_per_s=bandwidth, round_trip_s=round_trip),
            cloud=replace(PLACES.cloud, queue_s=queue),
        )
        constraints = Constraints(max_drop=0.01, max_latency_s=deadline)
        there = list(at_places(ROUTES, PLACES, new))
        expected = exhaustive(there, constraints, objective)
        assert chosen_id(there, constraints, objective, new) == expected
        winners.add(expected)
    if objective is Objective.LATENCY:
        assert {"local", "jpeg", "early", "late"} <= winners


@pytest.mark.parametrize("objective", list(Objective))
def test_the_choice_equals_exhaustive_search_on_random_bounds(objective: Objective) -> None:
    dice = random.Random(5)
    made = [
        candidate(
            f"c{i}",
            head_s=dice.random(),
            tail_s=dice.random(),
            payload_bytes=dice.random() * 1e4,
            accuracy=dice.random(),
            drop=dice.random(),
            agreement=dice.random(),
            macs=dice.randrange(1000),
            memory_bytes=dice.randrange(1000),
        )
        for i in range(30)
    ]
    for _ in range(60):
        bounds = {
            "max_drop": dice.random(),
            "min_agreement": dice.random(),
            "max_payload_bytes": dice.random() * 1e4,
            "max_latency_s": dice.random() * 2,
            "max_energy_j": dice.random() * 3,
            "max_device_macs": dice.randrange(1000),
            "max_device_memory_bytes": dice.randrange(1000),
            "min_accuracy": dice.random(),
        }
        kept = {name: value for name, value in bounds.items() if dice.random() < 0.3}
        constraints = Constraints(**kept)
        assert chosen_id(made, constraints, objective, PLACES) == exhaustive(
            made, constraints, objective
        )


def test_when_nothing_fits_the_nearest_is_named_with_its_miss() -> None:
    with pytest.raises(NothingFits, match=r"nearest is early: max_latency_s is 0\.\d+ against"):
        choose(ROUTES, Constraints(max_drop=0.01, max_latency_s=0.05), Objective.BYTES, PLACES)
    best, its = nearest(ROUTES, Constraints(max_drop=0.01, max_latency_s=0.05), PLACES)
    assert best.id == "early"
    assert its[0].quantity == "max_latency_s"
    assert its[0].found == pytest.approx(best.cost.latency_s)


def test_a_deadline_allows_for_jitter_but_not_on_the_device() -> None:
    shaky = replace(PLACES, link=replace(PLACES.link, jitter_s=10.0))
    fitting = choose(ROUTES, Constraints(max_latency_s=1.0), Objective.LATENCY, shaky)
    assert fitting.route is Route.LOCAL


def test_the_devices_own_memory_is_a_bound() -> None:
    small = replace(PLACES, device=replace(PLACES.device, memory_bytes=29_999))
    local = ROUTES[0]
    assert not misses(local, Constraints(), PLACES)
    (miss,) = misses(local, Constraints(max_device_memory_bytes=40_000), small)
    assert miss.bound == 29_999


def test_frames_per_second_are_set_by_the_slowest_stage() -> None:
    local = ROUTES[0]
    assert not misses(local, Constraints(min_frames_per_s=4.9), PLACES)
    assert misses(local, Constraints(min_frames_per_s=5.1), PLACES)


def test_energy_without_a_power_is_an_error_not_a_free_lunch() -> None:
    dark = replace(PLACES, device=replace(PLACES.device, active_power_w=None))
    made = [candidate("c", places=dark)]
    with pytest.raises(PlanError, match="active_power_w"):
        choose(made, Constraints(max_energy_j=1.0), Objective.BYTES, dark)
    with pytest.raises(PlanError, match="active_power_w"):
        choose(made, Constraints(), Objective.ENERGY, dark)


def test_negative_bounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_latency_s"):
        Constraints(max_latency_s=-1.0)
    with pytest.raises(ConfigError, match=r"max_drop = -0\.01"):
        Constraints(max_drop=-0.01)


def test_the_winners_map_repeats_the_choice_in_every_cell() -> None:
    bandwidths, trips = (0.05e6, 1e6, 100e6), (0.001, 0.2)
    constraints = Constraints(max_drop=0.01, max_latency_s=0.4)
    found = winners_map(
        ROUTES,
        constraints,
        Objective.LATENCY,
        PLACES,
        bandwidths_bits_per_s=bandwidths,
        round_trips_s=trips,
    )
    for row, trip in enumerate(trips):
        for column, bandwidth in enumerate(bandwidths):
            new = replace(
                PLACES,
                link=replace(
                    PLACES.link,
                    bandwidth_up_bits_per_s=bandwidth,
                    bandwidth_down_bits_per_s=4 * bandwidth,
                    round_trip_s=trip,
                ),
            )
            there = list(at_places(ROUTES, PLACES, new))
            expected = exhaustive(there, constraints, Objective.LATENCY)
            assert found.winners[row][column] == expected
    assert len({winner for row in found.winners for winner in row}) >= 3
