"""The child's side of a worker process: load once, greet, then time calls as they are asked for.

    parent → child   {"min_calls": 20, "seconds": 0.2}      or   {"ask": "about"}
    child → parent   {"greeting": {"import_s": ..., "load_s": ..., "first_s": ..., ...}}, once
                     {"wall_ns": [...], "cpu_ns": [...]}    or   {"about": {"precision": ..., ...}}
                     {"error": "..."}, then it ends

Lines of JSON on standard input and output. What libraries print on standard output goes to
standard error instead. The child ends when its standard input does, so it never outlives a parent.

    python -m narrows.measure.worker '{"backend": "onnxruntime", "path": "net.onnx", ...}'
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, final

from narrows.errors import MeasureError, NarrowsError
from narrows.measure.contender import Run, SystemClock, timed_calls
from narrows.measure.resident import resident_bytes

if TYPE_CHECKING:
    from narrows.measure.backends.base import Loaded


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a worker runs.

    Args:
        precision: What the arithmetic really runs in, e.g. "f32".
        inputs: Shape of every input, batch included, by name.
    """

    precision: str
    inputs: Mapping[str, tuple[int, ...]]


class Program(ABC):
    """What a worker process runs, in the steps of a cold start."""

    @abstractmethod
    def bring_in(self) -> None:
        """Import the runtime."""

    @abstractmethod
    def load(self) -> Run:
        """Make ready; what comes back is called and timed."""

    @abstractmethod
    def about(self) -> About:
        """What was loaded; asked for after `load`."""


@final
class BackendProgram(Program):
    """A model in one of `narrows.measure.backends`.

    Args:
        backend: Name of the runtime.
        path: The model's file.
        threads: Threads inside one call.
        inputs: Path of an .npy or .npz file, or None for random numbers.
        shape: Of the input with its batch, where the model leaves it open.
        batch: Samples in one call.
        seed: Of the random numbers.
    """

    def __init__(
        self,
        *,
        backend: str,
        path: str,
        threads: int = 1,
        inputs: str | None = None,
        shape: list[int] | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        self._backend, self._path, self._threads = backend, Path(path), threads
        self._inputs, self._shape, self._batch, self._seed = inputs, shape, batch, seed
        self._loaded: Loaded | None = None
        self._fed: Mapping[str, tuple[int, ...]] = {}

    def bring_in(self) -> None:
        """Import the runtime."""
        from narrows.measure.backends import backend_of

        backend_of(self._backend).bring_in()

    def load(self) -> Run:
        """Load the model; a call is one inference of fixed inputs."""
        from narrows.measure.backends import backend_of
        from narrows.measure.backends.feeds import random_feeds, read_feeds

        loaded = backend_of(self._backend).load(self._path, threads=self._threads)
        self._loaded = loaded
        if self._inputs is None:
            feeds = random_feeds(
                loaded.inputs, shape=self._shape, batch=self._batch, seed=self._seed
            )
        else:
            feeds = read_feeds(Path(self._inputs), loaded.inputs)
        self._fed = {name: tuple(value.shape) for name, value in feeds.items()}
        return partial(loaded.run, feeds)

    def about(self) -> About:
        """What the weight-bearing operators ran in, and what the model is fed."""
        assert self._loaded is not None
        return About(precision=self._loaded.precision(), inputs=self._fed)


@final
class CallableProgram(Program):
    """A callable that needs no loading.

    Args:
        run: Called and timed.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def bring_in(self) -> None:
        """Nothing."""

    def load(self) -> Run:
        """The callable."""
        return self._run

    def about(self) -> About:
        """Nothing is known of it."""
        return About(precision="not known", inputs={})


def serve(program: Program | Run) -> None:
    """Be a worker until standard input ends.

    Args:
        program: What to load and call; or something callable, ready to be called.
    """
    if not isinstance(program, Program):
        program = CallableProgram(program)
    requests, answers = _take_over()
    try:
        run, greeting = _start(program)
        _send(answers, {"greeting": greeting})
        for line in requests:
            _send(answers, _answer(json.loads(line), program, run))
    except BrokenPipeError:  # the parent has gone
        os._exit(1)
    except Exception as error:
        # Runtimes raise errors of many kinds; the parent tells the user in one line.
        told = str(error) if isinstance(error, NarrowsError) else f"{_kind(error)}{error}"
        _send(answers, {"error": " ".join(told.split())[:2000]})
        os._exit(1)  # runtimes may hang or crash while they are torn down


def _kind(error: Exception) -> str:
    return "" if type(error) in (RuntimeError, ValueError) else f"{type(error).__name__}: "


def _start(program: Program) -> tuple[Run, dict[str, float | int | None]]:
    """The cold start, each step timed."""
    read_s = time.perf_counter
    started_s = read_s()
    program.bring_in()
    imported_s = read_s()
    base_bytes = _bytes("VmRSS")
    before_s = read_s()
    run = program.load()
    loaded_s = read_s()
    run()
    first_s = read_s() - loaded_s
    peak_bytes = _bytes("VmHWM")
    gc.collect()
    gc.freeze()  # what was loaded is not looked through again between rounds
    gc.disable()  # a collection inside a call would be measured as the call's
    return run, {
        "import_s": imported_s - started_s,
        "load_s": loaded_s - before_s,
        "first_s": first_s,
        "base_bytes": base_bytes,
        "peak_bytes": peak_bytes,
    }


def _bytes(field: str) -> int | None:
    try:
        return resident_bytes(field)
    except MeasureError:
        return None


def _answer(request: Mapping[str, Any], program: Program, run: Run) -> dict[str, Any]:
    if request.get("ask") == "about":
        return {"about": asdict(program.about())}
    wall_s, cpu_s = timed_calls(
        run,
        min_calls=int(request["min_calls"]),
        seconds=float(request["seconds"]),
        clock=SystemClock(),
    )
    gc.collect()
    return {
        "wall_ns": [round(value * 1e9) for value in wall_s],
        "cpu_ns": [round(value * 1e9) for value in cpu_s],
    }


def _take_over() -> tuple[TextIO, TextIO]:
    """The pipes of the protocol, and standard output turned to standard error for all others."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _send(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message, separators=(",", ":")) + "\n")
    answers.flush()


if __name__ == "__main__":
    serve(BackendProgram(**json.loads(sys.argv[1])))
