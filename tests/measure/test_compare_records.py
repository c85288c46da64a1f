from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from narrows.errors import MeasureError
from narrows.measure.compare_records import (
    RecordComparison,
    Row,
    compare_records,
    environment_differences,
    unpaired_ratio,
)
from narrows.measure.energy import NoEnergy
from narrows.measure.environment import Environment, environment
from narrows.measure.judging import Judged
from narrows.measure.memory import ColdStart
from narrows.measure.model_record import ModelRecord, RuntimeRecord
from narrows.measure.quality import Quality
from narrows.measure.record import Measurement

HERE = environment()


def taken(
    values: object,
    *,
    unit: str = "s",
    here: Environment = HERE,
    cpu: float = 1.0,
    busy: bool = False,
) -> Measurement:
    """Rounds of one sample each."""
    samples = tuple(float(value) for value in values)
    return Measurement(
        name="latency_s",
        unit=unit,
        samples=samples,
        environment=here,
        round_sizes=(1,) * len(samples),
        cpu_samples=samples if unit == "s" else (),
        contended_rounds=(busy,) * len(samples),
    )


def record(
    median_s: float,
    *,
    name: str = "net",
    seed: int = 0,
    here: Environment = HERE,
    version: str = "1",
    busy: bool = False,
    memory: float = 1e8,
    file_bytes: int = 1000,
    judged: Judged | None = None,
) -> ModelRecord:
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.99, 1.01, 20)
    five = rng.uniform(0.999, 1.001, 5)
    cold = ColdStart(
        peak_bytes=taken(memory * five, unit="B", here=here),
        base_bytes=taken(memory / 2 * five, unit="B", here=here),
        import_s=taken(0.1 * five, here=here),
        load_s=taken(0.2 * five, here=here),
        first_s=taken(0.3 * five, here=here),
    )
    runtime = RuntimeRecord(
        model=name,
        backend="openvino",
        version=version,
        precision="f32",
        latency=taken(median_s * spread, here=here, busy=busy),
        cold=cold,
        energy=NoEnergy(reason="none"),
        presets={},
        loadgen=None,
    )
    return ModelRecord(
        model=name,
        inputs={},
        file_bytes=file_bytes,
        size=None,
        macs=None,
        unknown_operators={},
        runtimes=(runtime,),
        ratios=(),
        against=None,
        breakdowns=(),
        execution=None,
        estimated=None,
        judged=judged,
        flags=(),
    )


def row(found: RecordComparison, what: str) -> Row:
    return next(one for one in found.rows if one.what.startswith(what))


def test_a_ratio_has_an_interval_and_a_verdict() -> None:
    found = compare_records(record(0.008), record(0.010, seed=1))
    latency = row(found, "latency_s")
    assert latency.ratio == pytest.approx(0.8, rel=0.02)
    assert latency.interval is not None
    low, high = latency.interval
    assert low < latency.ratio < high < 1
    assert latency.told == "less"
    other = row(compare_records(record(0.010, seed=1), record(0.008)), "latency_s")
    assert other.told == "more"
    assert other.interval is not None
    assert other.interval == pytest.approx((1 / high, 1 / low))
    same = row(compare_records(record(0.01), record(0.01, seed=1)), "latency_s")
    assert same.told == "not told apart"


def test_size_is_exact_and_memory_is_told_with_its_coverage() -> None:
    found = compare_records(record(0.01, file_bytes=250), record(0.01, memory=2e8))
    assert row(found, "file_bytes").ratio == 0.25
    assert row(found, "file_bytes").told == "exact"
    memory = row(found, "peak_bytes")
    assert memory.ratio == pytest.approx(0.5, rel=0.01)
    assert memory.told == "less"
    assert "93.8 %" in memory.remark


def test_contended_wall_times_make_no_winner() -> None:
    found = compare_records(record(0.001, busy=True), record(0.01))
    assert row(found, "latency_s").told == "not told apart"
    assert "contended" in row(found, "latency_s").remark
    assert row(found, "cpu_latency_s").told == "less"


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    """Two sessions of 15 rounds around medians of 1.3 and 1, a long tail above."""
    rng = np.random.default_rng(3)
    hits, widths = 0, []
    for _ in range(400):
        a = taken(1.3 * (1 + 0.05 * rng.exponential(size=15)))
        b = taken(1 + 0.02 * rng.exponential(size=15))
        low, high = unpaired_ratio(a, b)[1]
        truth = 1.3 * (1 + 0.05 * np.log(2)) / (1 + 0.02 * np.log(2))
        hits += low <= truth <= high
        widths.append(high / low - 1)
    assert hits >= 0.94 * 400
    assert np.median(widths) < 0.08  # and not by being wide


def test_ratios_of_what_has_none() -> None:
    with pytest.raises(MeasureError, match="in B"):
        unpaired_ratio(taken([1.0]), taken([1.0], unit="B"))
    with pytest.raises(MeasureError, match="above zero"):
        unpaired_ratio(taken([1.0]), taken([0.0, 0.0, 2.0]))
    ratio, interval = unpaired_ratio(taken([1.0]), taken([0.0, 1.0, 2.0]))
    assert (ratio, interval) == (1.0, (0.5, math.inf))


def test_other_environments_are_refused_unless_told() -> None:
    there = replace(HERE, cpu_model="Other CPU", governor="powersave", load_average_1m=9.0)
    assert environment_differences(HERE, replace(HERE, load_average_1m=9.0, system="x")) == ()
    first, second = record(0.01), record(0.02, here=there)
    with pytest.raises(MeasureError, match=r"cpu_model.*Other CPU.*governor.*powersave"):
        compare_records(first, second)
    found = compare_records(first, second, any_environment=True)
    assert len(found.differences) == 2
    assert row(found, "latency_s").told == "less"
    with pytest.raises(MeasureError, match="openvino: 1 and 2"):
        compare_records(first, record(0.01, version="2"))


def judged(right: int, *, labels: int = 0) -> Judged:
    quality = Quality(classes=3, details=True)
    truth = (np.arange(200) + labels) % 3
    answers = np.where(np.arange(200) < right, truth, (truth + 1) % 3)
    quality.add(10.0 * np.eye(3)[answers], truth)
    return Judged(
        task="things",
        split="report",
        metric="top1",
        quality=quality.result(),
        classes=quality.report(),
    )


def test_accuracy_is_subtracted_pairwise_where_it_can_be() -> None:
    found = compare_records(record(0.01, judged=judged(180)), record(0.01, judged=judged(190)))
    paired = row(found, "accuracy")
    assert paired.difference == pytest.approx(-0.05)
    assert paired.told == "less"
    assert "paired" in paired.remark
    others = judged(190, labels=1)
    found = compare_records(record(0.01, judged=judged(180)), record(0.01, judged=others))
    unpaired = row(found, "accuracy")
    assert "unpaired" in unpaired.remark
    assert paired.interval is not None
    assert unpaired.interval is not None
    assert unpaired.interval[0] < paired.interval[0] < -0.05 < unpaired.interval[1]
    elsewhere = replace(others, split="choose")
    found = compare_records(record(0.01, judged=judged(180)), record(0.01, judged=elsewhere))
    assert not [one for one in found.rows if one.what == "accuracy"]
