"""A machine of a few sysfs files whose power is known: a process of its own keeps them up to date.

Every millisecond it rewrites a processor's counter, which wraps, and a board's power monitor. Its
power is idle power that drifts, and bursts of three milliseconds or more while a load is on; it
integrates what it shows, so the truth is known.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from narrows.measure.contender import CallTimes, Contender

TICK_NS = 1_000_000
RANGE_UJ = 30_000_000
STATE = struct.Struct("<ddqd")  # load on, dynamic joules, ticks, seconds since the first


class FakeMachine(Contender):
    """The tree, the process that keeps it up to date, and the load that it is put under."""

    name = "fake machine"
    threads = 2
    own_process = False

    def __init__(self, root: Path) -> None:
        self.root = root
        zone = root / "sys/class/powercap/intel-rapl:0"
        chip = root / "sys/class/hwmon/hwmon0"
        constant = {
            zone / "name": "package-0",
            zone / "max_energy_range_uj": str(RANGE_UJ),
            zone / "energy_uj": "0",
            chip / "name": "ina3221",
            chip / "in1_label": "VDD_IN",
            chip / "in1_input": "5000",
            chip / "curr1_input": "400",
            chip / "update_interval": "1",
        }
        for path, text in constant.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        (root / "state").write_bytes(bytes(STATE.size))
        self._file = (root / "state").open("r+b")
        self._state = mmap.mmap(self._file.fileno(), STATE.size)
        self._process = subprocess.Popen([sys.executable, __file__, str(root)])
        self.true_j: list[float] = []

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        """Put the load on; one inference is ten milliseconds."""
        before_j = self.now()[1]
        struct.pack_into("<d", self._state, 0, 1.0)
        wall_s: list[float] = []
        started_s = time.perf_counter()
        while len(wall_s) < min_calls or time.perf_counter() - started_s < seconds:
            before_s = time.perf_counter()
            time.sleep(0.01)
            wall_s.append(time.perf_counter() - before_s)
        struct.pack_into("<d", self._state, 0, 0.0)
        time.sleep(0.05)  # its last tick may still be under way
        self.true_j.append((self.now()[1] - before_j) / len(wall_s))
        return tuple(wall_s), tuple(wall_s)

    def now(self) -> tuple[float, float, int, float]:
        """Load, true dynamic joules, ticks and seconds so far."""
        load, dynamic_j, ticks, passed_s = STATE.unpack(self._state[:])
        return load, dynamic_j, ticks, passed_s

    def respawn(self) -> None:
        """It goes on."""

    def close(self) -> None:
        """End its process."""
        self._process.terminate()
        self._process.wait()
        self._state.close()
        self._file.close()


def keep(root: Path) -> None:
    """What its process does until it is ended."""
    # without a period, lest they keep step with whatever else the machine does in turn
    bursts = (np.random.default_rng(0).random(4096) < 0.7).tolist()
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    current = root / "sys/class/hwmon/hwmon0/curr1_input"
    with (root / "state").open("r+b") as file, mmap.mmap(file.fileno(), STATE.size) as state:
        first_ns = last_ns = time.perf_counter_ns()
        due_ns, total_j, dynamic_j, ticks = first_ns, 0.0, 0.0, 0
        while True:
            due_ns = max(due_ns + TICK_NS, time.perf_counter_ns() - TICK_NS)
            time.sleep(max(0, due_ns - time.perf_counter_ns()) / 1e9)
            now_ns = time.perf_counter_ns()
            passed_s, gap_s = (now_ns - first_ns) / 1e9, (now_ns - last_ns) / 1e9
            last_ns = now_ns
            loaded = struct.unpack_from("<d", state, 0)[0] > 0
            burst = bursts[ticks // 3 % len(bursts)]
            extra_w = (10.0 if burst else 1.0) if loaded else 0.0
            power_w = 2.0 + 0.3 * math.sin(passed_s / 60) + extra_w
            # what is shown is in whole microjoules and milliamperes; the truth is not
            dynamic_j += extra_w * gap_s
            total_j += power_w * gap_s
            ticks += 1
            _replace(counter, str(round(total_j * 1e6) % RANGE_UJ))
            _replace(current, str(round(power_w / 5 * 1000)))
            struct.pack_into("<dqd", state, 8, dynamic_j, ticks, passed_s)


def _replace(path: Path, text: str) -> None:
    """A reader sees the old number or the new one, as in sysfs."""
    new = path.with_name(f".{path.name}")
    file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.write(file, text.encode())
    os.close(file)
    new.rename(path)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
