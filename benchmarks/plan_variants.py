"""One plan of a network, in int8, pruned and distilled too, and its recommendation run for real.

    python benchmarks/plan_variants.py DATA FAMILIES OUT [--family NAME] [--out FILE.json]
    python benchmarks/plan_variants.py DATA FAMILIES OUT --packed --flash 0.2

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar), FAMILIES what benchmarks/train_families.py
left. The family is pruned to half its MACs and retrained, and a student of half its width learns
its answers; both trainings are kept in OUT and go on where they were stopped. `narrows plan` then
tries the original, both smaller networks and the int8 variant of each, the losses of all against
the original. What is recommended, and the best reported row of each variant, are deployed, served
by a `narrows serve` process behind a thin link, and every report picture goes through: accuracy,
bytes and latency must be those of the row. The latencies need a quiet machine. `--share` is what
the device may do of the original's multiply-accumulates. With `--packed` the original and the
pruned network are packed as well (`narrows pack`), and `--flash` is what may be kept on the device
of the original's bytes: a bundle of a packed variant holds the packed file. OUT/page is the report.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from narrows.cli import main as narrows
from narrows.cli.deploy import write_deployment
from narrows.compress import Distillation, Method, UnitPruning
from narrows.config import write_json
from narrows.errors import NothingFits
from narrows.files import make_folder, write_atomic
from narrows.graph.cost import total_macs
from narrows.graph.load import load
from narrows.packed import SUFFIX
from narrows.plan.candidate import Candidate
from narrows.plan.choose import choose
from narrows.plan.predict import Places
from narrows.plan.record import PlanRecord
from narrows.plan.store import PlanFolder
from narrows.task import Task
from narrows.train import TrainingTask, TrainSettings, crop_and_flip, training_task
from narrows.zoo.cifar import task as cifar10
from narrows.zoo.export import export
from narrows.zoo.families import FAMILIES
from plan_int8 import measured, places_of, print_row, print_variants, row_of
from prune_families import DEPTHWISE

DATA: Final = "NARROWS_DATA"
TASK: Final = "narrows.zoo.cifar:task"


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    os.environ[DATA] = str(options.data)
    out, task = make_folder(options.folder), cifar10()
    models = _models(task, options)
    with tempfile.TemporaryDirectory() as scratch:
        places = places_of(options, Path(scratch) / "tiny")
    folder = PlanFolder(path=out / "plan")
    _plan(models, places, options, folder)
    record = folder.read()
    print(record.explanation)
    print_variants(record)
    rows = {}
    for number, (why, candidate) in enumerate(_wanted(record, places).items()):
        bundle, _ = write_deployment(folder, candidate, out / f"bundle{number}", replace=True)
        rows[why] = row_of(candidate, measured(bundle, task, options), record)
        print_row(why, rows[why])
    passed = bool(rows) and all(row["agrees"] for row in rows.values())
    print(f"what was deployed answers as its row says: {passed}")
    if options.out:
        found = {"frontier": _counts(record), "rows": rows, "passed": passed}
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if passed else 1


def _models(task: Task, options: argparse.Namespace) -> dict[str, Path]:
    """The files of the original, the pruned and the distilled network."""
    family = FAMILIES[options.family]
    original = family.build(weights=family.weights(options.trained)).eval()
    student = family.build(width=family.width / 2)
    settings = TrainSettings(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        precision="f32" if options.family in DEPTHWISE else "bf16",
    )
    pruning = UnitPruning(shares=(options.left,), cost="macs", retrain=settings)
    teaching = Distillation(
        training=replace(settings, epochs=3 * options.epochs, learning_rate=0.1)
    )
    asked = training_task(_fewer(task, options.fit), original, batch_size=64, augment=crop_and_flip)
    taught = replace(asked, model=student, teacher=original)
    models = {
        options.family: _exported(asked, None, options.folder / "original"),
        "pruned": _exported(asked, pruning, options.folder / "pruned"),
        "distilled": _exported(taught, teaching, options.folder / "distilled"),
    }
    if options.packed:
        models["packed"] = _packed(models[options.family])
        models["pruned-packed"] = _packed(models["pruned"])
    return models


def _packed(path: Path) -> Path:
    """The packed file of a model; what a former run made is used."""
    target = path.with_suffix(SUFFIX)
    if not target.is_file() and (
        code := narrows(["pack", str(path), "--task", TASK, "-o", str(target)])
    ):
        sys.exit(code)
    return target


def _exported(asked: TrainingTask, method: Method | None, stem: Path) -> Path:
    """The ONNX file of what a method makes of a network; what a former run made is used."""
    path = stem.with_suffix(".onnx")
    if not path.is_file():
        made = asked.model if method is None else method.apply(asked, folder=stem, progress=print)
        proto = export(made, tuple(asked.example.shape[1:]), name=stem.name)
        write_atomic(path, proto.SerializeToString())
    return path


def _fewer(task: Task, count: int | None) -> Task:
    """The task with fewer pictures to fit on."""
    if count is None:
        return task
    fit = task.fit
    return replace(task, fit=replace(fit, sources=fit.sources[:count], labels=fit.labels[:count]))


def _plan(
    models: dict[str, Path], places: Places, options: argparse.Namespace, folder: PlanFolder
) -> None:
    """One command plans all of them, another draws the page."""
    path, smaller = models[options.family], list(models.items())[1:]
    words = ["plan", str(path), "--task", TASK, "--out", str(folder.path)]
    for name, file in smaller:
        words += ["--variant", f"{name}={file}"]
    for name in ("device", "link", "cloud"):
        file = options.folder / f"{name}.json"
        write_json(file, getattr(places, name))
        words += [f"--{name}", str(file)]
    words += ["--max-drop", str(options.max_drop), "--pictures", "jpeg,webp"]
    words += ["--max-macs", str(options.share * total_macs(load(path)))]
    if options.flash is not None:
        words += ["--max-flash", str(options.flash * path.stat().st_size)]
    if options.examples is not None:
        words += ["--examples", str(options.examples)]
    if options.pictures is not None:
        words += ["--report-examples", str(options.pictures)]
    print("narrows", *words)
    if code := narrows(words):
        sys.exit(code)
    narrows(["report", str(folder.path), "-o", str(options.folder / "page"), "--no-figures"])


def _wanted(record: PlanRecord, places: Places) -> dict[str, Candidate]:
    """The recommended row, and the best one of each variant where that is another."""
    found: dict[str, Candidate] = {}
    if record.chosen is not None:
        found["recommended"] = record.candidate(record.chosen)
    for variant in record.variants:
        mine = [c for c in record.candidates if c.variant == variant.name and c.report is not None]
        try:
            best = choose(mine, record.constraints, record.objective, places) if mine else None
        except NothingFits:
            continue
        if best is not None and best not in found.values():
            found[f"best of {variant.name}"] = best
    return found


def _counts(record: PlanRecord) -> dict[str, Any]:
    """Candidates of each variant on the frontier."""
    on = [c for c in record.candidates if c.on_frontier]
    return {v.name: sum(c.variant == v.name for c in on) for v in record.variants}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("trained", type=Path, help="folder of the trained families")
    parser.add_argument("folder", type=Path, help="keep trainings, plan and bundles here")
    parser.add_argument("--family", choices=list(FAMILIES), default="cifar_resnet50")
    parser.add_argument("--left", type=float, default=0.5, help="share of the MACs, pruned")
    parser.add_argument("--epochs", type=int, default=6, help="of retraining; thrice to distil")
    parser.add_argument("--learning-rate", type=float, default=0.02, help="of retraining")
    parser.add_argument("--fit", type=int, help="pictures to train on")
    parser.add_argument("--share", type=float, default=0.4, help="of the MACs, on the device")
    parser.add_argument("--packed", action="store_true", help="packed variants, too")
    parser.add_argument("--flash", type=float, help="share of the bytes, kept on the device")
    parser.add_argument("--max-drop", type=float, default=0.02)
    parser.add_argument("--bandwidth", type=float, default=1e6, help="bits a second")
    parser.add_argument("--round-trip", type=float, default=0.02, help="seconds")
    parser.add_argument("--examples", type=int, help="of the fit and of the choose set")
    parser.add_argument("--pictures", type=int, help="of the report set")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
