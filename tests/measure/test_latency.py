from __future__ import annotations

import numpy as np
import pytest

from narrows.errors import MeasureError
from narrows.measure.latency import Clock, Schedule, compare, latency


class FakeClock(Clock):
    """Time that passes only when something is run or slept."""

    def __init__(self) -> None:
        self.wall = 0
        self.cpu = 0
        self.slept_s = 0.0

    def wall_ns(self) -> int:
        return self.wall

    def cpu_ns(self) -> int:
        return self.cpu

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.wall += int(seconds * 1e9)

    def work(self, wall_ms: float, cpu_ms: float | None = None) -> None:
        self.wall += int(wall_ms * 1e6)
        self.cpu += int((wall_ms if cpu_ms is None else cpu_ms) * 1e6)


def test_rounds_are_spread_over_the_session() -> None:
    clock = FakeClock()
    starts: list[int] = []

    def run() -> None:
        starts.append(clock.wall)
        clock.work(1)

    taken = latency(run, rounds=5, round_s=0, min_calls=2, session_s=4, clock=clock)
    firsts = np.array(starts[-10::2]) / 1e9
    assert np.diff(firsts) == pytest.approx([1, 1, 1, 1], abs=0.02)
    assert taken.round_sizes == (2,) * 5
    assert taken.median == pytest.approx(1e-3)


def test_a_round_has_enough_calls_and_lasts_long_enough() -> None:
    clock = FakeClock()
    long = latency(lambda: clock.work(50), rounds=1, round_s=0.1, min_calls=5, clock=clock)
    short = latency(lambda: clock.work(1), rounds=1, round_s=0.1, min_calls=5, clock=clock)
    assert (long.round_sizes, short.round_sizes) == ((5,), (100,))


@pytest.mark.parametrize(("wall_ms", "contended"), [(1.05, False), (2.0, True)])
def test_waiting_for_the_processor_marks_a_round(wall_ms: float, contended: bool) -> None:
    clock = FakeClock()
    taken = latency(lambda: clock.work(wall_ms, 1.0), rounds=6, session_s=0, clock=clock)
    assert taken.contended is contended
    assert taken.cpu.median == pytest.approx(1e-3)
    assert taken.median == pytest.approx(wall_ms / 1e3)


def test_several_threads_are_not_judged_by_wall_time() -> None:
    clock = FakeClock()
    taken = latency(lambda: clock.work(2, 1), rounds=2, session_s=0, threads=2, clock=clock)
    assert taken.contended_rounds == (False, False)


def test_calls_before_it_is_warm_do_not_count() -> None:
    clock = FakeClock()
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        clock.work(1 + 20 * 0.5**calls)

    taken = latency(run, rounds=2, round_s=0, min_calls=3, session_s=0, clock=clock)
    assert max(taken.samples) < 1.03e-3
    assert calls > 6 + 10


def test_warm_up_of_something_unsteady_ends() -> None:
    clock = FakeClock()
    rng = np.random.default_rng(0)
    latency(lambda: clock.work(rng.uniform(1, 100)), rounds=1, session_s=0, clock=clock)
    assert clock.wall < 12e9


def test_contenders_take_turns_in_random_order() -> None:
    clock = FakeClock()
    order: list[str] = []

    def contender(name: str, time_ms: float) -> object:
        order.append(name)
        return clock.work(time_ms)

    runs = {n: lambda n=n, t=t: contender(n, t) for n, t in (("a", 1), ("b", 1), ("c", 1))}
    schedule = Schedule(rounds=20, round_s=0, min_calls=1, session_s=0)
    compare(runs, schedule=schedule, clock=clock)
    rounds = np.array(order[-60:]).reshape(20, 3)
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds.tolist())
    assert len({tuple(turn) for turn in rounds.tolist()}) == 6


def test_ratio_inside_a_round_cancels_drift() -> None:
    """Times drift threefold over the session; the ratio of the two stays 0.9."""
    clock = FakeClock()

    def run(time_ms: float) -> None:
        clock.work(time_ms * (1 + 2 * clock.wall / 10e9))

    runs = {"new": lambda: run(0.9), "old": lambda: run(1.0)}
    schedule = Schedule(rounds=10, round_s=0, min_calls=3, session_s=9)
    found = compare(runs, schedule=schedule, clock=clock)
    low, high = found.ratio("new", "old").interval
    assert 0.88 < low <= high < 0.92
    assert found.faster("new", "old")
    assert not found.faster("old", "new")
    spread = found.measurements["old"].interval
    assert spread[1] > 1.5 * spread[0]


def test_equal_contenders_have_no_winner() -> None:
    clock = FakeClock()
    rng = np.random.default_rng(3)
    runs = {n: lambda: clock.work(rng.uniform(0.8, 1.2)) for n in "ab"}
    schedule = Schedule(rounds=10, round_s=0, min_calls=3, session_s=0)
    found = compare(runs, schedule=schedule, clock=clock)
    assert not found.faster("a", "b")
    assert not found.faster("b", "a")


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(MeasureError, match="at least one"):
        compare({})
    with pytest.raises(MeasureError, match="0 rounds"):
        Schedule(rounds=0)
    clock = FakeClock()
    found = compare(
        {"a": lambda: clock.work(1)}, schedule=Schedule(rounds=1, session_s=0), clock=clock
    )
    with pytest.raises(MeasureError, match="no contender 'b'"):
        found.ratio("a", "b")


def test_real_work_is_timed() -> None:
    values = np.random.default_rng(0).standard_normal(20_000)
    progress: list[tuple[int, int]] = []
    schedule = Schedule(rounds=6, round_s=0.002, session_s=0)
    found = compare(
        {"once": lambda: np.sort(values), "thrice": lambda: [np.sort(values) for _ in range(3)]},
        schedule=schedule,
        progress=lambda done, total: progress.append((done, total)),
    )
    assert 2 < found.ratio("thrice", "once").median < 4
    assert progress[-1] == (6, 6)
