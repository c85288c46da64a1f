"""The whole plan: fit, screen, run, choose, and read the report set once.

fit set      codecs of every planned cut                      fit.py
choose set   every rate on a part, what is worth it on all    points.py, alternatives.py
frontier and choice; then everything is frozen   frontier.py, choose.py
report set   once, for the frontier and the choice
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime

from narrows import __version__
from narrows.config import to_dict, write_json
from narrows.errors import NothingFits, PlanError
from narrows.measure.environment import environment
from narrows.plan.candidate import Candidate, Route, Score
from narrows.plan.choose import choose, misses, nearest_text
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.explain import explanation
from narrows.plan.frontier import frontier_ids
from narrows.plan.halves import INT8_SUFFIX
from narrows.plan.integers import Int8Run, int8_variant
from narrows.plan.predict import Places
from narrows.plan.record import PlanRecord, SetSizes
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages, Watcher
from narrows.plan.store import PlanFolder, Prepared
from narrows.plan.variant import Variant, VariantRun
from narrows.plan.winners import winners_map

Run = VariantRun | Int8Run

_REPORTED = 16
_SAMPLES = 4
_OF_QUALITY = ("min_accuracy", "max_drop", "min_agreement")


def plan(
    variants: Sequence[Variant],
    places: Places,
    constraints: Constraints,
    objective: Objective,
    out_dir: str | Path,
    *,
    settings: Settings | None = None,
    title: str = "",
    demonstration: bool = False,
    watcher: Watcher = lambda _title, _done, _total: None,
) -> PlanRecord:
    """Evaluate the candidates of all variants and choose one.

    An interrupted plan goes on where it stopped when it is called again with the same arguments.
    Where nothing fits, the record is written all the same, with nothing chosen and the nearest
    candidate in its explanation.

    Args:
        variants: Models with their tasks; their data are the same. One that names an original is
            judged against it and follows it.
        places: Device, link and cloud.
        constraints: Bounds.
        objective: What to make best.
        out_dir: Where plan.json, models and tables go.
        settings: What to try.
        title: For headings; by default the models and the task.
        demonstration: There are too few labelled examples for the metric to mean much.
        watcher: Told of every stage: title, done, total.

    Returns:
        The record, which is in plan.json as well.

    Raises:
        PlanError: A model scores like chance, a feature is not finite, a bound cannot be checked.
        TaskError: A model does not fit the task.
        StorageError: The disk is full; what is finished stays.
    """
    settings = settings or Settings()
    _check_names(variants, settings)
    folder = PlanFolder(path=Path(out_dir))
    folder.open(_key(variants, settings))
    stages = Stages(watcher)
    floats: dict[str | None, VariantRun] = {}
    for variant in variants:
        above = floats.get(variant.original)
        floats[variant.name] = VariantRun(
            variant, settings, constraints, places, folder, stages, above
        )
    for variant in variants:
        _keep(folder, variant)
    passes_s = [run.run() for run in floats.values()]
    runs, notes = _with_int8(list(floats.values()), settings, folder, stages)
    candidates = [candidate for run in runs for candidate in run.candidates()]
    with stages.stage("choosing"):
        candidates, chosen, words = _chosen(candidates, runs, constraints, objective, places)
        winners = winners_map(_eligible(candidates, runs), constraints, objective, places)
    settled = _settled(candidates, chosen, constraints, places)
    reports: dict[str, Score | None] = dict.fromkeys(run.variant.name for run in runs)
    if settings.report_examples != 0:
        candidates, reports = _reported(candidates, settled, runs)
    for one in floats.values():
        one.close()
    task = variants[0].task
    reported = next((score.n for score in reports.values() if score), 0)
    record = PlanRecord(
        title=title or f"{', '.join(v.name for v in variants)} on {task.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=task.name,
        metric=task.metric.name,
        classes=task.classes,
        sets=SetSizes(
            fit=min(len(task.fit), settings.fit_examples or len(task.fit)),
            choose=len(runs[0].choose),
            report=reported,
        ),
        demonstration=demonstration,
        variants=tuple(run.row(reports[run.variant.name]) for run in runs),
        candidates=tuple(candidates),
        frontier=tuple(c.id for c in candidates if c.on_frontier),
        chosen=chosen,
        explanation=" ".join([words, *notes]),
        winners=winners,
        device=places.device,
        link=places.link,
        cloud=places.cloud,
        constraints=constraints,
        objective=objective,
        stages=stages.taken,
        plain_pass_s=passes_s[0],
        environment=_environment_text(),
    )
    write_json(folder.record, record)
    folder.close()
    return record


def _with_int8(
    floats: Sequence[VariantRun], settings: Settings, folder: PlanFolder, stages: Stages
) -> tuple[list[Run], list[str]]:
    """The runs with those of their int8 variants, and why one is missing."""
    runs: list[Run] = []
    notes = []
    for base in floats:
        runs.append(base)
        if "int8" not in settings.numbers:
            continue
        try:
            variant = int8_variant(base.variant, settings, folder, stages)
        except PlanError as error:
            notes.append(f"{error}.")
            continue
        _keep(folder, variant)
        run = Int8Run(base, variant, settings, folder, stages)
        run.run()
        runs.append(run)
    return runs, notes


def _chosen(
    candidates: Sequence[Candidate],
    runs: Sequence[Run],
    constraints: Constraints,
    objective: Objective,
    places: Places,
) -> tuple[list[Candidate], str | None, str]:
    """Candidates with the frontier marked, the chosen id, and why."""
    eligible = _eligible(candidates, runs)
    frontier = set(frontier_ids(eligible))
    marked = [replace(c, on_frontier=c.id in frontier) for c in candidates]
    rows = [run.row(None) for run in runs]
    try:
        best = choose(eligible, constraints, objective, places)
    except NothingFits:
        return marked, None, nearest_text(eligible, constraints, places)
    words = explanation(best, eligible, rows, constraints, objective, places)
    return marked, best.id, words


def _eligible(candidates: Sequence[Candidate], runs: Sequence[Run]) -> list[Candidate]:
    """Those that saw the whole choose set."""
    whole = {run.variant.name: len(run.choose) for run in runs}
    return [c for c in candidates if c.choose.n == whole[c.variant]]


def _settled(
    candidates: Sequence[Candidate],
    chosen: str | None,
    constraints: Constraints,
    places: Places,
) -> list[Candidate]:
    """What the report set is read for: the choice, every whole model, the frontier that fits.

    "Fits" is about quality only; where nothing was chosen, all of the frontier. Fewest bytes
    first.
    """
    quality = Constraints(**{name: getattr(constraints, name) for name in _OF_QUALITY})
    frontier = [
        c
        for c in candidates
        if c.on_frontier and (chosen is None or not _quality_missed(c, quality, places))
    ]
    frontier.sort(key=lambda c: c.payload_bytes)
    picked = [c for c in candidates if c.id == chosen]
    picked += [c for c in frontier if c.route is Route.IMAGE and c.id != chosen][:1]
    # The whole models: what every figure is compared with.
    picked += [c for c in candidates if c.route is Route.LOCAL and c not in picked]
    picked += [c for c in frontier if c not in picked]
    whole = sum(c.route is Route.LOCAL for c in picked)
    return picked[: _REPORTED + whole]


def _quality_missed(candidate: Candidate, quality: Constraints, places: Places) -> bool:
    names = {miss.quantity for miss in misses(candidate, quality, places)}
    return bool(names & set(_OF_QUALITY))


def _reported(
    candidates: Sequence[Candidate], settled: Sequence[Candidate], runs: Sequence[Run]
) -> tuple[list[Candidate], dict[str, Score | None]]:
    """Candidates with what the report set says of the settled ones, and the variants' scores."""
    scores: dict[str, Score | None] = {}
    found: dict[str, Any] = {}
    for run in runs:
        mine = [c for c in settled if c.variant == run.variant.name]
        scores[run.variant.name], its = run.report(mine) if mine else (None, {})
        found.update(its)
    out = []
    for c in candidates:
        if c.id in found:
            score, drop, payload_bytes = found[c.id]
            c = replace(c, report=score, report_drop=drop, report_payload_bytes=payload_bytes)
        out.append(c)
    return out, scores


