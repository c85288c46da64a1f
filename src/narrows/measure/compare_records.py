"""Two records of models, measured at different times, compared figure by figure.

Nothing pairs their rounds, so the interval of a ratio is made of the two intervals: with a and b
the estimates, (la, ua) and (lb, ub) their intervals and all in logarithms,

    from  a - b - sqrt((a - la)² + (ub - b)²)   to   a - b + sqrt((ua - a)² + (b - lb)²).

It says how well the two sessions are known. What changed on the machine between them it cannot
see; two models measured in the same rounds (`narrows measure A --against B`) are told apart better.

Reference:
    Zou, Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27, 2008, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, final

from narrows.errors import MeasureError
from narrows.measure.energy import EnergyRecord
from narrows.measure.environment import Environment
from narrows.measure.intervals import wilson
from narrows.measure.judging import Judged
from narrows.measure.model_record import ModelRecord, RuntimeRecord
from narrows.measure.quality import paired_drop
from narrows.measure.record import LEAST_COVERAGE, Measurement
from narrows.units import percent_text

Told = Literal["less", "more", "not told apart", "exact"]

_LEVEL = 0.95
_FREE = ("load_average_1m", "python", "numpy", "narrows", "memory_bytes", "system")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity of both records.

    Args:
        what: Its name with its unit: "latency_s, onnxruntime".
        unit: "s", "B", "J"; "1" for a share.
        first: In the first record.
        second: In the second.
        ratio: The first over the second; None for shares, which are subtracted.
        difference: The first less the second; None for what is divided.
        interval: Of the ratio or the difference; None for what is known exactly.
        told: Whether the first is less or more, as far as the interval says.
        remark: What a reader must know: "CPU time: the wall times were contended".
    """

    what: str
    unit: str
    first: float
    second: float
    ratio: float | None
    difference: float | None
    interval: tuple[float, float] | None
    told: Told
    remark: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecordComparison:
    """Two records side by side.

    Args:
        first: Name of the first model.
        second: Name of the second.
        differences: In what the environments differ; empty where times may be compared.
        rows: Quantity by quantity.
    """

    first: str
    second: str
    differences: tuple[str, ...]
    rows: tuple[Row, ...]


def compare_records(
    first: ModelRecord, second: ModelRecord, *, any_environment: bool = False
) -> RecordComparison:
    """Compare two records.

    Args:
        first: Above the fraction lines.
        second: Below them.
        any_environment: Compare even what was measured in different environments.

    Raises:
        MeasureError: The environments differ, and that was not allowed; the message names in what.
    """
    differences = environment_differences(
        first.latency.environment, second.latency.environment
    ) + version_differences(first, second)
    if differences and not any_environment:
        msg = (
            f"cannot compare {first.model!r} with {second.model!r}: they were measured in different"
            f" environments ({'; '.join(differences)}): measure both in one, or say that any"
            " environment will do (--any-environment)"
        )
        raise MeasureError(msg)
    return RecordComparison(
        first=first.model,
        second=second.model,
        differences=differences,
        rows=tuple(_rows(first, second)),
    )


def environment_differences(first: Environment, second: Environment) -> tuple[str, ...]:
    """In what two environments differ that a latency depends on.

    Example:
        >>> from dataclasses import replace
        >>> from narrows.measure.environment import environment
        >>> here = environment()
        >>> environment_differences(here, replace(here, threads=4))
        ('threads: 1 and 4',)
    """
    if first.key == second.key:
        return ()
    names = [field.name for field in fields(Environment) if field.name not in _FREE]
    pairs = [(name, getattr(first, name), getattr(second, name)) for name in names]
    return tuple(f"{name}: {_text(a)} and {_text(b)}" for name, a, b in pairs if a != b)


def version_differences(first: ModelRecord, second: ModelRecord) -> tuple[str, ...]:
    """Runtimes of both records whose versions differ, beside ONNX Runtime's own."""
    return tuple(
        f"{a.backend}: {a.version} and {b.version}"
        for a, b in _pairs(first, second)
        if a.version != b.version and a.backend != "onnxruntime"
    )


def unpaired_ratio(first: Measurement, second: Measurement) -> tuple[float, tuple[float, float]]:
    """The first estimate over the second, and its interval; see the head of the module.

    An interval that reaches down to zero (few rounds that disagree) leaves the ratio open below or
    above: its end is zero or infinite.

    Raises:
        MeasureError: The units differ, or an estimate is not above zero.
    """
    if first.unit != second.unit:
        msg = f"cannot divide {first.name!r} in {first.unit} by {second.name!r} in {second.unit}"
        raise MeasureError(msg)
    if min(first.estimate, second.estimate) <= 0:
        msg = f"cannot divide {first.name!r} by {second.name!r}: they are not both above zero"
        raise MeasureError(msg)
    low_a, a, high_a = (_log(value) for value in _ends(first))
    low_b, b, high_b = (_log(value) for value in _ends(second))
    low = a - b - math.hypot(a - low_a, high_b - b)
    high = a - b + math.hypot(high_a - a, b - low_b)
    return math.exp(a - b), (math.exp(low), math.exp(high))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _ends(taken: Measurement) -> tuple[float, float, float]:
    return taken.interval[0], taken.estimate, taken.interval[1]


