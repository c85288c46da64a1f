"""The sampling code under a virtual clock; benchmarks/interval_coverage.py is the full version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from narrows.measure.contender import CallableContender
from narrows.measure.latency import Schedule, latency
from narrows.measure.record import Measurement
from narrows.measure.warm_up import warm_up
from narrows.testing.virtual_timer import VirtualClock, unsteady_timer

NOWHERE = Path("/nowhere")


def constant(schedule: Schedule, call_s: float = 1e-3) -> tuple[Measurement, VirtualClock]:
    clock = VirtualClock()
    return latency(lambda: clock.work(call_s), schedule=schedule, clock=clock, root=NOWHERE), clock


@pytest.mark.parametrize(("drift", "correlation"), [("none", 0.0), ("steps", 0.0), ("linear", 0.9)])
@pytest.mark.parametrize("target", [None, 0.02])
def test_the_interval_covers_the_median_of_the_timer_over_the_session(
    drift: str, correlation: float, target: float | None
) -> None:
    hits = []
    for seed in range(100):
        timer = unsteady_timer(drift, correlation, seed=seed)
        schedule = Schedule(target=target, seed=seed, limit_s=25)
        taken = latency(timer, schedule=schedule, clock=timer.clock, root=NOWHERE)
        end_s = timer.clock.wall_ns() / 1e9
        truth = np.median(timer.between(end_s - taken.session_s, end_s))
        hits.append(taken.interval[0] <= truth <= taken.interval[1])
    # 97 % less 4 standard deviations of 100 tosses; benchmarks/interval_coverage.py is narrower
    assert np.mean(hits) >= 0.9


def test_the_paper_s_rule_misses_the_mean_of_the_next_seconds() -> None:
    hits = []
    for seed in range(100):
        timer = unsteady_timer("sinusoid", 0.9, seed=seed)
        schedule = Schedule(rule="paper")
        taken = latency(timer, schedule=schedule, clock=timer.clock, root=NOWHERE)
        start_s = timer.clock.wall_ns() / 1e9 - taken.session_s
        truth = np.mean(timer.between(start_s, start_s + 3))
        hits.append(taken.interval[0] <= truth <= taken.interval[1])
    assert np.mean(hits) < 0.7


def test_rounds_lie_at_random_times_all_over_the_session() -> None:
    """Starts as shares of the session are uniform; gaps are not even."""
    shares = []
    for seed in range(40):
        taken, _ = constant(Schedule(target=None, seed=seed))
        starts = np.array(taken.round_starts_s)
        assert taken.session_s >= 3.0
        assert len(starts) >= 30
        assert np.std(np.diff(starts)) > 0.5 * np.mean(np.diff(starts))
        shares.extend(starts / taken.session_s)
    counts, _ = np.histogram(shares, bins=5, range=(0, 1))
    assert counts.min() > 0.8 * counts.max()


def test_a_slow_thing_gets_a_longer_session() -> None:
    """At most a seventh of the session is measured: what is measured wholly is no sample."""
    taken, _ = constant(Schedule(target=None, limit_s=1000), call_s=0.1)
    assert sum(taken.samples) / taken.session_s < 0.2
    hurried, _ = constant(Schedule(target=None, limit_s=20), call_s=0.1)
    assert hurried.session_s < 21


def test_it_goes_on_until_the_interval_is_narrow_enough() -> None:
    widths = {}
    for target in (0.05, 0.01):
        timer = unsteady_timer("sinusoid", 0.5, seed=1, length_s=60.0)
        schedule = Schedule(target=target, limit_s=100)
        taken = latency(timer, schedule=schedule, clock=timer.clock, root=NOWHERE)
        assert taken.reached
        assert taken.half_width <= target == taken.target
        widths[target] = len(taken.round_sizes)
    assert widths[0.05] < widths[0.01]


def test_at_the_limit_it_says_that_the_target_was_not_reached() -> None:
    timer = unsteady_timer("steps", 0.9, seed=1)
    schedule = Schedule(target=0.001, limit_s=4)
    taken = latency(timer, schedule=schedule, clock=timer.clock, root=NOWHERE)
    assert taken.reached is False
    assert taken.half_width > 0.001
    assert 4 <= taken.session_s < 4.5


def test_without_a_target_nothing_is_said_of_reaching_it() -> None:
    taken, _ = constant(Schedule(target=None, session_s=0.0, rounds=6))
    assert taken.reached is None
    assert len(taken.round_sizes) == 6


def test_a_seed_repeats_a_session() -> None:
    one, two, other = (constant(Schedule(seed=seed))[0] for seed in (1, 1, 2))
    assert one.round_starts_s == two.round_starts_s != other.round_starts_s


def test_warm_up_of_something_unsteady_ends_and_says_so() -> None:
    clock = VirtualClock()
    times_s = (0.001 * 1.5 ** (call // 5 % 7) for call in range(10**6))
    unsteady = CallableContender("a", lambda: clock.work(next(times_s)), 1, clock)
    found = warm_up(unsteady, clock)
    assert not found.settled
    assert 5 <= clock.wall_ns() / 1e9 < 5.5


def test_warm_up_of_one_thread_is_judged_by_cpu_time() -> None:
    """Waiting for the processor is not warming up."""
    clock, rng = VirtualClock(), np.random.default_rng(0)
    waiting = CallableContender("a", lambda: clock.work(rng.uniform(1e-3, 9e-3), 1e-3), 1, clock)
    assert warm_up(waiting, clock).settled
    assert clock.wall_ns() < 1e9
