from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from narrows.measure.order_statistics import interval_of_rounds
from narrows.measure.process_level import interval_of_both, process_medians
from narrows.measure.student import t_interval


def test_one_process_has_the_interval_of_its_rounds() -> None:
    rounds = np.random.default_rng(0).normal(10, 1, (12, 5)).tolist()
    assert interval_of_both(rounds, ()) == interval_of_rounds(rounds)
    assert interval_of_both(rounds, [0] * 12) == interval_of_rounds(rounds)


def test_processes_that_differ_widen_it_to_student_s_of_their_medians() -> None:
    levels = [10.0, 11.0, 9.0, 10.5]
    rounds = [[level, level] for level in levels for _ in range(8)]
    processes = [process for process in range(4) for _ in range(8)]
    logs = np.log(levels)
    wanted = np.exp(stats.t.interval(0.95, 3, loc=np.mean(logs), scale=stats.sem(logs)))
    assert interval_of_both(rounds, processes) == pytest.approx(wanted, rel=2e-3)


@given(st.lists(st.floats(1e-6, 1e-2), min_size=2, max_size=4))
def test_what_is_positive_has_a_positive_interval_around_all_processes(levels: list[float]) -> None:
    rounds = [[level] for level in levels for _ in range(8)]
    processes = [process for process in range(len(levels)) for _ in range(8)]
    low, high = interval_of_both(rounds, processes)
    assert 0 < low <= np.median(levels) <= high


def test_values_without_a_logarithm_are_taken_as_they_are() -> None:
    rounds, processes = [[0.0]] * 8 + [[1.0]] * 8, [0] * 8 + [1] * 8
    assert interval_of_both(rounds, processes) == pytest.approx(t_interval([0.0, 1.0]))


def test_a_process_cut_short_does_not_speak() -> None:
    rounds = [[1.0]] * 8 + [[2.0]] * 8 + [[9.0]] * 3
    assert process_medians(rounds, [0] * 8 + [1] * 8 + [2] * 3) == (1, 2)


def test_equal_things_in_unequal_processes_differ_as_seldom_as_it_says() -> None:
    """Four processes of each: 3 % between processes, 1 % between rounds."""
    rng = np.random.default_rng(1)
    hits, by_rounds = 0, 0
    processes = np.repeat(range(4), 10)
    for _ in range(600):
        own = rng.normal(1, 0.03, 4)[processes]
        rounds = [[value] for value in own + rng.normal(0, 0.01, 40)]
        low, high = interval_of_both(rounds, processes.tolist())
        hits += low <= 1 <= high
        low, high = interval_of_rounds(rounds)
        by_rounds += low <= 1 <= high
    assert 0.93 <= hits / 600 <= 0.99
    assert by_rounds / 600 < 0.9


def test_an_outlier_among_many_processes_does_not_widen_it() -> None:
    levels = [0.98, 0.99, 0.995, 1.0, 1.005, 1.01, 1.02, 1.03, 1.04, 1.3]
    rounds = [[level] for level in levels for _ in range(4)]
    low, high = interval_of_both(rounds, np.repeat(range(10), 4).tolist())
    assert (low, high) == (0.99, 1.04)


def test_many_processes_with_outliers_are_covered() -> None:
    """Twelve processes; a fifth of them is much slower or faster."""
    rng = np.random.default_rng(2)
    hits, processes = 0, np.repeat(range(12), 6)
    for _ in range(600):
        spread = np.where(rng.random(12) < 0.2, 0.2, 0.015)
        own = np.exp(rng.normal(0, 1, 12) * spread)[processes]
        rounds = [[value] for value in own * np.exp(rng.normal(0, 0.01, 72))]
        low, high = interval_of_both(rounds, processes.tolist())
        hits += low <= 1 <= high
    assert 0.93 <= hits / 600 <= 0.99
