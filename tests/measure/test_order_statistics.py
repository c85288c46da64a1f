from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.measure.order_statistics import (
    coverage_of_rounds,
    critical,
    interval_of_rounds,
    median_of_rounds,
)

rounds_of_calls = st.lists(
    st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=7), min_size=1, max_size=12
)


def singles(values: object) -> list[tuple[float]]:
    return [(float(value),) for value in values]  # type: ignore[attr-defined]


def by_definition(rounds: list[list[float]]) -> tuple[float, float]:
    """The interval as the module's text has it: every x tried, one after the other."""
    values = sorted(value for part in rounds for value in part)
    believable = []
    for state in range(len(values) + 1):
        counts = _first(rounds, values[:state])
        off = [c / len(part) - 0.5 for c, part in zip(counts, rounds, strict=True)]
        scatter = math.sqrt(sum(o * o for o in off))
        if abs(sum(off)) <= critical(len(rounds)) * scatter + 1e-9:
            believable.append(state)
    return values[max(1, believable[0]) - 1], values[min(len(values) - 1, believable[-1])]


def _first(rounds: list[list[float]], passed: list[float]) -> list[int]:
    return [sum(value in passed for value in part) for part in rounds]


@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (8, 1), (9, 2), (10, 2), (11, 2), (12, 3), (20, 6), (30, 10)]
)
def test_of_single_calls_it_is_the_tabled_order_statistics(count: int, rank: int) -> None:
    values = np.random.default_rng(0).permutation(count)
    assert interval_of_rounds(singles(values)) == (rank - 1, count - rank)


@pytest.mark.parametrize("count", range(6, 13))
def test_coverage_of_single_calls_counted_over_all_cases(count: int) -> None:
    """Brute force: each call is above or below the median by the toss of a coin."""
    hits = 0
    for sides in product((-1.0, 1.0), repeat=count):
        values = [side * (1 + i / 100) for i, side in enumerate(sides)]
        low, high = interval_of_rounds(singles(values))
        hits += low <= 0 <= high
    assert hits / 2**count == pytest.approx(coverage_of_rounds(count))
    assert 0.95 <= coverage_of_rounds(count) < 0.993


@given(rounds_of_calls)
def test_it_is_what_its_definition_says(rounds: list[list[float]]) -> None:
    values = [value for part in rounds for value in part]
    if len(set(values)) < len(values):  # ties have no order to speak of
        return
    assert interval_of_rounds(rounds) == by_definition(rounds)


@given(rounds_of_calls)
def test_median_lies_in_it_and_it_in_the_range(rounds: list[list[float]]) -> None:
    low, high = interval_of_rounds(rounds)
    values = [value for part in rounds for value in part]
    assert min(values) <= low <= median_of_rounds(rounds) <= high <= max(values)


@given(rounds_of_calls, st.integers(2, 4))
def test_calls_that_are_all_alike_count_as_one(rounds: list[list[float]], times: int) -> None:
    firsts = [part[0] for part in rounds]
    alike = interval_of_rounds([[value] * times for value in firsts])
    assert alike == interval_of_rounds(singles(firsts))


@given(rounds_of_calls, st.floats(0.1, 10.0))
def test_it_scales_with_the_unit(rounds: list[list[float]], factor: float) -> None:
    scaled = interval_of_rounds([[factor * value for value in part] for part in rounds])
    assert scaled == pytest.approx([factor * end for end in interval_of_rounds(rounds)])


def test_independent_calls_narrow_it_to_that_of_all_calls() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for calls in (1, 25):
        ends = [interval_of_rounds(rng.normal(size=(40, calls))) for _ in range(200)]
        widths.append(np.mean([high - low for low, high in ends]))
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("calls", [1, 6])
def test_it_covers_the_median_of_a_skewed_law(calls: int) -> None:
    rng = np.random.default_rng(2)
    ends = [interval_of_rounds(rng.exponential(size=(20, calls))) for _ in range(2000)]
    hit = np.mean([low <= np.log(2) <= high for low, high in ends])
    assert 0.945 <= hit <= 0.985


def test_two_levels_do_not_mislead_it_where_round_medians_are_misled() -> None:
    """A fifth of the time everything takes longer: the timer's median is the 62 % point."""
    rng = np.random.default_rng(3)
    truth = 0.3186  # of 0.8 N(0, 1) + 0.2 N(20, 1)
    hits, misled = 0, 0
    for _ in range(1000):
        slow = rng.random((20, 1)) < 0.2
        rounds = rng.normal(size=(20, 10)) + 20 * slow
        low, high = interval_of_rounds(rounds)
        hits += low <= truth <= high
        low, high = interval_of_rounds(singles(np.median(rounds, axis=1)))
        misled += not low <= truth <= high
    assert 0.94 <= hits / 1000 <= 0.99
    assert misled / 1000 > 0.1


def test_few_rounds_give_the_range_and_say_what_it_is_worth() -> None:
    assert interval_of_rounds(singles([3, 1, 2])) == (1, 3)
    assert coverage_of_rounds(3) == pytest.approx(0.75)
    assert coverage_of_rounds(1) == 0
    assert interval_of_rounds([(2.0,)]) == (2, 2)


def test_a_long_round_weighs_no_more_than_a_short_one() -> None:
    assert median_of_rounds([[1.0] * 99, [2.0], [3.0]]) == 2
    assert median_of_rounds([[1.0, 2.0, 3.0, 4.0]]) == 2.5
