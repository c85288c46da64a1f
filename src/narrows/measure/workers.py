"""The parent's side of worker processes: a contender that lives in a process of its own.

A worker loads its model once and stays; it is asked for rounds of calls, which it times itself, so
that the pipe between the two is never measured. See `narrows.measure.worker` for what they say.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from narrows.errors import MeasureError
from narrows.measure.backends import backend_of
from narrows.measure.contender import CallTimes, Contender
from narrows.measure.worker import About

_START_LIMIT_S = 300.0
_LARGEST_ANSWER = 512 << 20
_SLACK = 10.0  # a call may take so many times as long as the first did
_GOODBYE_S = 2.0
_KEPT_ERRORS = 4000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a worker says of its own start.

    Args:
        import_s: Importing the runtime.
        load_s: Loading the model.
        first_s: The first inference.
        base_bytes: Resident memory with the runtime imported and no model; None where unknown.
        peak_bytes: Most resident memory until the first inference was done; None where unknown.
    """

    import_s: float
    load_s: float
    first_s: float
    base_bytes: int | None
    peak_bytes: int | None


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
        self._child: _Child | None = None
        self.respawn()

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
        self._child = _Child(self.name, self.command, self._limit_s)

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
    def _running(self) -> _Child:
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


@final
class _Child:
    """One process and the pipes to it."""

    def __init__(self, name: str, command: Sequence[str], limit_s: float) -> None:
        self._name = name
        self._errors = b""
        try:
            # Its own session: Ctrl-C reaches the parent, which closes its children in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            msg = f"{name}: {command[0]} cannot be started ({error.strerror}): check the command"
            raise MeasureError(msg) from None
        with self._closed_on_error():
            self.greeting = Greeting(**self._answer(limit_s)["greeting"])

    def ask(self, request: Mapping[str, object], limit_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        with self._closed_on_error():
            with contextlib.suppress(BrokenPipeError):  # its end is told when the answer is read
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            return self._answer(limit_s)

    def close(self) -> None:
        """End the process: politely, then by force."""
        process = self._process
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        process.terminate()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # Ctrl-C too: no process is left behind
            self.close()
            raise

    def _answer(self, limit_s: float) -> dict[str, Any]:
        line = self._line(limit_s)
        try:
            found = json.loads(line)
        except ValueError:
            msg = f"{self._name}: its worker process said {line[:60]!r}, which is no JSON"
            raise MeasureError(msg) from None
        if not isinstance(found, dict) or "error" in found:
            told = found["error"] if isinstance(found, dict) else f"it answered {line[:60]!r}"
            raise MeasureError(f"{self._name}: {told}")
        return found

    def _line(self, limit_s: float) -> bytes:
        """The next line of standard output; what comes on standard error is kept meanwhile."""
        out, errors = self._process.stdout, self._process.stderr
        assert out is not None
        assert errors is not None
        until_s = time.monotonic() + limit_s
        parts: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            ready.register(errors, selectors.EVENT_READ)
            while True:
                events = ready.select(max(0.0, until_s - time.monotonic()))
                if not events:
                    self._give_up(limit_s)
                for key, _ in events:
                    data = os.read(key.fd, 1 << 16)
                    if key.fileobj is errors:
                        self._errors = (self._errors + data)[-_KEPT_ERRORS:]
                        if not data:
                            ready.unregister(errors)
                        continue
                    parts.append(data)
                    size += len(data)
                    if data.endswith(b"\n"):
                        return b"".join(parts)
                    if not data or size > _LARGEST_ANSWER:
                        self._ended(size)

    def _give_up(self, limit_s: float) -> None:
        msg = (
            f"{self._name}: its worker process did not answer within {limit_s:.0f} s: is the model"
            " too large for this machine?"
        )
        raise MeasureError(msg)

    def _ended(self, size: int) -> None:
        if size > _LARGEST_ANSWER:
            msg = f"{self._name}: its worker process answers without end: ask for shorter rounds"
            raise MeasureError(msg)
        try:
            rest = self._process.communicate(timeout=_GOODBYE_S)[1]
        except subprocess.TimeoutExpired:
            rest = b""
        told = (self._errors + rest).decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        why = told[-1].strip() if told else "it said nothing; was memory short?"
        msg = f"{self._name}: its worker process ended ({how}: {why}); run it alone to see more"
        raise MeasureError(msg)
