"""Peak memory and cold times of a model, in a process of its own that has done nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from narrows.errors import MeasureError

if TYPE_CHECKING:
    import onnx

_LIMIT_S = 300.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """What a fresh process needs for one answer.

    Args:
        peak_bytes: Most resident memory, everything included.
        base_bytes: Resident memory with the runtime imported and no model.
        import_s: Importing the runtime.
        load_s: Making the session.
        first_s: The first inference.
    """

    peak_bytes: int
    base_bytes: int
    import_s: float
    load_s: float
    first_s: float

    @property
    def model_bytes(self) -> int:
        """What the model added."""
        return self.peak_bytes - self.base_bytes


def cold_start(source: str | Path | onnx.ModelProto, *, threads: int = 1) -> ColdStart:
    """Load a model and run it once on zeros in a fresh process.

    Args:
        source: Path of an ONNX file, or a model.
        threads: Threads inside an operator.

    Raises:
        MeasureError: The process failed; its last line says why.
    """
    if isinstance(source, str | Path):
        return _ask(Path(source), threads)
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(source.SerializeToString())
        return _ask(path, threads)


def _ask(path: Path, threads: int) -> ColdStart:
    command = [sys.executable, "-m", "narrows.measure.memory", str(path), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        msg = f"{path} did not answer within {_LIMIT_S:.0f} s in a fresh process: is it too large?"
        raise MeasureError(msg) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        msg = f"{path} failed in a fresh process ({lines[-1]}): run it here to see why"
        raise MeasureError(msg)
    return ColdStart(**json.loads(done.stdout))


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process: "VmRSS" now, "VmHWM" the most since it began.

    Raises:
        MeasureError: The system does not tell.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    found = [line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")]
    if not found:
        msg = f"memory cannot be measured: this system has no {field} in /proc/self/status"
        raise MeasureError(msg)
    return int(found[0]) * 1024


def _answer_once(path: str, threads: int) -> None:
    """What the fresh process does. Shapes left open are 1; it prints one JSON object."""
    started_s = time.perf_counter()
    import numpy as np

    from narrows.graph.ort import session

    imported_s = time.perf_counter()
    base_bytes = resident_bytes()
    running = session(path, threads=threads)
    loaded_s = time.perf_counter()
    feeds = {}
    for given in running.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        feeds[given.name] = np.zeros(shape, dtype)
    ready_s = time.perf_counter()
    running.run(None, feeds)
    first_s = time.perf_counter() - ready_s
    record = {
        "peak_bytes": resident_bytes("VmHWM"),
        "base_bytes": base_bytes,
        "import_s": imported_s - started_s,
        "load_s": loaded_s - imported_s,
        "first_s": first_s,
    }
    sys.stdout.write(json.dumps(record))


if __name__ == "__main__":
    _answer_once(sys.argv[1], int(sys.argv[2]))
