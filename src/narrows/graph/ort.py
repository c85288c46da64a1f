"""ONNX Runtime behind two functions: the one place where sessions are made and run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from narrows.errors import ModelError
from narrows.graph.flow import needed, reads_of

Array = NDArray[Any]

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    MemoryError,
    TypeError,
    *(
        error
        for error in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(error, type) and issubclass(error, Exception)
    ),
)
_STORED_FAILURES: tuple[type[Exception], ...] = (*_FAILURES, OSError)


def session(
    source: onnx.ModelProto | bytes | str | Path,
    *,
    threads: int = 1,
    optimise: bool = True,
    outputs: Sequence[str] | None = None,
    profile_prefix: str | None = None,
    optimised_path: str | Path | None = None,
) -> ort.InferenceSession:
    """Make a session on the CPU.

    Args:
        source: A model, its bytes, or a path.
        threads: Threads inside an operator.
        optimise: With the runtime's graph optimisations. Without them two sessions compute the
            same bits for the same node.
        outputs: Values to give back instead of the model's outputs, inner ones included; what
            they do not need is left out.
        profile_prefix: Write the runtime's profile to a file whose name starts so.
        optimised_path: Write the graph that the runtime made of it to this file.

    Raises:
        ModelError: The runtime does not take the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        if optimise
        else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    if outputs is not None:
        source = with_outputs(_proto(source), outputs)
    if isinstance(source, onnx.ModelProto):
        source = _serialise(source)
    try:
        return ort.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # falling back prints to standard output
        )
    except _FAILURES as error:
        raise ModelError(f"ONNX Runtime does not take the model: {_message(error)}") from error


def simplified(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after the runtime's basic rewriting: constants folded, normalisation in weights.

    Only operators of the standard are in it if only such were in `proto`; names stay.

    Raises:
        ModelError: The runtime does not take the model, or there is no room for a temporary file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(
                _serialise(proto), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            found = onnx.load(path)
        except _STORED_FAILURES as error:
            msg = f"ONNX Runtime cannot simplify the model: {_message(error)}"
            raise ModelError(msg) from error
    used = {node.domain for node in found.graph.node} | {""}
    kept = [entry for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    return found


def run(
    running: ort.InferenceSession, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> list[Array]:
    """Run a session once.

    Raises:
        ModelError: The runtime refused the inputs or failed inside.
    """
    try:
        return list(running.run(outputs, dict(feeds)))
    except _FAILURES as error:
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in feeds.items())
        raise ModelError(f"ONNX Runtime failed on {shapes}: {_message(error)}") from error


def with_outputs(proto: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """A copy that computes the values `outputs`, without what they do not need."""
    graph = proto.graph
    typed = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    copy = onnx.ModelProto()
    copy.ir_version = proto.ir_version
    copy.opset_import.extend(proto.opset_import)
    copy.functions.extend(proto.functions)
    copy.graph.name = "graph"
    copy.graph.node.extend(needed(graph, outputs))
    copy.graph.input.extend(graph.input)
    copy.graph.output.extend(
        typed.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs)
    )
    copy_weights(proto, copy)
    return copy


def copy_weights(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Add the initializers of `source` that the nodes and outputs of `target` read."""
    graph = target.graph
    wanted = {value.name for value in graph.output}
    for node in graph.node:
        wanted.update(reads_of(node))
    graph.initializer.extend(t for t in source.graph.initializer if t.name in wanted)


def _proto(source: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return onnx.ModelProto.FromString(data)
    except (OSError, DecodeError) as error:
        raise ModelError(f"the model cannot be read: {_message(error)}") from None


def _serialise(proto: onnx.ModelProto) -> bytes:
    try:
        return bytes(proto.SerializeToString())
    except ValueError as error:  # protobuf's limit of 2 GB
        raise ModelError(f"the model is too large to hand over in one piece: {error}") from None


def _message(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:400] or type(error).__name__
