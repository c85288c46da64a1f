"""What is measured: a model's file in a runtime, and how a worker with it is started."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import onnx

from narrows.files import storage_error
from narrows.measure.backends import backend_of
from narrows.measure.workers import WorkerContender, open_contender


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing to measure.

    Args:
        model: As it was named.
        backend: Name of the runtime.
        version: Of the runtime.
        start: Starts a worker with random inputs of this seed.
        path: The model's file; None where there is none.
    """

    model: str
    backend: str
    version: str
    start: Callable[[int], WorkerContender]
    path: Path | None

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.model} on {self.backend}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """What models are fed.

    Args:
        inputs: An .npy or .npz file; None: random numbers.
        shape: Of the input with its batch, where the model leaves more open than the batch.
        batch: Samples in one call; None: as the model says, one where it leaves that open.
    """

    inputs: Path | None = None
    shape: tuple[int, ...] | None = None
    batch: int | None = None


def candidate(
    model: str, path: Path, *, backend: str, threads: int = 1, feeding: Feeding | None = None
) -> Candidate:
    """A model's file in a runtime.

    Args:
        model: What the record calls it.
        path: Its file.
        backend: Name of the runtime.
        threads: Threads inside one call.
        feeding: What it is fed.

    Raises:
        MissingExtra: The runtime is not installed.
        MeasureError: There is no such runtime, or it does not read such files.
    """
    fed, runtime = feeding or Feeding(), backend_of(backend)
    runtime.check()
    runtime.check_file(path)

    def start(seed: int) -> WorkerContender:
        return open_contender(
            path,
            backend=backend,
            threads=threads,
            name=f"{model} on {backend}",
            inputs=fed.inputs,
            shape=fed.shape,
            batch=fed.batch,
            seed=seed,
        )

    return Candidate(
        model=model, backend=backend, version=runtime.version(), start=start, path=path
    )


def candidates(
    model: str,
    path: Path,
    *,
    backends: Sequence[str],
    threads: int = 1,
    feeding: Feeding | None = None,
) -> tuple[Candidate, ...]:
    """A model's file in several runtimes; see `candidate`."""
    return tuple(
        candidate(model, path, backend=backend, threads=threads, feeding=feeding)
        for backend in backends
    )


@contextmanager
def as_file(source: str | Path | onnx.ModelProto) -> Iterator[Path]:
    """The file of a model; one in memory is written to a temporary file.

    Raises:
        StorageError: There is no room for it.
    """
    if isinstance(source, str | Path):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            path.write_bytes(source.SerializeToString())
        except OSError as error:
            raise storage_error(path, error) from error
        yield path
