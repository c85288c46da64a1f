"""A student of half the width, and a head of half the width, with and without their teacher.

    python benchmarks/distil.py DATA FAMILIES OUT [--seeds 0 1 2] [--out FILE.json]

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar), FAMILIES what benchmarks/train_families.py
left; the teacher is its VGG. `whole`: the same network at half its width. `head`: the teacher,
whose layers up to the cut (the third pooling) are replaced by ones of half the width, but for the
last before the cut; all after it is the teacher's and stays frozen. Both are trained twice from the
same random weights, by the same settings and batches: by the labels alone, and by the teacher
besides. Of the gap between the teacher and the student of the labels a share is recovered; asked
for are 30 %. The best epoch is chosen on 5 000 of the training pictures; the test pictures are read
once, when a row is done. Every training is kept in OUT, so that an interrupted run goes on. A
training takes about eight minutes of one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torchvision.models.vgg import make_layers

import shrinking
from narrows.compress import Distillation
from narrows.files import make_folder, write_atomic
from narrows.task import Task
from narrows.train import TrainingTask, TrainSettings, crop_and_flip, training_task
from narrows.zoo.cifar import cifar10
from narrows.zoo.families import FAMILIES
from prune_families import macs

TEACHER: Final = FAMILIES["cifar_vgg16"]
CUT: Final = "0.23"
HEAD: Final = (8, 8, "M", 16, 16, "M", 32, 32, 64, "M")
ROWS: Final = ("whole", "head")
LABELS, TAUGHT = "labels", "taught"
LEAST: Final = 0.3


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = cifar10(options.data)
    rows = []
    for seed in options.seeds:
        for kind in options.rows:
            rows.append(_row(task, kind, seed, options))
            print(_text(rows[-1]), flush=True)
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(task: Task, kind: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train a student twice and judge it beside its teacher, or read what was found."""
    path = make_folder(options.folder) / f"{kind}-{seed}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    teacher = TEACHER.build(weights=TEACHER.weights(options.trained)).eval()
    student = _whole(seed) if kind == "whole" else _with_head(teacher, seed)
    asked = training_task(task, student, batch_size=64, augment=crop_and_flip, seed=seed)
    settings = TrainSettings(epochs=options.epochs, warmup=0.2, precision="bf16", seed=seed)
    taught = Distillation(training=settings, cut=CUT if kind == "head" else None)
    methods = {LABELS: replace(taught, weight=0.0, feature_weight=0.0), TAUGHT: taught}
    row: dict[str, Any] = {"row": kind, "seed": seed, "epochs": options.epochs}
    for name, method in methods.items():
        found = method.apply(
            replace(asked, teacher=teacher),
            folder=options.folder / f"{kind}-{name}-{seed}",
            progress=_teller(f"{kind} {name} {seed}"),
        )
        row |= _judged(name, asked, teacher, found)
    gap = row["labels_error_percent"] - row["teacher_error_percent"]
    row["gap_points"] = gap
    row["recovered"] = (row["labels_error_percent"] - row["taught_error_percent"]) / gap
    write_atomic(path, json.dumps(row, indent=1) + "\n")
    return row


def _whole(seed: int) -> nn.Module:
    return replace(TEACHER, width=TEACHER.width / 2).build(seed=seed)


def _with_head(teacher: nn.Module, seed: int) -> nn.Module:
    """The teacher, with narrower layers up to the cut under the same names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make_layers(list(HEAD), batch_norm=True)
    student = copy.deepcopy(teacher)
    assert f"0.{len(head) - 1}" == CUT
    student[0] = nn.Sequential(*head, *student[0][len(head) :])
    return student.train()


def _judged(name: str, asked: TrainingTask, teacher: nn.Module, found: nn.Module) -> dict[str, Any]:
    """Errors on the report set of the student and its teacher, and the paired difference."""
    both = shrinking.both(replace(asked, model=teacher), found)
    return {
        "teacher_error_percent": both["error_dense_percent"],
        f"{name}_error_percent": both["error_percent"],
        f"{name}_drop_points": both["drop_points"],
        "parameters_left_percent": both["parameters_left_percent"],
        "macs_left_percent": 100 * macs(found, asked) / macs(teacher, asked),
    }


def _teller(what: str) -> Any:
    return lambda line: print(f"{what}: {line}", flush=True)


def _text(row: dict[str, Any]) -> str:
    size = f"{row['macs_left_percent']:.1f} % of MACs, {row['parameters_left_percent']:.1f} %"
    names = ("teacher", LABELS, TAUGHT)
    errors = ", ".join(f"{row[f'{name}_error_percent']:.2f} % ({name})" for name in names)
    return (
        f"{row['row']} seed {row['seed']}: {size} of parameters; error {errors}: "
        f"{row['recovered']:.0%} of a gap of {row['gap_points']:.2f} points recovered"
    )


def _summary(rows: list[dict[str, Any]]) -> None:
    for kind in dict.fromkeys(row["row"] for row in rows):
        found = [row["recovered"] for row in rows if row["row"] == kind]
        median = statistics.median(found)
        judged = "met" if median >= LEAST else "not met"
        print(f"{kind}: median over seeds {median:.0%}, asked {LEAST:.0%}: {judged}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("trained", type=Path, help="what train_families.py left")
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
