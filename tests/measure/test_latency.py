from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from narrows.errors import MeasureError
from narrows.measure.contender import CallTimes, Contender, timed_calls
from narrows.measure.latency import Comparison, Schedule, compare, latency
from narrows.testing.virtual_timer import VirtualClock

NOWHERE = Path("/nowhere")


def brief(**more: object) -> Schedule:
    """Six rounds back to back, no target."""
    return Schedule(**({"target": None, "session_s": 0.0, "round_s": 0.0, "rounds": 6} | more))


def virtual(runs: object, clock: VirtualClock, **more: object) -> Comparison:
    return compare(runs, schedule=brief(**more), clock=clock, root=NOWHERE)


def test_a_round_has_enough_calls_and_lasts_long_enough() -> None:
    clock = VirtualClock()
    runs = {"long": lambda: clock.work(0.05), "short": lambda: clock.work(0.001)}
    found = virtual(runs, clock, rounds=1, round_s=0.1, min_calls=5).measurements
    assert found["long"].round_sizes == (5,)
    assert found["short"].round_sizes == (99,)


def test_the_first_call_of_a_round_does_not_count() -> None:
    """It fills the caches that the others emptied."""
    clock, last = VirtualClock(), [""]

    def run(name: str) -> None:
        clock.work(0.001 if name == last[0] else 0.003)
        last[0] = name

    found = virtual({name: partial(run, name) for name in "ab"}, clock, min_calls=2)
    assert max(found.measurements["a"].samples) == pytest.approx(1e-3)


def test_calls_before_it_is_warm_do_not_count() -> None:
    clock, calls = VirtualClock(), [0]

    def run() -> None:
        calls[0] += 1
        clock.work(0.001 + 0.02 * 0.5 ** calls[0])

    taken = latency(run, schedule=brief(rounds=2, min_calls=3), clock=clock, root=NOWHERE)
    assert max(taken.samples) < 1.03e-3
    assert calls[0] > 2 * 4 + 10
    assert taken.settled == (True,)


def test_contenders_take_turns_in_random_order() -> None:
    clock, order = VirtualClock(), list[str]()

    def run(name: str) -> None:
        order.append(name)
        clock.work(0.02)

    virtual({name: partial(run, name) for name in "abc"}, clock, rounds=20, min_calls=1)
    rounds = np.array(order[-120::2]).reshape(20, 3)
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds.tolist())
    assert len({tuple(turn) for turn in rounds.tolist()}) == 6


def test_ratio_inside_a_round_cancels_drift() -> None:
    """Times drift threefold over the session; the ratio of the two stays 0.9."""
    clock = VirtualClock()

    def run(time_s: float) -> None:
        clock.work(time_s * (1 + 2 * clock.wall_ns() / 10e9))

    runs = {"new": partial(run, 0.9e-3), "old": partial(run, 1e-3)}
    found = virtual(runs, clock, rounds=20, session_s=9.0)
    low, high = found.ratio("new", "old").interval
    assert 0.88 < low <= high < 0.92
    assert found.verdict("new", "old") == "faster"
    assert found.verdict("old", "new") == "slower"
    assert found.measurements["old"].half_width > 0.1


def test_equal_contenders_are_hardly_ever_told_apart() -> None:
    verdicts = []
    for seed in range(100):
        clock, rng = VirtualClock(), np.random.default_rng(seed)
        run = partial(_work_unevenly, clock, rng)
        found = virtual({"a": run, "b": run}, clock, rounds=10)
        verdicts.append(found.verdict("a", "b"))
    assert verdicts.count("not told apart") >= 92


def _work_unevenly(clock: VirtualClock, rng: np.random.Generator) -> None:
    clock.work(rng.uniform(0.8e-3, 1.2e-3))


def test_contended_wall_times_make_no_winner() -> None:
    """CPU times alike, wall times doubled by something else while one of them ran."""
    clock = VirtualClock()
    runs = {"a": lambda: clock.work(2e-3, 1e-3), "b": lambda: clock.work(1e-3, 1e-3)}
    found = virtual(runs, clock)
    assert found.ratio("a", "b", cpu=False).median == pytest.approx(2)
    assert found.verdict("a", "b", cpu=False) == "not told apart"
    assert found.verdict("a", "b") == "not told apart"
    assert found.ratio("a", "b").name == "cpu_a / cpu_b"


def test_cpu_times_make_a_winner_where_wall_times_are_contended() -> None:
    clock = VirtualClock()
    runs = {"a": lambda: clock.work(3e-3, 0.5e-3), "b": lambda: clock.work(1e-3, 1e-3)}
    found = virtual(runs, clock)
    assert found.verdict("a", "b") == "faster"
    assert found.verdict("a", "b", cpu=False) == "not told apart"


def test_cpu_time_of_several_threads_is_no_latency() -> None:
    """Two threads that halve the wall time at the same CPU time are faster."""
    clock = VirtualClock()
    runs = {"a": lambda: clock.work(1e-3, 2e-3), "b": lambda: clock.work(2e-3, 2e-3)}
    assert virtual(runs, clock, threads=2).verdict("a", "b") == "faster"


