"""Counters that wrap, meters' tables, and the process that polls."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.errors import MeasureError
from narrows.measure.contender import SystemClock
from narrows.measure.sensors import find_sensors
from narrows.measure.sensors.base import PolledSensor
from narrows.measure.sensors.meter_table import (
    check_meter_table,
    read_meter_table,
    write_meter_table,
)
from narrows.measure.sensors.poller import Poller, find_update_s
from narrows.measure.sensors.sampler import ProcessRecording
from narrows.measure.sensors.trace import counter_trace, power_trace


def counter(times_s: list[float], total_j: list[float], range_j: float = 10.0):
    rows = [(value % range_j,) for value in total_j]
    return counter_trace(times_s, rows, ranges_j=(range_j,), rails=("package-0",), update_s=0.1)


@given(
    st.lists(st.floats(0.0, 3.0), min_size=2, max_size=60),
    st.floats(0, 9.9),
)
def test_a_wrapping_counter_gives_back_every_joule(steps: list[float], start_j: float) -> None:
    total_j = [start_j]
    for step in steps:
        total_j.append(total_j[-1] + step)
    times_s = [0.1 * i for i in range(len(total_j))]
    try:
        trace = counter(times_s, total_j)
    except MeasureError:  # a step much above the others may be more than one round
        assert max(steps) > 1
    else:
        assert trace.energy_j[-1] == pytest.approx(total_j[-1] - start_j, abs=1e-6)
        half_s = times_s[-1] / 2
        parts = trace.between(0.0, half_s) + trace.between(half_s, times_s[-1])
        assert parts == pytest.approx(trace.between(0.0, times_s[-1]), abs=1e-6)


def test_steady_power_wraps_without_complaint() -> None:
    times_s = [0.01 * i for i in range(5000)]
    trace = counter(times_s, [7.0 * t for t in times_s])
    assert trace.between(10.0, 40.0) == pytest.approx(210.0)


def test_a_gap_in_which_it_may_have_wrapped_twice_is_refused() -> None:
    times_s = [0.01 * i for i in range(1000)]
    late_s = [*times_s, times_s[-1] + 5.0, times_s[-1] + 5.01]
    with pytest.raises(MeasureError, match=r"not seen for 5 s .* more than once"):
        counter(late_s, [7.0 * t for t in late_s])


def test_a_counter_that_is_set_back_is_not_a_wrap() -> None:
    times_s = [0.01 * i for i in range(1000)]
    rows = [(50.0 + t,) if t < 5 else (t - 5,) for t in times_s]
    with pytest.raises(MeasureError, match="set back"):
        counter_trace(times_s, rows, ranges_j=(1000.0,), rails=("x",), update_s=0.01)
    with pytest.raises(MeasureError, match=r"'x' fell from .* which it cannot"):
        counter_trace(times_s, rows, ranges_j=(None,), rails=("x",), update_s=0.01)


def test_windows_outside_the_recording_are_refused() -> None:
    trace = power_trace([0.0, 1.0, 2.0], [(1.0,)] * 3, update_s=0.1)
    assert trace.between(-0.1, 2.1) == pytest.approx(2.2)
    for window in ((-0.3, 1.0), (1.0, 2.3)):
        with pytest.raises(MeasureError, match="clock offset"):
            trace.between(*window)


def test_power_between_two_updates_is_joined_by_a_line() -> None:
    trace = power_trace([0.0, 1.0, 3.0], [(1.0, 0.5), (3.0, 0.5), (2.0, 0.5)], update_s=1.0)
    assert trace.energy_j == (0.0, 2.5, 8.5)
    assert trace.between(1.0, 2.0) == 3.0


def test_two_updates_are_the_least() -> None:
    with pytest.raises(MeasureError, match="gave 1 updates"):
        power_trace([0.0], [(1.0,)], update_s=1.0)


def test_windows_count_their_own_updates() -> None:
    trace = power_trace([0.0, 1.0, 2.0, 3.0], [(1.0,)] * 4, update_s=1.0)
    assert [trace.updates(0.0, 1.0), trace.updates(1.0, 3.0), trace.updates(3.0, 9.0)] == [1, 2, 0]


META = "# Meter 3000\n\n"


@pytest.mark.parametrize(
    ("text", "kind", "times_s", "values"),
    [
        ("timestamp_s,power_mw\n1,2000\n2,3000\n", "power", (1, 2), (2, 3)),
        (META + "time [ms];power (W);note\n0;1;a\n500;2;b\n", "power", (0, 0.5), (1, 2)),
        ("t_us\tvoltage_V\tcurrent_mA\n0\t5\t100\n9\t5\t200\n", "power", (0, 9e-6), (0.5, 1)),
        ("Timestamp_ns,Energy_µJ\n0,0\n1000,5\n", "energy", (0, 1e-6), (0, 5e-6)),
        ("time_s,energy_mwh,power_w\n0,1,9\n1,2,9\n", "energy", (0, 1), (3.6, 7.2)),
        ('"time_s","power_w"\r\n"0","1"\r\n"1","2"\r\n', "power", (0, 1), (1, 2)),
    ],
)
def test_meters_write_many_tables(
    tmp_path: Path,
    text: str,
    kind: str,
    times_s: tuple[float, ...],
    values: tuple[float, ...],
) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(text, encoding="utf-8")
    table = read_meter_table(path)
    assert table.kind == kind
    assert table.times_s == pytest.approx(times_s)
    assert table.values == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 rows"),
        ("time_s,power_w\n1,2\n", "holds 1 rows"),
        ("time_s,power_w\n1,2\n2,3\n3", "line 4 has 1 of 2 columns: was the file cut off"),
        ("time_s,power_w\n1,2\n2,nan\n", r"line 3: 'power_w' is 'nan', not a number"),
        ("time_s,power_w\n1,2\n2,\n", r"line 3: 'power_w' is '', not a number"),
        ("time_s,power_w\n1,2\ninf,3\n", r"line 3: 'time_s' is 'inf'"),
        ("time_s,power_w\n1,2\n2,-3\n", "line 3.*not negative"),
        ("time_s,power_w\n1,2\n3,2\n2,2\n", "line 4: time goes from 3.0.* to 2.0"),
        ("time_s,power_w\n1,2\n1,2\n", "line 3: time goes"),
        ("time_s,watts\n1,2\n2,2\n", "has the columns time_s, watts: it needs"),
        ("time_s,voltage_v\n1,2\n2,2\n", "it needs a timestamp and power, energy, or voltage"),
        ("power_w\n1\n2\n", "it needs a timestamp"),
        ("time,power_w\n1,2\n2,2\n", "'time' states no unit of time: write one of s, ms"),
        ("time_s,power_j\n1,2\n2,2\n", "'power_j' states no unit of power"),
        ("time_s,power_w,power_mw\n1,2,2\n2,2,2\n", "'power_w' and 'power_mw' are both power"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(text)
    with pytest.raises(MeasureError, match=message):
        read_meter_table(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="No such file"):
        read_meter_table(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(MeasureError, match="not UTF-8"):
        read_meter_table(tmp_path / "binary.csv")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"time_s,power_w\n1,2\n" + data)
    try:
        table = read_meter_table(path)
    except MeasureError:
        return
    assert all(math.isfinite(value) for value in table.times_s + table.values)


@pytest.mark.parametrize(
    "text", ["", "time_s,pow", "time_s,power_w\n", "time_s,power_w\n0.1,2\n0.2,"]
)
def test_a_table_that_is_still_being_written_is_no_junk(tmp_path: Path, text: str) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(text)
    check_meter_table(path)
    with pytest.raises(MeasureError):
        read_meter_table(path)
    path.write_text("nothing,of,it\n" + text)
    with pytest.raises(MeasureError, match="has the columns nothing, of, it"):
        check_meter_table(path)


def test_a_trace_survives_its_table(tmp_path: Path) -> None:
    trace = power_trace([10.0, 10.5, 11.0], [(1.0, 2.0), (1.5, 2.0), (1.0, 1.0)], update_s=0.5)
    write_meter_table(tmp_path / "trace.csv", trace)
    again = read_meter_table(tmp_path / "trace.csv")
    assert again.trace(again.times_s).between(10.1, 10.9) == pytest.approx(
        trace.between(10.1, 10.9)
    )


def counting_tree(root: Path) -> Path:
    zone = root / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("4000000000")
    (zone / "energy_uj").write_text(f"{0:<20d}")
    return zone / "energy_uj"


class Counting(threading.Thread):
    """Adds 1.25 J to a counter that will wrap at 4 kJ, every 20 ms."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file = os.open(file, os.O_WRONLY)
        self.total_j = 3900.0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.02):
            self.total_j += 1.25
            os.pwrite(self._file, b"%-20d" % (self.total_j % 4000.0 * 1e6), 0)


