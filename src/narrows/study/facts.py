"""What is told of a variant without timing it: size, work, what runs in int8, time by operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from narrows.errors import NarrowsError
from narrows.graph.cost import total_macs
from narrows.graph.load import Model, load
from narrows.measure.breakdown import breakdown
from narrows.measure.energy_estimate import estimated_energy_j
from narrows.measure.execution import Execution, execution
from narrows.measure.size import ModelSize, model_size
from narrows.study.record import Operators

INSPECTED: Final = "onnxruntime"
"""The runtime whose optimised graph tells what runs in int8."""
_PROFILED: Final = (INSPECTED, "openvino")
_REDUCED: Final = ("bf16", "f16")
# Under the profiler a network is run for some two seconds by this guess of the machine's speed.
_RUNS_S: Final = 2.0
_MACS_PER_S: Final = 3e10
_LEAST_RUNS: Final = 5
_MOST_RUNS: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFacts:
    """What every runtime shares of a variant.

    Args:
        size: Of the file.
        macs: Multiply-accumulates of one sample.
        execution: What ONNX Runtime runs in int8.
        operators: Runtime → time by type of operator, for the runtimes that have a profiler.
        estimated_energy_j: Of one inference, from a table of energies per operation.
    """

    size: ModelSize
    macs: int
    execution: Execution
    operators: Mapping[str, Operators]
    estimated_energy_j: float


def variant_facts(
    path: Path, original: Model, *, is_original: bool, threads: int, runtimes: Sequence[str]
) -> VariantFacts:
    """Look at a variant.

    Args:
        path: Its file.
        original: What it was made of.
        is_original: Whether it is that itself.
        threads: Threads while operators are timed.
        runtimes: On which they are; those without a profiler are left out.

    Raises:
        ModelError: It cannot be read or run.
        MeasureError: The runtime's profile cannot be read.
    """
    model = original if is_original else load(path)
    macs = total_macs(model)
    return VariantFacts(
        size=model_size(path),
        macs=macs,
        execution=execution(model, original=None if is_original else original),
        operators=dict(_operators(model, threads, macs, runtimes)),
        estimated_energy_j=estimated_energy_j(model).energy_j,
    )


def _operators(
    model: Model, threads: int, macs: int, runtimes: Sequence[str]
) -> Iterator[tuple[str, Operators]]:
    """Slow networks are run fewer times; a runtime that fails here is told of by its cells."""
    runs = min(_MOST_RUNS, max(_LEAST_RUNS, int(_RUNS_S * _MACS_PER_S / max(1, macs))))
    for runtime in _PROFILED:
        if runtime not in runtimes:
            continue
        try:
            found = breakdown(model, threads=threads, runs=runs, backend=runtime)
        except NarrowsError:
            continue
        yield runtime, Operators(by_type=found.by_type, total_s=found.total_s)


def precision_flags(precision: str) -> tuple[str, ...]:
    """What to say of arithmetic that is narrower than the file asks for.

    Example:
        >>> precision_flags("f32"), precision_flags("bf16")
        ((), ('computed in bf16: the runtime took a narrower type than the file has',))
    """
    narrower = [name for name in _REDUCED if name in precision.split()]
    return tuple(
        f"computed in {name}: the runtime took a narrower type than the file has"
        for name in narrower[:1]
    )
