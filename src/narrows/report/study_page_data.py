"""What the script of a study's page reads: a row for each cell, claims, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from narrows.measure.energy import EnergyRecord, NoEnergy
from narrows.measure.intervals import Estimate
from narrows.report.study_colours import (
    SYMBOLS,
    operator_colours,
    operator_shares,
    variant_colours,
)
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title
from narrows.study.claims import answer, time_ratio
from narrows.study.record import MeasuredRecord

Json = dict[str, Any]


def study_page_data(scene: StudyScene) -> Json:
    """Everything the page draws, as what JSON can hold."""
    shares = operator_shares(scene)
    types = list(next(iter(shares.values()), {}))
    return {
        "scope": scene.scope,
        "networks": scene.networks,
        "variants": _coloured(variant_colours(scene.variants)),
        "runtimes": [
            {"key": key, "label": runtime_title(key), "symbol": SYMBOLS[i % len(SYMBOLS)]}
            for i, key in enumerate(scene.runtimes)
        ],
        "compiled": scene.compiled,
        "threads": scene.threads,
        "types": _coloured(operator_colours(types)),
        "operators": [
            {"network": n, "variant": v, "runtime": r, "shares": list(found.values())}
            for (n, v, r), found in shares.items()
        ],
        "rows": [_row(record) for record in scene.records],
        "failed": scene.failures(),
        "failed_cells": len(scene.failed),
        "missing": scene.missing,
        "answer": answer(scene.claims),
        "claims": [{**asdict(claim), "sentence": claim.sentence} for claim in scene.claims],
        "facts": _facts(scene),
    }


def _coloured(colours: dict[str, tuple[str, str]]) -> list[Json]:
    return [{"key": key, "light": pair[0], "dark": pair[1]} for key, pair in colours.items()]


def _facts(scene: StudyScene) -> list[list[str]]:
    trained = [name for name in scene.networks if _is_judged(scene, name)]
    first = scene.records[0].latency
    rounds = sorted({len(record.latency.round_sizes) for record in scene.records})
    counts = str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    return [
        ["networks", str(len(scene.networks))],
        ["with accuracy", str(len(trained))],
        ["cells", str(len(scene.records))],
        ["rounds", counts],
        ["machine", scene.scope],
        ["narrows", first.environment.narrows],
    ]


def _is_judged(scene: StudyScene, network: str) -> bool:
    own = (record for record in scene.records if record.cell.network == network)
    return any(record.facts.score is not None for record in own)


def _row(record: MeasuredRecord) -> Json:
    facts, latency, energy = record.facts, record.latency, record.energy
    measured = energy if isinstance(energy, EnergyRecord) else None
    return {
        **asdict(record.cell),
        "time": _interval(latency.median, latency.interval),
        "p90": latency.p90,
        "p99": latency.p99,
        "cpu": latency.cpu.median,
        "contended": latency.contended,
        "ratio": None if record.ratio is None else asdict(time_ratio(record)),
        "verdict": "" if record.ratio is None else record.ratio.verdict,
        "size": facts.size.file_bytes,
        "parameters": facts.size.parameters,
        "macs": facts.macs,
        "peak": facts.cold.peak_bytes,
        "load": facts.cold.load_s,
        "first": facts.cold.first_s,
        "precision": facts.precision,
        "energy": measured and _interval(measured.dynamic_j.median, measured.dynamic_j.interval),
        "no_energy": energy.reason if isinstance(energy, NoEnergy) else "",
        "estimated": facts.estimated_energy_j,
        **_score(record),
        "random": record.random_weights,
        "flags": record.flags,
    }


def _score(record: MeasuredRecord) -> Json:
    score = record.facts.score
    if score is None:
        names = ("accuracy", "top5", "precision_macro", "recall", "f1", "ece", "agreement", "drop")
        return {**dict.fromkeys(names), "n": 0, "no_score": record.facts.no_score}
    means = score.averages
    return {
        "accuracy": score.accuracy and asdict(score.accuracy),
        "top5": score.top5 and score.top5.value,
        "precision_macro": means and means.precision.value,
        "recall": means and means.recall.value,
        "f1": means and means.f1.value,
        "ece": score.ece and score.ece.value,
        "agreement": score.agreement,
        "drop": score.drop and asdict(score.drop),
        "n": score.n,
        "no_score": "",
    }


def _interval(value: float, ends: Sequence[float]) -> Json:
    return asdict(Estimate(value=value, low=ends[0], high=ends[1]))