@pytest.fixture
def counting(tmp_path: Path):
    thread = Counting(counting_tree(tmp_path))
    thread.start()
    yield thread
    thread.stopped.set()
    thread.join()


def polled(root: Path) -> PolledSensor:
    sensor = find_sensors(root).pick()
    assert isinstance(sensor, PolledSensor)
    return sensor


def test_a_process_sees_whole_updates_of_a_real_file(tmp_path: Path, counting: Counting) -> None:
    recording = polled(tmp_path).record(SystemClock())
    began_s = time.perf_counter()
    enough_j = counting.total_j + 60
    while counting.total_j < enough_j:
        time.sleep(0.02)
        recording.check()
    ended_s = time.perf_counter()
    trace = recording.stop()
    assert recording.stop() is trace
    steps = {round(b - a, 6) for a, b in zip(trace.energy_j, trace.energy_j[1:], strict=False)}
    assert all(step % 1.25 == 0 for step in steps)
    assert trace.times_s[0] <= began_s
    assert trace.times_s[-1] <= ended_s + 1
    assert 0 < trace.energy_j[-1] <= counting.total_j - 3900.0
    assert trace.cpu_share < 0.5
    assert recording._process.returncode == 0


def test_a_process_tells_when_the_sensor_goes(tmp_path: Path, counting: Counting) -> None:
    recording = polled(tmp_path).record(SystemClock())
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    recording._process.wait(timeout=60)
    with pytest.raises(MeasureError, match="it is not there"):
        recording.check()
    recording.close()


