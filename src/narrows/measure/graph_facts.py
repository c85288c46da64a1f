"""What a model's graph tells beside its latency: size, operators, what really runs, an estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from narrows.errors import ModelError
from narrows.graph.cost import total_macs, unknown_operators
from narrows.graph.load import Model, load
from narrows.measure.breakdown import Breakdown, breakdown
from narrows.measure.energy_estimate import EnergyEstimate, estimated_energy_j
from narrows.measure.execution import Execution, execution
from narrows.measure.record import Measurement
from narrows.measure.roofline import machine_roofline
from narrows.measure.size import ModelSize, model_size
from narrows.measure.stored_weights import operator_weights

PROFILED: Final = ("onnxruntime", "openvino")
"""Runtimes that say where their time goes."""

_A_VARIANT = 0.5  # of the weight-bearing operators; fewer in common are two networks


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """Facts of a file. Of one that is not ONNX only its size is known.

    Args:
        model: The checked model.
        file_bytes: Of the file with its external data.
        size: Its weights.
        macs: Multiply-accumulates for a sample.
        unknown_operators: Operators whose MACs are missing, and how often they occur.
        breakdowns: Time by operator, in each runtime that has a profiler.
        execution: What really runs in 8 bits.
        estimated: Energy by a table of operations.
    """

    model: Model | None
    file_bytes: int
    unknown_operators: Mapping[str, int]
    size: ModelSize | None = None
    macs: int | None = None
    breakdowns: tuple[Breakdown, ...] = ()
    execution: Execution | None = None
    estimated: EnergyEstimate | None = None


def graph_facts(
    path: Path,
    *,
    backends: Sequence[str] = ("onnxruntime",),
    against: Path | None = None,
    ratio: Measurement | None = None,
    threads: int = 1,
    input_shape: tuple[int, ...] | None = None,
    operators: bool = True,
    progress: Callable[[str], None] | None = None,
) -> GraphFacts:
    """Look at a file, and run it under the runtimes' profilers.

    Args:
        path: The file.
        backends: Runtimes in which its time is taken apart.
        against: What it may be a variant of.
        ratio: Of its time over that one's.
        threads: Threads inside an operator.
        input_shape: Shape of one sample, where the graph leaves more open than the batch.
        operators: Run it; else only read it.
        progress: Called with what is being done.

    Raises:
        ModelError: It cannot be read or run.
        MeasureError: The profile cannot be read.
    """
    if path.suffix != ".onnx":
        return GraphFacts(model=None, file_bytes=path.stat().st_size, unknown_operators={})
    note = progress or (lambda what: None)
    note("the graph")
    model, size = open_model(path, input_shape), model_size(path)
    known = GraphFacts(
        model=model,
        file_bytes=size.file_bytes,
        size=size,
        macs=total_macs(model),
        unknown_operators=dict(unknown_operators(model)),
        estimated=estimated_energy_j(model),
    )
    if not operators:
        return known
    note("what this machine can do")
    roofline = machine_roofline(threads=threads)
    note("operators")
    original = None if against is None else _original(model, against, input_shape)
    return replace(
        known,
        breakdowns=tuple(
            breakdown(model, threads=threads, roofline=roofline, backend=backend)
            for backend in backends
            if backend in PROFILED
        ),
        execution=execution(model, original=original, ratio=ratio if original else None),
    )


def open_model(path: Path, input_shape: tuple[int, ...] | None = None) -> Model:
    """A checked model; the shape of a sample is used where the graph leaves it open.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return load(path)
    except ModelError:
        if input_shape is None:
            raise
        return load(path, input_shape=input_shape)


def _original(model: Model, path: Path, input_shape: tuple[int, ...] | None) -> Model | None:
    """The other model, where it may be what this one was made of."""
    if path.suffix != ".onnx":
        return None
    other = open_model(path, input_shape)
    names = {weights.name for weights in operator_weights(model)}
    others = {weights.name for weights in operator_weights(other)}
    shared = len(names & others)
    return other if shared > _A_VARIANT * max(len(names), len(others), 1) else None
