"""ONNX Runtime on the processor: the runtime of the base install.

It is used here as every program uses it, not through `narrows.graph`, whose imports would count as
the runtime's own time and memory.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from narrows.errors import ModelError
from narrows.measure.backends.base import Backend, Input, Loaded, told_precision

if TYPE_CHECKING:
    from narrows.measure.backends.base import Array

_WEIGHTED = ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention")
_OPTIMISED = "optimised.onnx"
_TYPES = {"float": "float32", "double": "float64"}


@final
class OnnxRuntime(Backend):
    """ONNX Runtime's own kernels for the processor."""

    name: ClassVar[str] = "onnxruntime"
    package: ClassVar[str] = "onnxruntime"
    distribution: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = (".onnx", ".ort")

    def bring_in(self) -> None:
        """Import ONNX Runtime."""
        import numpy  # noqa: F401
        import onnxruntime  # noqa: F401

    def load(self, path: Path, *, threads: int) -> Loaded:
        """Make a session.

        Raises:
            ModelError: The runtime does not take the model.
        """
        return _Session(path, threads)


@final
class _Session(Loaded):
    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._running = _session(path, threads)
        self._feeds: Mapping[str, Array] | None = None
        self.inputs = tuple(_input(given) for given in self._running.get_inputs())

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        self._feeds = feeds
        found: list[Array] = self._running.run(None, feeds)
        return found

    def precision(self) -> str:
        """From the kernels that a profiled run names, those that round their data included."""
        import onnx

        from narrows.measure.backends.feeds import random_feeds
        from narrows.measure.operators import INT8_KERNELS, rounds_data

        with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
            place = Path(folder)
            profiled = _session(self._path, 1, folder=place)
            profiled.run(None, self._feeds or random_feeds(self.inputs))
            kernels = _kernels(Path(profiled.end_profiling()))
            nodes = onnx.load(place / _OPTIMISED, load_external_data=False).graph.node
        rounding = {node.op_type for node in nodes if rounds_data(node)}
        integer = INT8_KERNELS | rounding
        weighted = [name for name in kernels if any(part in name for part in _WEIGHTED)]
        return told_precision(["i8" if name in integer else "f32" for name in weighted])


def _session(path: Path, threads: int, *, folder: Path | None = None) -> Any:
    """A session; with a folder one that writes its profile and its optimised graph into it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "trace")
        options.optimized_model_filepath = str(folder / _OPTIMISED)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # the runtime's errors share no base class of their own
        told = " ".join(str(error).split())[:400]
        raise ModelError(f"ONNX Runtime does not take the file: {told}") from error


def _kernels(trace: Path) -> list[str]:
    """Operator of every kernel in a profile of one run."""
    events = json.loads(trace.read_text(encoding="utf-8"))
    ran = [event for event in events if str(event.get("name", "")).endswith("_kernel_time")]
    return [str(event["args"]["op_name"]) for event in ran]


def _input(given: Any) -> Input:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    return Input(
        name=given.name,
        shape=tuple(size if isinstance(size, int) and size > 0 else None for size in given.shape),
        dtype=_TYPES.get(kind, kind),
    )
