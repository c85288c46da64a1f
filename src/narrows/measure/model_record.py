"""Everything that was measured of one model, in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from narrows.errors import MeasureError
from narrows.measure.breakdown import Breakdown
from narrows.measure.energy import EnergyRecord, NoEnergy
from narrows.measure.energy_estimate import EnergyEstimate
from narrows.measure.execution import Execution
from narrows.measure.judging import Judged
from narrows.measure.latency import Verdict
from narrows.measure.loadgen import LoadGenRecord
from narrows.measure.memory import ColdStart
from narrows.measure.record import Measurement
from narrows.measure.size import ModelSize


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRecord:
    """One model in one runtime.

    Args:
        model: As it was named.
        backend: Name of the runtime.
        version: Of the runtime.
        precision: What the arithmetic really ran in, as the runtime tells.
        latency: Of one call without loading, CPU times beside it.
        cold: Import, load, first inference and memory of fresh processes.
        energy: Of one call, or why there is none.
        presets: Other benchmarks' rules by name: "mlperf" holds the calls of one long round, "tiny"
            five rounds with an input each.
        loadgen: What MLCommons LoadGen said, where it was asked.
    """

    model: str
    backend: str
    version: str
    precision: str
    latency: Measurement
    cold: ColdStart
    energy: EnergyRecord | NoEnergy
    presets: Mapping[str, Measurement]
    loadgen: LoadGenRecord | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRecord:
    """Two contenders of the same rounds.

    Args:
        name: Label of the one above the fraction line.
        base: Label of the one below.
        ratio: Of their times, round by round.
        verdict: Whether `name` is the faster one.
    """

    name: str
    base: str
    ratio: Measurement
    verdict: Verdict


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """The model it was measured against, in the same rounds.

    Args:
        model: As it was named.
        file_bytes: Of its file.
        runtimes: What was measured of it, in the order of the model's own.
    """

    model: str
    file_bytes: int
    runtimes: tuple[RuntimeRecord, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """What was measured of a model.

    Args:
        model: As it was named.
        inputs: Shapes of what it was fed, batch included, by name.
        file_bytes: Of its file, external data included.
        size: Its weights; None for a file that is not ONNX, as is all that reads the graph.
        macs: Multiply-accumulates for a sample.
        unknown_operators: Operators whose MACs are missing, and how often they occur.
        runtimes: One record for each runtime, the first the one that others are compared with.
        ratios: Between runtimes, and between the model and the one it is measured against.
        against: The other model, where there was one.
        breakdowns: Time and MACs by operator and how far each is from what this machine can do, one
            sample at a time, in each runtime that has a profiler.
        execution: What ONNX Runtime really runs in 8 bits, and what is not as it seems.
        estimated: Energy of a sample by a table of operations: not measured.
        judged: Quality on a task, where one was given.
        flags: What a reader must know.
    """

    FORMAT: ClassVar[int] = 2

    model: str
    inputs: Mapping[str, tuple[int, ...]]
    file_bytes: int
    size: ModelSize | None
    macs: int | None
    unknown_operators: Mapping[str, int]
    runtimes: tuple[RuntimeRecord, ...]
    ratios: tuple[RatioRecord, ...]
    against: Against | None
    breakdowns: tuple[Breakdown, ...]
    execution: Execution | None
    estimated: EnergyEstimate | None
    judged: Judged | None
    flags: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a record of nothing."""
        if not self.runtimes:
            msg = f"cannot make a record of {self.model!r} in no runtime: name at least one"
            raise MeasureError(msg)

    @property
    def latency(self) -> Measurement:
        """Latency in the first runtime."""
        return self.runtimes[0].latency

    @property
    def cold(self) -> ColdStart:
        """Cold start in the first runtime."""
        return self.runtimes[0].cold
