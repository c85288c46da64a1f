"""A process of its own that polls one sensor, and the recording that talks to it.

It is a process and not a thread: the measured program may hold this interpreter's lock for a whole
inference, and its processor time must not contain the polling. What the polling itself costs is
told with the trace; its energy is spent in idle and load windows alike and so is deducted.

    parent                                child
    {"name": "powercap", ...}     ──►     finds the update period
                                  ◄──     {"update_s": 0.001}
                                          polls ...
    closes the pipe               ──►
                                  ◄──     {"count": 30000, "cpu_share": 0.04}, times, values

What goes wrong is told in place of either answer: {"error": "..."}. Times are of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from array import array
from typing import Any, final

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError, NarrowsError
from narrows.measure.sensors.base import PolledSensor, Recording
from narrows.measure.sensors.hwmon import HwmonSensor
from narrows.measure.sensors.nvml import NvmlSensor
from narrows.measure.sensors.poller import Poller, find_update_s, make_trace
from narrows.measure.sensors.powercap import PowercapSensor
from narrows.measure.sensors.trace import Trace

_END_S = 10.0
_POLLED = {cls.name: cls for cls in (PowercapSensor, HwmonSensor, NvmlSensor)}


@final
class ProcessRecording(Recording):
    """A sensor polled by a process of its own, from now on.

    Args:
        sensor: What is polled.

    Raises:
        MeasureError: It cannot be read, or does not update.
    """

    def __init__(self, sensor: PolledSensor) -> None:
        self._sensor = sensor
        self._trace: Trace | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "narrows.measure.sensors.sampler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(to_dict(sensor)).encode() + b"\n")
            self._process.stdin.flush()
            self.update_s: float = self._answer()["update_s"]
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise what the process tells, if it has ended."""
        if self._trace is None and self._process.poll() is not None:
            self._answer()

    def stop(self) -> Trace:
        """End the process and take what it kept."""
        if self._trace is None:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.close()
            try:
                told = self._answer()
                kept = array("d")
                kept.frombytes(self._process.stdout.read())
            finally:
                self.close()
            count = told["count"]
            self._trace = make_trace(
                self._sensor,
                kept[:count],
                kept[count:],
                update_s=self.update_s,
                cpu_share=told["cpu_share"],
            )
        return self._trace

    def close(self) -> None:
        """End the process, whatever it does."""
        process = self._process
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()
        try:
            process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answer(self) -> dict[str, Any]:
        """The next line of the process."""
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {}
        if not told:
            last = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            why = last[-1] if last else "it said nothing"
            msg = f"the process that reads {self._sensor.title} ended ({why}): measure again"
            raise MeasureError(msg)
        if "error" in told:
            raise MeasureError(told["error"])
        return told


def serve() -> None:
    """What the process does: read the sensor from standard input, poll until that is closed."""
    out = sys.stdout.buffer
    try:
        given = json.loads(sys.stdin.readline())
        sensor = from_dict(_POLLED[given["name"]], given)
        update_s = find_update_s(sensor, time.perf_counter_ns, time.sleep)
        poller = Poller(sensor, time.perf_counter_ns, update_s)
        wait_s = poller.poll()
        _tell(update_s=update_s)
        started_s, cpu_s = time.perf_counter(), time.process_time()
        while not select.select([sys.stdin], [], [], wait_s)[0]:
            wait_s = poller.poll()
        passed_s = time.perf_counter() - started_s
        times_s, values = poller.kept()
        _tell(count=len(times_s), cpu_share=(time.process_time() - cpu_s) / max(passed_s, 1e-9))
        out.write(times_s.tobytes())
        out.write(values.tobytes())
        out.flush()
    except NarrowsError as error:
        _tell(error=str(error))
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # nobody wants the answer any more


def _tell(**answer: object) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
