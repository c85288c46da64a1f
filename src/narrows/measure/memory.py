"""Peak memory and cold times of a model, in processes of their own that have done nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from narrows.errors import MeasureError
from narrows.measure.environment import Environment, environment
from narrows.measure.record import Measurement
from narrows.measure.workers import Greeting, WorkerContender, open_contender

if TYPE_CHECKING:
    import onnx

PROCESSES = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """What a fresh process needs for one answer; each with a sample for every process.

    Args:
        peak_bytes: Most resident memory, everything included.
        base_bytes: Resident memory with the runtime imported and no model.
        import_s: Importing the runtime.
        load_s: Loading the model.
        first_s: The first inference.
    """

    peak_bytes: Measurement
    base_bytes: Measurement
    import_s: Measurement
    load_s: Measurement
    first_s: Measurement

    @property
    def model_bytes(self) -> float:
        """What the model added."""
        return self.peak_bytes.median - self.base_bytes.median


def cold_start(
    source: str | Path | onnx.ModelProto,
    *,
    threads: int = 1,
    backend: str = "onnxruntime",
    processes: int = PROCESSES,
    shape: Sequence[int] | None = None,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ColdStart:
    """Load a model and run it once, in several fresh processes.

    Args:
        source: Path of a model's file, or an ONNX model.
        threads: Threads inside one call.
        backend: Name of the runtime.
        processes: How often.
        shape: Of the input with its batch, where the model leaves more open than the batch.
        batch: Samples in the call.
        progress: Called with the processes done and to do.

    Raises:
        MissingExtra: The runtime is not installed.
        MeasureError: A process failed; the message says why. Or this system does not tell how much
            memory a process holds.
    """
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        if isinstance(source, str | Path):
            path = Path(source)
        else:
            path = Path(folder) / "model.onnx"
            path.write_bytes(source.SerializeToString())

        def start() -> WorkerContender:
            return open_contender(path, backend=backend, threads=threads, shape=shape, batch=batch)

        return cold_start_of(start, threads=threads, processes=processes, progress=progress)


def cold_start_of(
    start: Callable[[], WorkerContender],
    *,
    threads: int = 1,
    processes: int = PROCESSES,
    progress: Callable[[int, int], None] | None = None,
) -> ColdStart:
    """The cold start of anything that runs as a worker; see `cold_start`.

    Args:
        start: Starts a fresh worker.
        threads: Threads it uses.
        processes: How often.
        progress: Called with the processes done and to do.

    Raises:
        MeasureError: A process failed, or there are no figures of its memory.
    """
    if processes < 1:
        msg = f"cannot measure the cold start of {processes} processes: ask for one or more"
        raise MeasureError(msg)
    here = environment(threads=threads)
    greetings: list[Greeting] = []
    for done in range(processes):
        with closing(start()) as worker:
            greetings.append(worker.greeting)
        if progress:
            progress(done + 1, processes)
    return ColdStart(
        peak_bytes=_bytes("peak_bytes", [one.peak_bytes for one in greetings], here),
        base_bytes=_bytes("base_bytes", [one.base_bytes for one in greetings], here),
        import_s=_seconds("import_s", [one.import_s for one in greetings], here),
        load_s=_seconds("load_s", [one.load_s for one in greetings], here),
        first_s=_seconds("first_s", [one.first_s for one in greetings], here),
    )


def _bytes(name: str, samples: Sequence[int | None], here: Environment) -> Measurement:
    known = [float(value) for value in samples if value is not None]
    if len(known) < len(samples):
        msg = "memory cannot be measured: this system has no figures of it in /proc/self/status"
        raise MeasureError(msg)
    return Measurement(name=name, unit="B", samples=tuple(known), environment=here)


def _seconds(name: str, samples: Sequence[float], here: Environment) -> Measurement:
    return Measurement(name=name, unit="s", samples=tuple(samples), environment=here)
