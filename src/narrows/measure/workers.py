"""The parent's side of worker processes: a contender that lives in a process of its own.

A worker loads its model once and stays; it is asked for rounds of calls, which it times itself, so
that the pipe between the two is never measured. See `narrows.measure.worker` for what they say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, final

from narrows.errors import MeasureError
from narrows.measure.backends import backend_of
from narrows.measure.child import Child
from narrows.measure.child import Greeting as Greeting
from narrows.measure.contender import CallTimes, Contender
from narrows.measure.worker import About

_START_LIMIT_S = 300.0
_SLACK = 10.0  # a call may take so many times as long as the first did


@final
class WorkerContender(Contender):
    """A contender in a child process that stays.

    Args:
        name: What it is called in tables and messages.
        command: Starts the child; it must speak as `narrows.measure.worker.serve` does.
        threads: Threads the child may use; told to it by the command, known here for the judging
            of contention.
        limit_s: How long the child may take to start, and to answer beyond the time of the calls
            it is asked for.

    Raises:
        MeasureError: The child does not start; its last line says why.

    Example:
        >>> code = "from narrows.measure.worker import serve; serve(lambda: sum(range(1000)))"
        >>> with WorkerContender("sum", [sys.executable, "-c", code]) as contender:
        ...     wall_s, cpu_s = contender.call(min_calls=3, seconds=0.0)
        >>> len(wall_s), len(cpu_s), min(wall_s) > 0
        (3, 3, True)
    """

    def __init__(
        self, name: str, command: Sequence[str], threads: int = 1, *, limit_s: float | None = None
    ) -> None:
        self.name = name
        self.threads = threads
        self.command = tuple(command)
        self._limit_s = limit_s or _START_LIMIT_S
        self._child: Child | None = None
        self.respawn()

    @property
    def pid(self) -> int:
        """Number of the process that runs now."""
        return self._running.pid

    @property
    def greeting(self) -> Greeting:
        """How the process that runs now has started."""
        return self._running.greeting

    @property
    def about(self) -> About:
        """What the process that runs now has loaded, as its runtime tells."""
        found = self._running.ask({"ask": "about"}, self._limit_s)["about"]
        inputs = {name: tuple(shape) for name, shape in found["inputs"].items()}
        return About(precision=found["precision"], inputs=inputs)

    @property
    def precision(self) -> str:
        """What the arithmetic really runs in: "f32", "mixed: 53 of 54 i8"."""
        return self.about.precision

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        """Wall and CPU times in seconds of consecutive calls, timed inside the child.

        Raises:
            MeasureError: The child ended, or did not answer in time.
        """
        child = self._running
        limit_s = self._limit_s + seconds + _SLACK * min_calls * child.greeting.first_s
        found = child.ask({"min_calls": min_calls, "seconds": seconds}, limit_s)
        wall_ns, cpu_ns = found["wall_ns"], found["cpu_ns"]
        return tuple(value / 1e9 for value in wall_ns), tuple(value / 1e9 for value in cpu_ns)

    def respawn(self) -> None:
        """Go on in a fresh process."""
        self.close()
        self._child = Child(self.name, self.command, self._limit_s)

    def close(self) -> None:
        """End the child; to close twice is allowed."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _running(self) -> Child:
        if self._child is None:
            msg = f"{self.name}: its worker process is closed: respawn it, or open another"
            raise MeasureError(msg)
        return self._child


def open_contender(
    model: Path,
    *,
    backend: str = "onnxruntime",
    threads: int = 1,
    name: str | None = None,
    inputs: Path | None = None,
    shape: Sequence[int] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> WorkerContender:
    """A model's file in a runtime, in a process of its own, ready to be called.

    Args:
        model: The file: .onnx, or what the runtime reads.
        backend: Name of the runtime in `narrows.measure.backends.BACKENDS`.
        threads: Threads inside one call.
        name: What the contender is called; by default the file's name.
        inputs: An .npy file with the input, or .npz with several by name; by default they are
            random, always the same.
        shape: Of the input with its batch, where the model leaves more open than the batch.
        batch: Samples in one call; by default as the model says, one where it leaves that open.
        seed: Of random inputs.

    Raises:
        MissingExtra: The runtime is not installed.
        MeasureError: There is no such runtime or file, or the model does not load or run.
    """
    runtime = backend_of(backend)
    runtime.check()
    runtime.check_file(model)
    settings = {
        "backend": backend,
        "path": str(model.resolve()),
        "threads": threads,
        "inputs": None if inputs is None else str(inputs.resolve()),
        "shape": None if shape is None else list(shape),
        "batch": batch,
        "seed": seed,
    }
    # -P: a file of the user's folder must not stand in for a package.
    command = (sys.executable, "-P", "-m", "narrows.measure.worker", json.dumps(settings))
    return WorkerContender(name or model.name, command, threads)
