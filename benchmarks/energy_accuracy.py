"""How near the measured energy is to the true one: a fake machine at 1 kHz, and replayed traces.

    python benchmarks/energy_accuracy.py [--cycles 6] [--load 10] [--idle 5] [--out FILE.json]

The energy of a fake machine (fake_machine.py) is measured as on a real board, by the polling
process, in real time. Then traces with known bursts are replayed by a clock that jumps. Last, the
time of a small computation with and without the polling process beside it. About six minutes; run
it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fake_machine import FakeMachine
from narrows.measure.contender import CallableContender, Clock, SystemClock
from narrows.measure.energy import EnergyRecord, measure_energy
from narrows.measure.environment import environment
from narrows.measure.record import Measurement
from narrows.measure.sensors import Replay, find_sensors
from narrows.measure.sensors.meter_table import write_meter_table
from narrows.measure.sensors.trace import Trace


def main() -> None:
    options = _options()
    found: dict[str, Any] = {"environment": environment().key, "cycles": options.cycles}
    with _scratch() as folder:
        machine = FakeMachine(Path(folder))
        try:
            for title in ("powercap", "hwmon:ina3221"):
                found[title] = _real_time(machine, title, options)
                _print(title, found[title])
            found["overhead"] = _overhead(machine)
            _print("beside a computation", found["overhead"])
        finally:
            machine.close()
        found["replay"] = _replayed(Path(folder), options.replays)
        _print("replayed traces", found["replay"])
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--load", type=float, default=10.0, help="seconds")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds")
    parser.add_argument("--replays", type=int, default=50)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where there is one: sysfs is not on a disk either."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="narrows-energy-", dir=place)


def _real_time(machine: FakeMachine, title: str, options: argparse.Namespace) -> dict[str, Any]:
    machine.true_j.clear()
    sensor = find_sensors(machine.root).pick(title)
    _, _, ticks, passed_s = machine.now()
    record = measure_energy(
        machine,
        sensor,
        cycles=options.cycles,
        load_s=options.load,
        idle_s=options.idle,
        progress=lambda done, of: print(f"  {title}: cycle {done} of {of}", flush=True),
    )
    assert isinstance(record, EnergyRecord)
    _, _, ticks_after, passed_after_s = machine.now()
    rate_hz = (ticks_after - ticks) / (passed_after_s - passed_s)
    true_j = machine.true_j[-options.cycles :]  # the first calls warm up
    errors = [got / true - 1 for got, true in zip(record.dynamic_j.samples, true_j, strict=True)]
    return {
        "dynamic_error": record.dynamic_j.median / float(np.median(true_j)) - 1,
        "worst_cycle_error": max(errors, key=abs),
        "updates_seen_share": record.updates_seen
        / (record.updates_expected * record.update_s * rate_hz),
        "machine_rate_hz": rate_hz,
        "found_update_s": record.update_s,
        "sampler_cpu_share": record.sampler_cpu_share,
        "dynamic_j": record.dynamic_j.median,
        "dynamic_interval_j": record.dynamic_j.interval,
        "true_dynamic_j": float(np.median(true_j)),
        "warnings": record.warnings,
    }


@dataclass(slots=True)
class JumpingClock(Clock):
    """Time that passes at once."""

    now_ns: int = 0

    def wall_ns(self) -> int:
        """Nanoseconds so far."""
        return self.now_ns

    def cpu_ns(self) -> int:
        """The same."""
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        """Jump."""
        self.now_ns += round(seconds * 1e9)


def _replayed(folder: Path, count: int) -> dict[str, Any]:
    """Energy of traces whose bursts are known in closed form, at about 1 kHz, unevenly."""
    path = folder / "trace.csv"
    write_meter_table(path, _trace(0, 0.0, 1.0, []))
    loads, _ = _replay(path)
    errors = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        high_w, idle_w, duty = random.uniform(0.5, 20), random.uniform(0.5, 10), random.uniform(0.1)
        write_meter_table(path, _trace(seed, high_w * duty, idle_w, loads, duty))
        _, found_j = _replay(path)
        errors.append(found_j / (high_w * duty * 0.01) - 1)
    return {"traces": count, "worst_error": max(errors, key=abs)}


def _trace(
    seed: int,
    mean_w: float,
    idle_w: float,
    loads: list[tuple[float, float]],
    duty: float = 1.0,
) -> Trace:
    gaps_s = np.random.default_rng(seed).uniform(0.5e-3, 1.5e-3, 30_000)
    times_s = np.concatenate([[0.0], np.cumsum(gaps_s)])
    energy_j = idle_w * times_s
    for start_s, end_s in loads:
        whole, rest_s = np.divmod(np.clip(times_s - start_s, 0, end_s - start_s), 0.01)
        energy_j += mean_w / duty * (whole * 0.01 * duty + np.minimum(rest_s, 0.01 * duty))
    return Trace(
        times_s=tuple(times_s.tolist()),
        energy_j=tuple(energy_j.tolist()),
        update_s=1e-3,
        change_s=1e-3,
    )


def _replay(path: Path) -> tuple[list[tuple[float, float]], float]:
    """Where its loads were, in seconds of the trace, and the dynamic energy that was found."""
    clock = JumpingClock()
    work = CallableContender("work", lambda: clock.sleep(0.01), 2, clock)
    record = measure_energy(
        work,
        Replay(path=path),
        cycles=5,
        load_s=2.0,
        idle_s=1.0,
        clock=clock,
        root=path.parent,
    )
    assert isinstance(record, EnergyRecord)
    loads = [(cycle.started_s, cycle.started_s + cycle.load_s) for cycle in record.cycles]
    return loads, record.dynamic_j.median


def _overhead(machine: FakeMachine) -> dict[str, Any]:
    """Time of a computation with the polling process over that without, in turn."""
    matrix = np.ones((128, 128), np.float32)
    work = CallableContender("work", lambda: matrix @ matrix @ matrix @ matrix)
    sensor = find_sensors(machine.root).pick("powercap")
    work.call(min_calls=1, seconds=1.0)
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(10):
        plain = [float(np.median(times)) for times in work.call(min_calls=1, seconds=0.5)]
        recording = sensor.record(SystemClock())  # type: ignore[union-attr]
        beside = [float(np.median(times)) for times in work.call(min_calls=1, seconds=0.5)]
        recording.stop()
        for name, a, b in zip(ratios, beside, plain, strict=True):
            ratios[name].append(a / b)
    found: dict[str, Any] = {}
    for name, values in ratios.items():
        ratio = Measurement(name=name, unit="1", samples=tuple(values), environment=environment())
        found[f"{name}_ratio"] = ratio.median
        found[f"{name}_interval"] = ratio.interval
    return found


def _print(title: str, found: dict[str, Any]) -> None:
    print(title)
    for name, value in found.items():
        shown = f"{value:+.3%}" if name.endswith("error") else value
        shown = f"{value:.1%}" if name.endswith("share") else shown
        print(f"  {name:22} {shown}", flush=True)


if __name__ == "__main__":
    main()