def test_few_rounds_make_no_winner() -> None:
    clock = VirtualClock()
    runs = {"a": lambda: clock.work(1e-3), "b": lambda: clock.work(2e-3)}
    assert virtual(runs, clock, rounds=4).verdict("a", "b") == "not told apart"
    assert virtual(runs, clock, rounds=5).verdict("a", "b") == "faster"


def test_the_paper_s_rule_stops_as_soon_as_the_mean_looks_settled() -> None:
    clock, rng = VirtualClock(), np.random.default_rng(0)
    schedule = brief(rule="paper")
    steady = latency(lambda: clock.work(1e-3), schedule=schedule, clock=clock, root=NOWHERE)
    assert (steady.rule, len(steady.samples), steady.reached) == ("paper", 10, True)
    wild = latency(
        lambda: clock.work(rng.uniform(1e-3, 5e-3)), schedule=schedule, clock=clock, root=NOWHERE
    )
    assert len(wild.samples) > 100
    assert wild.half_width <= 0.05
    assert wild.reached
    assert wild.estimate == pytest.approx(np.mean(wild.samples))


def test_the_paper_s_rule_ends_at_the_limit() -> None:
    clock, rng = VirtualClock(), np.random.default_rng(0)
    schedule = brief(rule="paper", limit_s=2.0)
    taken = latency(
        lambda: clock.work(rng.choice([1e-3, 1.0])), schedule=schedule, clock=clock, root=NOWHERE
    )
    assert taken.reached is False
    assert sum(taken.samples) < 12


def test_one_by_the_paper_s_rule_has_no_rounds_to_divide() -> None:
    clock, rng = VirtualClock(), np.random.default_rng(0)
    runs = {
        "steady": lambda: clock.work(1e-3),
        "wild": lambda: clock.work(rng.uniform(1e-3, 5e-3)),
    }
    found = virtual(runs, clock, rule="paper")
    with pytest.raises(MeasureError, match="one session"):
        found.ratio("wild", "steady")


class Elsewhere(Contender):
    """Stands for a process of its own: each start is slower at first, by its own share after."""

    own_process = True

    def __init__(self, clock: VirtualClock, threads: int = 1) -> None:
        self.name, self.threads = "elsewhere", threads
        self.starts = 0
        self._clock, self._calls = clock, 0

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        return timed_calls(self._work, min_calls=min_calls, seconds=seconds, clock=self._clock)

    def respawn(self) -> None:
        self.starts += 1
        self._calls = 0

    def close(self) -> None:
        pass

    def _work(self) -> None:
        self._calls += 1
        self._clock.work(1e-3 * (1 + self.starts) * (1 + 9 * 0.5**self._calls))


@pytest.mark.parametrize("respawns", [0, 3])
def test_processes_are_respawned_and_warmed_up_again(respawns: int) -> None:
    clock = VirtualClock()
    contender = Elsewhere(clock)
    taken = latency(
        contender, schedule=brief(rounds=12, respawns=respawns), clock=clock, root=NOWHERE
    )
    assert contender.starts == respawns
    assert taken.round_processes == tuple(np.repeat(range(respawns + 1), 12 // (respawns + 1)))
    assert taken.settled == (True,) * (respawns + 1)
    each = [np.median(part) for part in np.array_split(taken.samples, respawns + 1)]
    assert each == pytest.approx([1e-3 * (1 + start) for start in range(respawns + 1)], rel=0.03)


def test_a_callable_of_this_process_has_one_process() -> None:
    clock = VirtualClock()
    taken = virtual({"a": lambda: clock.work(1e-3)}, clock).measurements["a"]
    assert set(taken.round_processes) == {0}
    assert taken.settled == (True,)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(MeasureError, match="at least one"):
        compare({})
    with pytest.raises(MeasureError, match="0 rounds"):
        Schedule(rounds=0)
    with pytest.raises(MeasureError, match="half-width of 0"):
        Schedule(target=0)
    with pytest.raises(MeasureError, match="no rule 'best'"):
        Schedule(rule="best")
    clock = VirtualClock()
    found = virtual({"a": lambda: clock.work(1e-3)}, clock)
    with pytest.raises(MeasureError, match="no contender 'b'"):
        found.ratio("a", "b")
    with pytest.raises(MeasureError, match="has 2 threads, the schedule 1"):
        latency(Elsewhere(clock, threads=2), schedule=brief())


def test_real_work_is_timed() -> None:
    values = np.random.default_rng(0).standard_normal(20_000)
    progress: list[tuple[int, int]] = []
    found = compare(
        {"once": lambda: np.sort(values), "thrice": lambda: [np.sort(values) for _ in range(3)]},
        schedule=brief(round_s=0.002),
        progress=lambda done, total: progress.append((done, total)),
    )
    assert 2 < found.ratio("thrice", "once", cpu=True).median < 4
    assert progress == [(done, 6) for done in range(1, 7)]
