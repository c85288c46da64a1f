"""Energy by virtual time: real files, real sensors, the real poller, and a clock of our own."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from narrows.config import read_json, write_json
from narrows.errors import MeasureError
from narrows.measure.contender import CallTimes, Clock, Contender
from narrows.measure.energy import EnergyRecord, NoEnergy, measure_energy
from narrows.measure.sensors import MeterCsv, Replay, find_sensors
from narrows.measure.sensors.base import PolledSensor, Recording, Sensor
from narrows.measure.sensors.meter_table import write_meter_table
from narrows.measure.sensors.poller import Poller, find_update_s
from narrows.measure.sensors.trace import Trace

TICK_S = 1e-3
IDLE_W = 2.0
RANGE_UJ = 6_000_000


class VirtualClock(Clock):
    """Time that passes when somebody sleeps or works; what is due meanwhile is run in order."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000
        self._order = count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []

    def wall_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        until_ns = self.now_ns + round(seconds * 1e9)
        while self._due and self._due[0][0] <= until_ns:
            self.now_ns, _, action = heapq.heappop(self._due)
            action()
        self.now_ns = until_ns

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_ns + round(seconds * 1e9), next(self._order), action))


class FakeMachine:
    """Uses more power under load, in bursts, and shows it in files every millisecond."""

    def __init__(self, root: Path, clock: VirtualClock, *, drift_w_per_s: float = 0.02) -> None:
        self.clock = clock
        self.loaded = False
        self.total_j = 0.0
        self.dynamic_j = 0.0
        self.updates = 0
        self._drift = drift_w_per_s
        self._delayed: list[float] = []
        self.delay_ticks = 0
        self.zone = root / "sys/class/powercap/intel-rapl:0"
        self.chip = root / "sys/class/hwmon/hwmon0"
        for folder in (self.zone, self.chip):
            folder.mkdir(parents=True)
        self._counter = os.open(self.zone / "energy_uj", os.O_CREAT | os.O_WRONLY)
        self._current = os.open(self.chip / "curr1_input", os.O_CREAT | os.O_WRONLY)
        self.frozen = False
        (self.zone / "name").write_text("package-0\n")
        (self.zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (self.chip / "name").write_text("ina3221\n")
        (self.chip / "in1_label").write_text("VDD_IN\n")
        (self.chip / "in1_input").write_text("5000\n")
        (self.chip / "update_interval").write_text("1\n")
        self._tick()

    def _tick(self) -> None:
        time_s = self.clock.now_ns / 1e9
        idle_w = IDLE_W + self._drift * (time_s - 5)
        burst = (self.updates % 10) < 7
        extra_w = (10.0 if burst else 1.0) if self.loaded else 0.0
        self.total_j += (idle_w + extra_w) * TICK_S
        self.dynamic_j += extra_w * TICK_S
        self.updates += 1
        self._delayed.append(idle_w + extra_w)
        shown_w = self._delayed[max(0, len(self._delayed) - 1 - self.delay_ticks)]
        if not self.frozen:  # written in place: cutting files off is slow
            os.pwrite(self._counter, b"%-20d\n" % (round(self.total_j * 1e6) % RANGE_UJ), 0)
            os.pwrite(self._current, b"%-20d\n" % round(shown_w / 5 * 1000), 0)
        self.clock.after(TICK_S, self._tick)


class Worker(Contender):
    """Each inference takes five milliseconds."""

    name = "worker"
    threads = 1

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self.respawned = 0
        self.idle_share = 0.0

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        machine, wall_s = self._machine, []
        machine.loaded = True
        seconds *= 1 - self.idle_share
        while sum(wall_s) < seconds or len(wall_s) < min_calls:
            machine.clock.sleep(0.005)
            wall_s.append(0.005)
        machine.loaded = False
        machine.clock.sleep(sum(wall_s) * self.idle_share / (1 - self.idle_share))
        return tuple(wall_s), tuple(wall_s)

    def respawn(self) -> None:
        self.respawned += 1

    def close(self) -> None: ...


class VirtualSensor(Sensor):
    """A polled sensor, polled as the clock goes; each poll a little late, some much."""

    name = "virtual"

    def __init__(self, inner: PolledSensor, *, stall_share: float = 0.0) -> None:
        self._inner = inner
        self._stall_share = stall_share

    @property
    def title(self) -> str:
        return self._inner.title

    @property
    def rails(self) -> tuple[str, ...]:
        return self._inner.rails

    def record(self, clock: Clock) -> Recording:
        assert isinstance(clock, VirtualClock)
        self.recording = VirtualRecording(self._inner, clock, self._stall_share)
        return self.recording


class VirtualRecording(Recording):
    def __init__(self, sensor: PolledSensor, clock: VirtualClock, stall_share: float) -> None:
        self.update_s = find_update_s(sensor, clock.wall_ns, clock.sleep)
        self._poller = Poller(sensor, clock.wall_ns, self.update_s)
        self._clock = clock
        self._stall_share = stall_share
        self._random = np.random.default_rng(3)
        self._error: MeasureError | None = None
        self.closed = False
        self._poll()

    def _poll(self) -> None:
        if self.closed or self._error:
            return
        try:
            wait_s = self._poller.poll()
        except MeasureError as error:
            self._error = error
            return
        late_s = self._random.exponential(30e-6)
        if self._random.random() < self._stall_share:
            late_s += 4e-3
        self._clock.after(wait_s + late_s, self._poll)

    def check(self) -> None:
        if self._error:
            raise self._error

    def stop(self) -> Trace:
        self.check()
        return self._poller.trace(cpu_share=0.01)

    def close(self) -> None:
        self.closed = True


class Broken(Contender):
    """Works while it warms up and fails under load."""

    name = "broken"
    threads = 1
    own_process = False

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        if seconds >= 1.0:
            raise RuntimeError("out of memory")
        return (0.01,) * min_calls, (0.01,) * min_calls

    def respawn(self) -> None: ...

    def close(self) -> None: ...


class Setup:
    def __init__(self, root: Path, kind: str, **machine: float) -> None:
        self.clock = VirtualClock()
        self.machine = FakeMachine(root, self.clock, **machine)
        found = find_sensors(root)
        self.inner = next(sensor for sensor in found.sensors if sensor.name == kind)
        self.worker = Worker(self.machine)
        self.root = root

    def measure(self, sensor: Sensor | None = None, **options: float) -> EnergyRecord:
        given = {"cycles": 5, "load_s": 1.0, "idle_s": 0.5, "margin_s": 0.1} | options
        found = measure_energy(
            self.worker,
            sensor or VirtualSensor(self.inner),
            clock=self.clock,
            root=self.root,
            **given,
        )
        assert isinstance(found, EnergyRecord)
        return found


POWER_W = 0.7 * 10 + 0.3 * 1  # of a load, above idle
INFERENCE_J = POWER_W * 0.005


@pytest.mark.parametrize("kind", ["powercap", "hwmon"])
def test_bursts_at_1_khz_are_measured_within_one_per_cent(tmp_path: Path, kind: str) -> None:
    setup = Setup(tmp_path, kind)
    record = setup.measure()
    assert record.updates_seen >= 0.95 * record.updates_expected
    assert record.update_s == pytest.approx(1e-3, rel=0.02)
    assert record.dynamic_j.median == pytest.approx(INFERENCE_J, rel=0.01)
    for cycle in record.cycles:
        assert cycle.dynamic_j / cycle.inferences == pytest.approx(INFERENCE_J, rel=0.01)
        idle_w = (cycle.idle_before_w + cycle.idle_after_w) / 2
        assert cycle.total_j == pytest.approx((idle_w + POWER_W) * cycle.load_s, rel=0.01)
    assert record.inferences == 5 * 200
    assert record.latency.median == pytest.approx(0.005)
    assert record.latency.round_sizes == (200,) * 5
    assert record.warnings == ()
    if kind == "powercap":
        assert setup.machine.total_j > 3 * RANGE_UJ / 1e6, "the counter must wrap in this test"


def test_idle_power_that_drifts_is_deducted_where_it_was(tmp_path: Path) -> None:
    record = Setup(tmp_path, "powercap", drift_w_per_s=0.5).measure()
    assert record.idle_power_w.samples[-1] > record.idle_power_w.samples[0] + 3
    for value in record.dynamic_j.samples:
        assert value == pytest.approx(INFERENCE_J, rel=0.01)
    assert any("idle power moved" in warning for warning in record.warnings)


def test_a_sensor_that_shows_power_late_loses_nothing_of_the_load(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "hwmon")
    setup.machine.delay_ticks = 60  # 6 % of the load window
    assert setup.measure().dynamic_j.median == pytest.approx(INFERENCE_J, rel=0.01)


def test_updates_that_were_missed_are_told(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    record = setup.measure(VirtualSensor(setup.inner, stall_share=0.1))
    assert record.updates_seen < 0.9 * record.updates_expected
    assert any("saw less than 95 %" in warning for warning in record.warnings)
    assert record.dynamic_j.median == pytest.approx(INFERENCE_J, rel=0.01)  # it counts on


def test_other_load_is_told_for_loads_and_for_idle_windows(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    (tmp_path / "proc").mkdir()
    ticks = count()

    def load() -> None:  # half of both processors is always busy, three threads want to run
        busy = 4 * next(ticks)
        cores = f"cpu  {busy} 0 0 {busy} 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0\n"
        (tmp_path / "proc/stat").write_text(f"{cores}procs_running {4 + busy // 400}\n")
        setup.clock.after(0.1, load)

    load()
    record = setup.measure()
    assert record.latency.contended_rounds == (True,) * 5
    told = " ".join(record.warnings)
    assert "something else ran in 5 of 5 loads (run queue 5)" in told
    assert "only 50% of the processors were idle" in told


def test_each_cycle_has_a_fresh_process(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    assert setup.measure().latency.round_processes == (0, 1, 2, 3, 4)
    assert setup.worker.respawned == 4


def test_time_outside_inferences_is_told(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    setup.worker.idle_share = 0.2
    assert any("only 80% of a load" in warning for warning in setup.measure().warnings)


def test_a_slow_sensor_makes_windows_of_a_hundred_updates(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "hwmon")
    (setup.machine.chip / "update_interval").write_text("20\n")
    slow = find_sensors(tmp_path).pick("hwmon:ina3221")
    assert isinstance(slow, PolledSensor)
    record = setup.measure(VirtualSensor(slow), margin_s=0.01)
    assert all(cycle.load_s >= 2.0 for cycle in record.cycles)
    assert all(cycle.updates_expected[1] >= 100 for cycle in record.cycles)
    assert record.margin_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("garbage", "should hold a whole number"), ("-5", "shows -5"), ("", "whole number")],
)
def test_nonsense_in_the_middle_of_a_run_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    setup = Setup(tmp_path, "powercap")

    def spoil() -> None:
        setup.machine.frozen = True
        (setup.machine.zone / "energy_uj").write_text(text)

    setup.clock.after(4.5, spoil)
    with pytest.raises(MeasureError, match=message):
        setup.measure()


def test_a_sensor_that_vanishes_in_the_middle_is_an_error(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    setup.clock.after(4.5, (setup.machine.zone / "energy_uj").unlink)
    with pytest.raises(MeasureError, match=r"energy_uj: it is not there \(any more\)"):
        setup.measure()


@pytest.mark.parametrize(
    ("kind", "message"), [("powercap", "does not update"), ("hwmon", "same value all the time")]
)
def test_a_sensor_that_stands_still_is_an_error(tmp_path: Path, kind: str, message: str) -> None:
    setup = Setup(tmp_path, kind)
    setup.machine.frozen = True
    with pytest.raises(MeasureError, match=message):
        setup.measure()


def test_no_sensor_is_a_reason_and_nothing_is_run(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, VirtualClock())
    nothing = find_sensors(tmp_path / "empty").pick()
    assert isinstance(nothing, NoEnergy)
    found = measure_energy(Worker(machine), nothing, clock=machine.clock)
    assert found is nothing
    assert machine.dynamic_j == 0
    assert "no" in found.reason
    assert found.energy_j is None


def test_a_contender_that_fails_leaves_nobody_polling(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "powercap")
    sensor = VirtualSensor(setup.inner)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure_energy(Broken(), sensor, load_s=1.0, idle_s=0.1, clock=setup.clock, root=tmp_path)
    assert sensor.recording.closed


def test_fewer_than_five_cycles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="5 cycles at least"):
        Setup(tmp_path, "powercap").measure(cycles=4)


def test_a_record_survives_json(tmp_path: Path) -> None:
    record = Setup(tmp_path, "powercap").measure()
    write_json(tmp_path / "energy.json", record)
    again = read_json(tmp_path / "energy.json", EnergyRecord)
    assert again == record
    assert again.dynamic_j.interval == record.dynamic_j.interval
    assert json.loads((tmp_path / "energy.json").read_text())["format"] == 1


def burst_trace(length_s: float, loads_s: list[tuple[float, float]]) -> Trace:
    """Joules at uneven times, exactly as bursts of 3 ms in each 10 ms of the loads use them."""
    random = np.random.default_rng(5)
    gaps_s = random.uniform(0.5e-3, 1.5e-3, int(length_s / 1e-3))
    times_s = np.concatenate([[0.0], np.cumsum(gaps_s)])
    energy_j = 1.5 * times_s
    for start_s, end_s in loads_s:
        inside_s = np.clip(times_s - start_s, 0, end_s - start_s)
        whole, rest_s = np.divmod(inside_s, 0.010)
        energy_j += 8.0 * (whole * 0.003 + np.minimum(rest_s, 0.003))
    return Trace(
        times_s=tuple(times_s.tolist()),
        energy_j=tuple(energy_j.tolist()),
        update_s=1e-3,
        change_s=1e-3,
    )


class Idler(Contender):
    """Works without using energy: the replayed trace has its own loads."""

    name = "idler"
    threads = 2
    own_process = False

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.loads_s: list[tuple[float, float]] = []

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        calls = max(min_calls, round(seconds / 0.01))
        started_s = self._clock.now_ns / 1e9
        self._clock.sleep(calls * 0.01)
        self.loads_s.append((started_s, self._clock.now_ns / 1e9))
        return (0.01,) * calls, (0.02,) * calls

    def respawn(self) -> None: ...

    def close(self) -> None: ...


OPTIONS = {"cycles": 5, "load_s": 2.0, "idle_s": 1.0, "margin_s": 0.25}


def stored_run(path: Path) -> tuple[VirtualClock, Idler, float]:
    """A trace stored in `path` whose loads are where a run with `OPTIONS` has them.

    Where that is a first run tells, on a trace without any. Gives back a clock and a contender for
    the second, and when its recording begins.
    """
    write_meter_table(path, burst_trace(30.0, []))
    clock = VirtualClock()
    first = Idler(clock)
    assert isinstance(run_on(Replay(path=path), first, clock), EnergyRecord)
    warm_ups = len(first.loads_s) - 5
    begins_s = first.loads_s[warm_ups - 1][1]
    loads = [(a - begins_s, b - begins_s) for a, b in first.loads_s[warm_ups:]]
    write_meter_table(path, burst_trace(30.0, loads))
    clock = VirtualClock()
    return clock, Idler(clock), begins_s


def run_on(sensor: Sensor, idler: Idler, clock: VirtualClock) -> EnergyRecord | NoEnergy:
    nowhere = Path("/nowhere")  # no signs of other load in virtual time
    return measure_energy(idler, sensor, clock=clock, root=nowhere, **OPTIONS)


def test_a_replayed_trace_gives_its_energy_within_a_thousandth(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    clock, idler, _ = stored_run(path)
    record = run_on(Replay(path=path), idler, clock)
    assert isinstance(record, EnergyRecord)
    assert record.dynamic_j.median == pytest.approx(8.0 * 0.3 * 0.01, rel=1e-3)
    assert record.total_j.median == pytest.approx((1.5 + 8.0 * 0.3) * 0.01, rel=1e-3)
    assert record.idle_power_w.median == pytest.approx(1.5, rel=1e-3)
    assert record.sensor == f"replay:{path}"


UNIX_S = 1.7e9


@pytest.fixture
def unix_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[VirtualClock], None]:
    def follow(clock: VirtualClock) -> None:
        monkeypatch.setattr("time.time", lambda: UNIX_S + clock.now_ns / 1e9)

    return follow


def test_a_meter_with_another_clock_is_placed_by_offset_and_drift(
    tmp_path: Path, unix_clock: Callable[[VirtualClock], None]
) -> None:
    path = tmp_path / "trace.csv"
    clock, idler, begins_s = stored_run(path)
    unix_clock(clock)
    lines = path.read_text().splitlines()[1:]
    rows = [(float(time_s), float(energy_j)) for time_s, energy_j in (x.split(",") for x in lines)]
    first_s = rows[0][0]
    drift = 5e-3  # its clock loses that much
    meter_rows = [f"{(first_s + (t - first_s) / (1 + drift)) * 1e3:.6f},{e:.9g}" for t, e in rows]
    path.write_text("\n".join(["Time [ms],Energy [J]", *meter_rows]))
    meter = MeterCsv(path=path, offset_s=UNIX_S + begins_s, drift=drift)
    record = run_on(meter, idler, clock)
    assert isinstance(record, EnergyRecord)
    assert record.dynamic_j.median == pytest.approx(8.0 * 0.3 * 0.01, rel=1e-3)
    for value in record.total_j.samples:  # without margins, so every window must be in its place
        assert value == pytest.approx((1.5 + 8.0 * 0.3) * 0.01, rel=2e-3)


def test_a_meter_with_a_wrong_offset_is_an_error(
    tmp_path: Path, unix_clock: Callable[[VirtualClock], None]
) -> None:
    path = tmp_path / "trace.csv"
    clock, idler, _ = stored_run(path)
    unix_clock(clock)
    with pytest.raises(MeasureError, match="is the clock offset right"):
        run_on(MeterCsv(path=path), idler, clock)


def test_a_clock_that_is_set_during_the_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trace.csv"
    clock, idler, begins_s = stored_run(path)
    monkeypatch.setattr("time.time", lambda: UNIX_S + clock.now_ns / 1e9 * 1.01)
    with pytest.raises(MeasureError, match="clock was set by"):
        measure_energy(
            idler,
            MeterCsv(path=path, offset_s=UNIX_S + begins_s),
            clock=clock,
            root=tmp_path,
            **OPTIONS,
        )
