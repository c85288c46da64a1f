"""Contention: whether something else held the processor while a round was taken.

Three signs, each with its blind side: wall time over CPU time (one thread only), the run queue
(what the kernel wants to run at the moment of looking) and steal (what a hypervisor took away).
Where the kernel does not tell, as outside Linux, that sign is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from narrows.measure.contender import CallTimes, Clock

_WALL_OVER_CPU = 1.1
_STEAL = 0.01
_IDLE = 0.9
_IDLE_WINDOW_S = 0.1
_IDLE_LIMIT_S = 2.0
# ONNX Runtime's threads were seen to wait for more work for 20 to 40 ms, spinning.
_SPIN_LOOK_S = 0.01
_SPIN_LIMIT_S = 0.08


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What /proc/stat says, in ticks since the machine started.

    Args:
        total: All processors together.
        idle: Of these idle or waiting for a disk,
        stolen: or taken by the hypervisor.
        running: Threads that run or want to, this one included.
        cores: Processors there are.
    """

    total: int = 0
    idle: int = 0
    stolen: int = 0
    running: int = 0
    cores: int = 0


def read_load(root: Path) -> Load:
    """The load now; all zero where there is no /proc/stat to read.

    Args:
        root: Where /proc is; another place in tests.

    Example:
        >>> read_load(Path("/nowhere"))
        Load(total=0, idle=0, stolen=0, running=0, cores=0)
    """
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return Load()
    fields = {name: rest.split() for name, _, rest in (line.partition(" ") for line in lines)}
    try:
        # user nice system idle iowait irq softirq steal; guest time is part of user
        ticks = [int(text) for text in fields.get("cpu", [])[:8]]
        running = int(fields.get("procs_running", ["0"])[0])
    except (ValueError, IndexError):
        return Load()
    ticks += [0] * (8 - len(ticks))
    cores = sum(name.startswith("cpu") and name != "cpu" for name in fields)
    return Load(
        total=sum(ticks), idle=ticks[3] + ticks[4], stolen=ticks[7], running=running, cores=cores
    )


def idle_gate(root: Path, clock: Clock) -> tuple[str, ...]:
    """Wait until nine tenths of the machine were idle for a tenth of a second.

    Returns:
        Nothing where it became idle or does not tell; the reason where two seconds did not do.
    """
    until_ns = clock.wall_ns() + int(_IDLE_LIMIT_S * 1e9)
    before = read_load(root)
    while True:
        if not before.total:
            return ()
        clock.sleep(_IDLE_WINDOW_S)
        now = read_load(root)
        passed = now.total - before.total
        idle = (now.idle - before.idle) / passed if passed > 0 else 1.0
        if idle >= _IDLE:
            return ()
        if clock.wall_ns() >= until_ns:
            return (f"idle {100 * idle:.0f} %",)
        before = now


def load_after(root: Path, clock: Clock, *, threads: int) -> Load:
    """The load right after calls, without the calls' own threads.

    Those of several threads spin for a moment in wait for more work. So the shortest run queue of
    several looks counts: who else runs is there in all of them.

    Args:
        root: Where /proc is.
        clock: By which looks are apart.
        threads: Threads the calls may use.
    """
    least = read_load(root)
    until_ns = clock.wall_ns() + int(_SPIN_LIMIT_S * 1e9)
    while threads > 1 and least.running > 1 and clock.wall_ns() < until_ns:
        clock.sleep(_SPIN_LOOK_S)
        now = read_load(root)
        least = now if now.running < least.running else least
    return least


def signs(taken: CallTimes, before: Load, after: Load, *, threads: int) -> tuple[str, ...]:
    """What speaks for contention: "wall/CPU 1.4", "run queue 3", "steal 2 %".

    Args:
        taken: Wall and CPU times of the calls.
        before: The load right before them,
        after: and after them, their own threads at rest (`load_after`).
        threads: Threads the calls may use.
    """
    found = []
    wall_s, cpu_s = sum(taken[0]), sum(taken[1])
    if threads == 1 and wall_s > _WALL_OVER_CPU * max(1e-9, cpu_s):
        found.append(f"wall/CPU {wall_s / cpu_s:.2g}" if cpu_s else "wall without CPU")
    # Both looks come from a thread that runs itself.
    others = max(before.running, after.running) - 1
    if before.cores and others + threads > before.cores and others > 0:
        found.append(f"run queue {others + threads}")
    passed = after.total - before.total
    stolen = (after.stolen - before.stolen) / passed if passed > 0 else 0.0
    if stolen > _STEAL:
        found.append(f"steal {100 * stolen:.0f} %")
    return tuple(found)