def _keep(folder: PlanFolder, variant: Variant) -> None:
    task = variant.task
    inputs, _ = task.inputs(task.choose, 0, min(_SAMPLES, len(task.choose)))
    prepared = Prepared(preprocess=task.preprocess, labels=task.labels)
    folder.save_variant(
        variant.name,
        variant.model.proto.SerializeToString(),
        prepared,
        inputs,
        packed=variant.packed and variant.packed.content(),
    )


def _check_names(variants: Sequence[Variant], settings: Settings) -> None:
    names = [variant.name for variant in variants]
    if "int8" in settings.numbers:
        names += [f"{name}{INT8_SUFFIX}" for name in names]
    if not names:
        msg = "there is nothing to plan: give at least one model"
        raise PlanError(msg)
    if len(set(names)) < len(names) or any("/" in name for name in names):
        msg = f"variants are called {names}: give each its own name, without a slash"
        raise PlanError(msg)
    originals: set[str | None] = {None}
    for variant in variants:
        if variant.original not in originals:
            known = ", ".join(sorted(name for name in originals if name)) or "none"
            msg = f"{variant.name} is given as a variant of {variant.original!r}: the models before"
            raise PlanError(f"{msg} it that are no variants are {known}")
        if variant.original is None:
            originals.add(variant.name)


def _key(variants: Sequence[Variant], settings: Settings) -> Mapping[str, Any]:
    """Everything that a kept result depends on, the data themselves included."""
    return {
        "versions": [__version__, onnxruntime.__version__],
        "settings": settings,
        "data": {name: split.digest() for name, split in variants[0].task.sets.items()},
        "variants": [
            {
                "name": v.name,
                "original": v.original,
                "digest": v.model.digest,
                "task": v.task.name,
                "preprocess": v.task.preprocess,
                "metric": v.task.metric.name,
                "sets": {name: len(split) for name, split in v.task.sets.items()},
            }
            for v in variants
        ],
    }


def _environment_text() -> dict[str, str]:
    return {name: str(value) for name, value in to_dict(environment()).items()}
