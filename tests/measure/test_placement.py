from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from narrows.measure.contender import CallableContender
from narrows.measure.latency import Schedule, compare
from narrows.measure.placement import Placement, last_core
from narrows.measure.workers import WorkerContender

HERE = os.sched_getaffinity(0)
CODE = "from narrows.measure.worker import serve; serve(lambda: sum(range(1000)))"


def worker() -> WorkerContender:
    return WorkerContender("sum", [sys.executable, "-c", CODE])


def test_the_core_is_read_past_a_name_with_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "proc/7/stat").write_text(f"7 (a) b (c 1 2) S {fields}\n")
    assert last_core(7, tmp_path) == 39
    assert last_core(8, tmp_path) is None


def test_a_process_that_is_gone_is_left_alone() -> None:
    placement = Placement(Path("/"))
    placement.share_core([os.getpid(), 2**22 + 1])
    assert len(os.sched_getaffinity(0)) == 1
    placement.undo()
    assert os.sched_getaffinity(0) == HERE


@pytest.mark.skipif(len(HERE) < 2, reason="one core is always shared")
def test_contenders_share_a_core_during_the_session_only() -> None:
    seen = []
    with worker() as one:

        def look() -> None:
            time.sleep(0.001)
            seen.append((os.sched_getaffinity(0), os.sched_getaffinity(one.pid)))

        runs = {"one": one, "here": CallableContender("here", look)}
        schedule = Schedule(target=None, rounds=4, min_calls=1, session_s=0, respawns=1)
        compare(runs, schedule=schedule)
        assert os.sched_getaffinity(0) == os.sched_getaffinity(one.pid) == HERE
    here, there = seen[-1]
    assert here == there
    assert len(here) == 1


def test_one_contender_alone_runs_where_it_likes() -> None:
    seen = []
    schedule = Schedule(target=None, rounds=2, min_calls=1, session_s=0)
    compare({"here": lambda: seen.append(os.sched_getaffinity(0))}, schedule=schedule)
    assert all(found == HERE for found in seen)


def test_an_error_puts_everything_back() -> None:
    def fail() -> None:
        if len(os.sched_getaffinity(0)) == 1:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        compare({"a": fail, "b": fail}, schedule=Schedule(target=None, rounds=2, session_s=0))
    assert os.sched_getaffinity(0) == HERE
