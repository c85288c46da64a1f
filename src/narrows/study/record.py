"""What was measured of one cell of a study, or why it could not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, final

from narrows.errors import ConfigError, NarrowsError
from narrows.measure.breakdown import TypeRow
from narrows.measure.class_averages import Averages
from narrows.measure.energy import EnergyRecord, NoEnergy
from narrows.measure.execution import Execution
from narrows.measure.intervals import Estimate
from narrows.measure.record import Measurement
from narrows.measure.size import ModelSize
from narrows.measure.workers import Greeting
from narrows.study.cells import Cell

FORMAT: Final = 1
_OUT_OF_MEMORY: Final = "too little memory here: leave it out, or use a larger machine"
VERDICTS: Final = ("faster", "slower", "not told apart")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time over that of the original on the same runtime and threads, round by round.

    Args:
        wall: Of wall times.
        cpu: Of CPU times.
        verdict: "faster", "slower" or "not told apart".
    """

    wall: Estimate
    cpu: Estimate
    verdict: str

    def __post_init__(self) -> None:
        """Refuse another verdict."""
        if self.verdict not in VERDICTS:
            msg = f"verdict {self.verdict!r}: expected one of {', '.join(VERDICTS)}"
            raise ConfigError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good the answers were; without classes only agreement and the task's own metric.

    Args:
        set: Which of the task's sets,
        n: and how many samples of it.
        accuracy: Share of right answers; None where labels are not classes.
        top5: Share whose label is among the five highest outputs; None below five classes.
        averages: Macro means of precision, recall and F1; None where labels are not classes.
        ece: Expected calibration error; None where labels are not classes.
        agreement: Share with the answer of the original on the first runtime; None for that one.
        drop: Accuracy (or the task's metric) lost against the original on the same runtime, as
            pairs; None for the original.
        metric: Name of the task's metric,
        metric_value: and its value.
    """

    set: str
    n: int
    accuracy: Estimate | None
    top5: Estimate | None
    averages: Averages | None
    ece: Estimate | None
    agreement: float | None
    drop: Estimate | None
    metric: str
    metric_value: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Where the time goes, by type of operator, from the runtime's own profiler.

    Args:
        by_type: Time and MACs of each type, and last what is in none of them.
        total_s: Time of a whole inference.
    """

    by_type: tuple[TypeRow, ...]
    total_s: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What does not change with the threads: measured once for a network, variant and runtime.

    Args:
        size: Of the whole file.
        macs: Multiply-accumulates of one sample.
        precision: What the runtime really computes in, e.g. "f32", "i8", "bf16".
        execution: What of the network runs in int8, or was removed; None where it is not known.
        cold: Load time, first inference and peak memory of one fresh process.
        operators: None where the runtime has no profiler here, or it was not asked for.
        score: None where nothing was judged;
        no_score: then this says why.
        estimated_energy_j: From MACs and bytes moved by a table of energies per operation. An
            estimate, never to be taken for a measurement.
    """

    size: ModelSize
    macs: int
    precision: str
    execution: Execution | None
    cold: Greeting
    operators: Operators | None
    score: Score | None
    no_score: str
    estimated_energy_j: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRecord:
    """One cell, measured.

    Args:
        cell: Which.
        key: Digest of everything this depends on.
        facts_key: Digest of what `facts` depend on.
        model: As the study's file names the network.
        random_weights: Whether the network's weights are random; then it has no accuracy.
        session: Latencies of one session were taken in the same rounds.
        batch: Samples in one inference.
        latency: Of one inference without loading.
        ratio: To the original on the same runtime; None for the original itself.
        energy: Of one inference, or why there is none.
        facts: Size, memory, operators, quality.
        flags: What a reader must know: slower than its original, computed in bf16, contended, ...
    """

    name: ClassVar[str] = "measured"

    cell: Cell
    key: str
    facts_key: str
    model: str
    random_weights: bool
    session: str
    batch: int
    latency: Measurement
    ratio: Ratio | None
    energy: EnergyRecord | NoEnergy
    facts: Facts
    flags: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRecord:
    """One cell that could not be measured; a rerun tries it again.

    Args:
        cell: Which.
        key: As of a measured record; empty where even that could not be told.
        reason: Why, and what to do.
    """

    name: ClassVar[str] = "failed"

    cell: Cell
    key: str
    reason: str


Record = MeasuredRecord | FailedRecord


def reason_of(error: Exception) -> str:
    """What a record of a failure says."""
    if isinstance(error, MemoryError):
        return _OUT_OF_MEMORY
    told = " ".join(str(error).split())
    return told if isinstance(error, NarrowsError) else f"{type(error).__name__}: {told}"
