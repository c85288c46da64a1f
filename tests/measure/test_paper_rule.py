from __future__ import annotations

import numpy as np
import pytest

from narrows.measure.contender import CallTimes, Contender, timed_calls
from narrows.measure.paper_rule import call_until_mean_is_narrow
from narrows.measure.student import t_interval
from narrows.testing.virtual_timer import VirtualClock


class Scripted(Contender):
    """Calls that take given times, and how often it was asked."""

    def __init__(self, times_s: list[float]) -> None:
        self.name, self.threads, self.asked = "scripted", 1, 0
        self._clock, self._times_s = VirtualClock(), iter(times_s)

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        self.asked += 1
        return timed_calls(self._work, min_calls=min_calls, seconds=seconds, clock=self._clock)

    def respawn(self) -> None: ...

    def close(self) -> None: ...

    def _work(self) -> None:
        self._clock.work(next(self._times_s))


def narrow(times_s: tuple[float, ...]) -> bool:
    low, high = t_interval(times_s)
    return (high - low) / 2 <= 0.05 * float(np.mean(times_s))


@pytest.mark.parametrize("seed", range(4))
def test_it_stops_at_the_first_call_that_satisfies_it(seed: int) -> None:
    """Calls come many at a time; the rule looks after each."""
    times_s = np.random.default_rng(seed).uniform(1e-4, 1e-3, 4000).tolist()
    (wall_s, cpu_s), reached = call_until_mean_is_narrow(Scripted(times_s), limit_s=60.0)
    assert reached
    assert len(wall_s) == len(cpu_s) > 100
    assert wall_s == pytest.approx(times_s[: len(wall_s)], rel=1e-2)
    assert [n for n in range(10, len(wall_s) + 1) if narrow(wall_s[:n])] == [len(wall_s)]


def test_it_stops_at_the_call_that_passes_the_limit() -> None:
    times_s = np.random.default_rng(0).choice([1e-3, 1.0], 100).tolist()
    (wall_s, _), reached = call_until_mean_is_narrow(Scripted(times_s), limit_s=6.0)
    assert not reached
    assert sum(wall_s[:-1]) < 6.0 <= sum(wall_s)


def test_many_calls_are_asked_for_at_a_time() -> None:
    """A process of its own that is asked for one call at a time is measured cold."""
    tiny = Scripted(np.random.default_rng(0).uniform(1e-6, 1e-4, 4000).tolist())
    (wall_s, _), _ = call_until_mean_is_narrow(tiny, limit_s=60.0)
    assert len(wall_s) > 100
    assert tiny.asked == 2
