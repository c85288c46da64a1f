from __future__ import annotations

from pathlib import Path

import pytest

from narrows.measure.contender import Clock
from narrows.measure.contention import Load, idle_gate, load_after, read_load, signs
from narrows.measure.latency import Schedule, latency
from narrows.testing.virtual_timer import VirtualClock

STAT = """\
cpu  {user} 10 20 {idle} 50 1 2 {steal} 7 0
cpu0 50 5 10 150 25 0 1 0 3 0
cpu1 50 5 10 150 25 1 1 0 4 0
intr 123 4 5
procs_running {running}
procs_blocked 0
"""


def write_stat(
    root: Path, *, user: int = 100, idle: int = 300, steal: int = 0, running: int = 1
) -> None:
    path = root / "proc/stat"
    path.parent.mkdir(exist_ok=True)
    path.write_text(STAT.format(user=user, idle=idle, steal=steal, running=running))


class Busy(Clock):
    """A clock of a machine that is busy for a while: other work until `quiet_s`."""

    def __init__(self, root: Path, quiet_s: float) -> None:
        self._inner = VirtualClock()
        self._root, self._quiet_s = root, quiet_s
        self._user = self._idle = 0
        self._write()

    def wall_ns(self) -> int:
        return self._inner.wall_ns()

    def cpu_ns(self) -> int:
        return self._inner.cpu_ns()

    def sleep(self, seconds: float) -> None:
        busy = self.wall_ns() / 1e9 < self._quiet_s
        self._inner.sleep(seconds)
        self._user += round(200 * seconds) if busy else 0
        self._idle += 0 if busy else round(200 * seconds)
        self._write()

    def work(self, wall_s: float) -> None:
        self._inner.work(wall_s)

    def _write(self) -> None:
        running = 2 if self.wall_ns() / 1e9 < self._quiet_s else 1
        user, idle = 100 + self._user, 300 + self._idle
        write_stat(self._root, user=user, idle=idle, running=running)


def test_load_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    write_stat(tmp_path, steal=9, running=3)
    assert read_load(tmp_path) == Load(
        total=100 + 10 + 20 + 300 + 50 + 1 + 2 + 9, idle=350, stolen=9, running=3, cores=2
    )


@pytest.mark.parametrize("text", ["", "cpu  1 2\n", "cpu  a b c d e f g h\n", "procs_running x\n"])
def test_a_kernel_that_tells_nothing_shows_no_contention(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(text)
    load = read_load(tmp_path)
    assert signs(((1.0,), (1.0,)), load, load, threads=1) == ()
    assert idle_gate(tmp_path, VirtualClock()) == ()


def test_wall_over_cpu_time_is_a_sign_with_one_thread_only() -> None:
    taken = ((1.4e-3,) * 5, (1e-3,) * 5)
    assert signs(taken, Load(), Load(), threads=1) == ("wall/CPU 1.4",)
    assert signs(taken, Load(), Load(), threads=2) == ()
    assert signs(((1.0,), (0.0,)), Load(), Load(), threads=1) == ("wall without CPU",)
    assert signs(((1.05,), (1.0,)), Load(), Load(), threads=1) == ()


@pytest.mark.parametrize(
    ("running", "threads", "found"),
    [
        (1, 1, ()),  # the one that looks
        (2, 1, ()),  # one other, and a core for each
        (3, 1, ("run queue 3",)),
        (2, 2, ("run queue 3",)),
        (1, 4, ()),  # more threads than cores is what was asked for, nobody else is there
    ],
)
def test_more_that_want_to_run_than_there_are_cores(
    running: int, threads: int, found: tuple[str, ...]
) -> None:
    quiet, busy = Load(running=1, cores=2, total=1), Load(running=running, cores=2, total=2)
    calm = ((1.0,), (1.0,))
    assert signs(calm, quiet, busy, threads=threads) == found
    assert signs(calm, busy, quiet, threads=threads) == found


def test_threads_that_spin_after_a_call_are_no_contention(tmp_path: Path) -> None:
    """The runtime's own rest after 30 ms; somebody else does not."""
    clock = Busy(tmp_path, quiet_s=0.03)
    assert load_after(tmp_path, clock, threads=2).running == 1
    assert 0.03 <= clock.wall_ns() / 1e9 <= 0.05
    clock = Busy(tmp_path, quiet_s=10.0)
    assert load_after(tmp_path, clock, threads=2).running > 1
    assert clock.wall_ns() / 1e9 <= 0.1
    clock = Busy(tmp_path, quiet_s=10.0)
    assert load_after(tmp_path, clock, threads=1).running > 1
    assert clock.wall_ns() == 0


def test_what_a_hypervisor_takes_is_told() -> None:
    before, after = Load(total=1000, cores=2), Load(total=1100, stolen=2, cores=2)
    assert signs(((1.0,), (1.0,)), before, after, threads=1) == ("steal 2 %",)


def test_rounds_of_several_threads_wait_for_an_idle_machine(tmp_path: Path) -> None:
    clock = Busy(tmp_path, quiet_s=1.0)
    schedule = Schedule(target=None, rounds=6, session_s=0, round_s=0, threads=2)
    taken = latency(lambda: clock.work(1e-3), schedule=schedule, clock=clock, root=tmp_path)
    assert taken.round_starts_s[0] >= 0.9
    assert taken.contended_rounds == (False,) * 6
    assert taken.session_s < 2


def test_rounds_on_a_machine_that_never_rests_are_contended(tmp_path: Path) -> None:
    clock = Busy(tmp_path, quiet_s=1e9)
    schedule = Schedule(target=None, rounds=3, session_s=0, round_s=0, threads=2)
    taken = latency(lambda: clock.work(1e-3), schedule=schedule, clock=clock, root=tmp_path)
    assert taken.round_reasons == (("idle 0 %", "run queue 3"),) * 3
    assert taken.contended
    assert 6 <= taken.session_s < 7  # two seconds of waiting for each


def test_one_thread_does_not_wait(tmp_path: Path) -> None:
    clock = Busy(tmp_path, quiet_s=1e9)
    schedule = Schedule(target=None, rounds=3, session_s=0, round_s=0)
    taken = latency(lambda: clock.work(1e-3), schedule=schedule, clock=clock, root=tmp_path)
    assert taken.session_s < 0.1