def test_a_counter_that_stands_still_is_told_at_once(tmp_path: Path) -> None:
    counting_tree(tmp_path)
    sensor = polled(tmp_path)
    now_ns = iter(range(0, 10**11, 10**6))
    with pytest.raises(MeasureError, match=r"powercap .package-0. showed one value in 5 s"):
        find_update_s(sensor, lambda: next(now_ns), lambda seconds: None)


def test_a_process_that_is_killed_is_an_error(tmp_path: Path, counting: Counting) -> None:
    recording = polled(tmp_path).record(SystemClock())
    recording._process.kill()
    recording._process.wait(timeout=60)
    with pytest.raises(MeasureError, match="the process that reads powercap ended"):
        recording.stop()


def test_to_close_ends_the_process(tmp_path: Path, counting: Counting) -> None:
    recording = ProcessRecording(polled(tmp_path))
    recording.close()
    recording.close()
    assert recording._process.returncode is not None


def test_the_sampler_needs_no_numpy() -> None:
    code = "import narrows.measure.sensors.sampler, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TwoRails(PolledSensor):
    """Two counters of a millisecond's period, the second 0.4 ms behind the first."""

    name = "two"
    title = "two"
    rails = ("a", "b")
    kind = "energy"
    update_s = None
    ranges_j = (None, None)

    def __init__(self) -> None:
        self.now_s = 0.0

    def read(self) -> tuple[float, ...]:
        return (float(int(self.now_s / 1e-3)), float(int((self.now_s + 0.6e-3) / 1e-3)))


def test_rails_that_update_in_turn_are_one_update() -> None:
    sensor = TwoRails()

    def sleep(seconds: float) -> None:
        sensor.now_s += seconds

    def wall_ns() -> int:
        return round(sensor.now_s * 1e9)

    update_s = find_update_s(sensor, wall_ns, sleep)
    assert update_s == pytest.approx(1e-3, rel=0.02)
    began_s = sensor.now_s
    poller = Poller(sensor, wall_ns, update_s)
    while sensor.now_s < began_s + 1.0:
        sleep(poller.poll() + 10e-6)
    kept_s, _ = poller.kept()
    assert 0.95 <= len(kept_s) / 1000 <= 1.05
    trace = poller.trace()
    assert trace.between(began_s, began_s + 1.0) == pytest.approx(2000, rel=2e-3)


class Steps(PolledSensor):
    """Shows the next of some watts each time it is read."""

    name = "steps"
    title = "steps"
    rails = ("rail",)
    kind = "power"
    update_s = 1.0
    ranges_j = (None,)

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def read(self) -> tuple[float, ...]:
        return (next(self._values),)


def polls(values: list[float], times_s: list[float]) -> tuple[list[float], list[float]]:
    """What a poller keeps that reads these values at these times; its period is one second."""
    now_ns = 0
    poller = Poller(Steps(values), lambda: now_ns, 1.0)
    for time_s in times_s:
        now_ns = round(time_s * 1e9)
        poller.poll()
    kept_s, kept = poller.kept()
    return list(kept_s), list(kept)


def test_a_power_that_stays_the_same_is_an_update_all_the_same() -> None:
    times_s = [0.25 * i for i in range(17)]
    kept_s, kept = polls([5.0] * 16 + [6.0], times_s)
    assert kept_s == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert kept == [5.0, 5.0, 5.0, 5.0, 6.0]


def test_updates_nobody_read_are_not_made_up() -> None:
    kept_s, _ = polls([5.0, 5.0, 7.0], [0.0, 0.25, 9.0])
    assert kept_s == [0.0, 9.0]
    kept_s, _ = polls([5.0] * 5, [0.0, 0.25, 9.0, 9.25, 9.5])
    assert kept_s == [0.0, 8.0, 9.0]


def test_a_poller_that_was_held_up_goes_on_from_there() -> None:
    now_ns = 0
    poller = Poller(Steps([1.0] * 3), lambda: now_ns, 1.0)
    assert poller.poll() == pytest.approx(0.5)
    now_ns = 10**10
    assert poller.poll() == 0.0
    now_ns += 10**6
    assert poller.poll() == pytest.approx(0.499)


def test_the_period_is_found_though_updates_are_missed() -> None:
    values = [float(i) for i in range(400) for _ in range(4 if i % 10 else 8)]
    now_ns = 0

    def sleep(seconds: float) -> None:
        nonlocal now_ns
        now_ns += 250_000

    sensor = Steps([0.0, *values])
    sensor.update_s = None
    assert find_update_s(sensor, lambda: now_ns, sleep) == pytest.approx(1e-3, rel=0.02)
