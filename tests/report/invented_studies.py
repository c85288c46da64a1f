"""Studies nobody ran, for the tests of their report: numbers by formula, the same every time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from narrows.config import write_json
from narrows.measure.breakdown import UNEXPLAINED, TypeRow
from narrows.measure.class_averages import Averages
from narrows.measure.energy import EnergyCycle, EnergyRecord, NoEnergy
from narrows.measure.environment import Environment, environment
from narrows.measure.intervals import Estimate, wilson
from narrows.measure.record import Measurement
from narrows.measure.size import ModelSize
from narrows.measure.workers import Greeting
from narrows.study.cells import Cell, cells
from narrows.study.journal import SETTINGS, Journal
from narrows.study.record import Facts, FailedRecord, MeasuredRecord, Operators, Ratio, Score
from narrows.study.settings import NetworkSettings, StudySettings, VariantSettings

VARIANTS = ("original", "int8", "weights")
NAMES = (
    "MobileNet v1 1.0",
    "MobileNet v2 0.5",
    "MobileNet v2 1.0",
    "MobileNet v2 1.4",
    "MobileNet v3 large",
    "MobileNet v3 small",
    "VGG-16",
    "VGG-19",
    "Inception v1",
    "Inception v3",
    "Inception v4",
    "ResNet-50",
    "ResNet-101",
    "ResNet-152",
    "EfficientNet-Lite0",
    "EfficientNet-Lite1",
    "EfficientNet-Lite2",
    "MobileNet v1, CIFAR-10 (JPEG)",
    "MobileNet v2, CIFAR-10 (JPEG)",
    "VGG, CIFAR-10 (JPEG)",
    "Inception v1, CIFAR-10 (JPEG)",
    "Inception v3, CIFAR-10 (JPEG)",
    "ResNet-50, CIFAR-10 (JPEG)",
)
TIME_RATIOS = {
    ("int8", "onnxruntime"): 0.45,
    ("int8", "openvino"): 0.38,
    ("weights", "onnxruntime"): 1.6,
    ("weights", "openvino"): 1.01,
}
HERE: Environment = environment()


def settings(
    names: tuple[str, ...] = NAMES, *, threads: tuple[int, ...] = (1, 2), title: str = "invented"
) -> StudySettings:
    variants = tuple(
        VariantSettings(name=name, methods=() if name == "original" else (name,))
        for name in VARIANTS
    )
    return StudySettings(
        name=title,
        networks=tuple(
            NetworkSettings(name=name, model="timm:none?pretrained=0", variants=variants)
            for name in names
        ),
        threads=threads,
        runtimes=("onnxruntime", "openvino"),
        baseline="torch",
    )


def measured(name: str, number: float, noise: float = 0.01, seed: int = 0) -> Measurement:
    """Ten rounds of three calls around a number."""
    draws = number * (1 + noise * np.random.default_rng(seed).standard_normal(30))
    return Measurement(
        name=name,
        unit="s",
        samples=tuple(float(abs(value)) for value in draws),
        environment=HERE,
        round_sizes=(3,) * 10,
        cpu_samples=tuple(float(abs(value)) for value in draws),
        contended_rounds=(False,) * 10,
        round_reasons=((),) * 10,
    )


def record(cell: Cell, index: int, *, judged: bool, energy: bool) -> MeasuredRecord:
    work = 1.6 ** (index % 12)
    changed = TIME_RATIOS.get((cell.variant, cell.runtime))
    spread = 1 + 0.25 * np.sin(index)
    ratio = None if changed is None else float(changed * spread)
    base_s = 2e-3 * work / cell.threads**0.8 * {"openvino": 0.85, "torch": 2.6}.get(cell.runtime, 1)
    size = 4e6 * work * {"original": 1.0, "int8": 0.27, "weights": 0.26}[cell.variant]
    latency = measured(str(cell), base_s * (ratio or 1), seed=index)
    return MeasuredRecord(
        cell=cell,
        key=f"key of {cell}",
        facts_key=f"facts of {cell}",
        model="timm:none?pretrained=0",
        random_weights=not judged,
        session=f"{cell.network}, {cell.threads}",
        batch=1,
        latency=latency,
        ratio=None if ratio is None else _ratio(ratio),
        energy=_energy(base_s * (ratio or 1)) if energy else NoEnergy(reason="no sensor here"),
        facts=_facts(cell, size, work, judged=judged, drop=0.004 * (index % 3)),
        flags=("slower than its original (× 1.60)",) if ratio and ratio > 1.1 else (),
    )


def _ratio(value: float) -> Ratio:
    found = Estimate(value=value, low=value * 0.97, high=value * 1.04)
    verdict = "faster" if found.high < 1 else "slower" if found.low > 1 else "not told apart"
    return Ratio(wall=found, cpu=found, verdict=verdict)


def _energy(time_s: float) -> EnergyRecord:
    cycle = _filled(
        EnergyCycle,
        load_s=1.0,
        busy_s=1.0,
        inferences=100,
        total_j=900 * time_s,
        dynamic_j=500 * time_s,
        updates_seen=(1, 1, 1),
        updates_expected=(1.0, 1.0, 1.0),
    )
    return _filled(
        EnergyRecord,
        sensor="invented",
        rails=("all",),
        cycles=(cycle,) * 6,
        latency=measured("latency_s", time_s),
    )


def _filled(cls: Any, **given: Any) -> Any:
    """A value whose other fields do not matter here."""
    empty = {"int": 0, "float": 0.0, "bool": False, "str": ""}
    rest = {
        field.name: empty.get(str(field.type), ())
        for field in dataclasses.fields(cls)
        if field.name not in given and field.default is dataclasses.MISSING
    }
    return cls(**given, **rest)


def _facts(cell: Cell, size: float, work: float, *, judged: bool, drop: float) -> Facts:
    shares = {"pointwise Conv": 0.5, "depthwise Conv": 0.2, "dense Conv": 0.15, "Add": 0.05}
    shares |= {"layout": 0.04, "quantize": 0.03, UNEXPLAINED: 0.03}
    rows = tuple(
        _filled(TypeRow, kind=kind, time_s=2e-3 * share, share=share, limit_share=None, limit=None)
        for kind, share in shares.items()
    )
    is_original = cell.variant == "original"
    return Facts(
        size=ModelSize(
            file_bytes=int(size), weight_bytes=int(size), parameters=1, bytes_by_type={}
        ),
        macs=int(2e8 * work),
        precision="i8" if cell.variant == "int8" else "f32",
        execution=None,
        cold=Greeting(
            import_s=0.02, load_s=0.03, first_s=0.01, base_bytes=int(4e7), peak_bytes=int(9e7)
        ),
        operators=Operators(by_type=rows, total_s=2e-3) if cell.runtime == "onnxruntime" else None,
        score=_score(0.88 - 0.01 * work % 0.2 - (0 if is_original else drop), is_original, drop)
        if judged and cell.runtime != "torch"
        else None,
        no_score="" if judged else "random weights: its accuracy would mean nothing",
        estimated_energy_j=1e-3 * work,
    )


def _score(accuracy: float, is_original: bool, drop: float) -> Score:
    share = wilson(round(accuracy, 3), 1000)
    return Score(
        set="report",
        n=1000,
        accuracy=share,
        top5=wilson(0.98, 1000),
        averages=Averages(precision=share, recall=share, f1=share),
        ece=Estimate(value=0.02, low=0.01, high=0.03),
        agreement=None if is_original else 0.98,
        drop=None if is_original else Estimate(value=drop, low=drop - 0.004, high=drop + 0.004),
        metric="top1",
        metric_value=accuracy,
    )


def write_study(
    folder: Path,
    *,
    names: tuple[str, ...] = NAMES,
    threads: tuple[int, ...] = (1, 2),
    energy: bool = False,
    failing: tuple[str, ...] = (),
    title: str = "invented",
) -> Path:
    """A study's folder as `narrows study` leaves it."""
    asked = settings(names, threads=threads, title=title)
    journal = Journal(folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, asked)
    for cell in cells(asked):
        index = names.index(cell.network)
        if cell.network in failing:
            journal.append(FailedRecord(cell=cell, key="", reason="timm has no network 'none'"))
        else:
            judged = "Lite" in cell.network or "CIFAR" in cell.network
            journal.append(record(cell, index, judged=judged, energy=energy))
    return folder