def _rows(first: ModelRecord, second: ModelRecord) -> Iterator[Row]:
    for a, b in _pairs(first, second):
        yield from _runtime_rows(a, b)
    yield _exact("file_bytes", "B", first.file_bytes, second.file_bytes)
    if first.macs and second.macs:
        yield _exact("macs", "MACs", first.macs, second.macs)
    if first.judged and second.judged:
        yield from _quality_rows(first.judged, second.judged)


def _pairs(first: ModelRecord, second: ModelRecord) -> list[tuple[RuntimeRecord, RuntimeRecord]]:
    others = {one.backend: one for one in second.runtimes}
    return [(one, others[one.backend]) for one in first.runtimes if one.backend in others]


def _runtime_rows(a: RuntimeRecord, b: RuntimeRecord) -> Iterator[Row]:
    where = a.backend
    contended = a.latency.contended or b.latency.contended
    remark = "contended: trust the CPU time" if contended else ""
    yield _divided(f"latency_s, {where}", a.latency, b.latency, remark=remark, judge=not contended)
    if a.latency.cpu_samples and b.latency.cpu_samples:
        yield _divided(f"cpu_latency_s, {where}", a.latency.cpu, b.latency.cpu)
    yield _divided(f"peak_bytes, {where}", a.cold.peak_bytes, b.cold.peak_bytes)
    for name in ("import_s", "load_s", "first_s"):
        yield _divided(f"{name}, {where}", getattr(a.cold, name), getattr(b.cold, name))
    if isinstance(a.energy, EnergyRecord) and isinstance(b.energy, EnergyRecord):
        same = (a.energy.sensor, a.energy.rails) == (b.energy.sensor, b.energy.rails)
        remark = "" if same else "other sensors or rails"
        for name in ("total_j", "dynamic_j"):
            one, other = getattr(a.energy, name), getattr(b.energy, name)
            if min(*one.interval, *other.interval) > 0:
                yield _divided(f"{name}, {where}", one, other, remark=remark, judge=same)


def _divided(
    what: str, a: Measurement, b: Measurement, *, remark: str = "", judge: bool = True
) -> Row:
    ratio, interval = unpaired_ratio(a, b)
    coverage = min(a.coverage, b.coverage)
    if coverage < _LEVEL:
        few = min(len(a.rounds), len(b.rounds))
        told = f"{few} sample{'s' * (few > 1)}: {percent_text(coverage)}"
        remark = "; ".join(part for part in (remark, told) if part)
    return Row(
        what=what,
        unit=a.unit,
        first=a.estimate,
        second=b.estimate,
        ratio=ratio,
        difference=None,
        interval=interval,
        told=_told(interval, 1.0) if judge and coverage >= LEAST_COVERAGE else "not told apart",
        remark=remark,
    )


def _told(interval: tuple[float, float], at: float) -> Told:
    low, high = interval
    if low <= at <= high:
        return "not told apart"
    return "less" if high < at else "more"


def _exact(what: str, unit: str, a: float, b: float) -> Row:
    return Row(
        what=what,
        unit=unit,
        first=a,
        second=b,
        ratio=a / b,
        difference=None,
        interval=None,
        told="exact",
    )


def _quality_rows(a: Judged, b: Judged) -> Iterator[Row]:
    """Accuracy: pairwise where both answered the same samples, else by Newcombe's interval."""
    one, other = a.quality.accuracy, b.quality.accuracy
    if one is None or other is None or (a.task, a.split) != (b.task, b.split):
        return
    same = a.classes is not None and b.classes is not None and a.classes.labels == b.classes.labels
    if same:
        drop, low, high = paired_drop(b.quality, a.quality)
        difference, interval = -drop, (-high, -low)
    else:
        first, second = wilson(one, a.quality.n), wilson(other, b.quality.n)
        difference = one - other
        low = difference - math.hypot(one - first.low, second.high - other)
        high = difference + math.hypot(first.high - one, other - second.low)
        interval = (low, high)
    yield Row(
        what="accuracy",
        unit="1",
        first=one,
        second=other,
        ratio=None,
        difference=difference,
        interval=interval,
        told=_told(interval, 0.0),
        remark="same samples, paired" if same else "other samples, unpaired",
    )


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
