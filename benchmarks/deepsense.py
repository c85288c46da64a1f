"""DeepSense on motion recordings, dense and made smaller by every method, for several seeds.

    python benchmarks/deepsense.py DATA.npz OUT [--seeds 3] [--tasks exercises identity]
        [--rows forest deepiot surgery ...] [--out FILE.json]

DATA.npz holds recordings of phones and watches (see narrows.zoo.activity_files.read_recordings).
The tasks are those of motion_tasks.py: what somebody does, no subject in two sets, and who it is,
no recording in two sets. Everything is chosen on the choose set; the report set is read once by
each row, when it is done. Losses are paired, with intervals of a bootstrap over recordings, because
windows of one recording overlap. Every training is kept in OUT, so that an interrupted run goes on.
The networks of DeepIoT and SparseSep are timed against the dense one in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import shrinking
from motion_forest import forest_answers
from motion_tasks import TASKS, Ready
from narrows.compress import (
    Chain,
    DeepIoT,
    Distillation,
    DynamicNetworkSurgery,
    Method,
    SparseSep,
    SurgerySettings,
    layer_table,
    taught,
)
from narrows.files import write_atomic
from narrows.train import Mixup, TrainingTask, TrainSettings, outputs, train, training_task
from narrows.zoo.deepsense import DeepSense

BATCH: Final = 64
# One to two thousand steps of each task.
DENSE: Final = {
    name: TrainSettings(
        epochs=epochs, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-2, precision="bf16"
    )
    for name, epochs in (("exercises", 3), ("identity", 18), ("movements", 5))
}
RECURRENT: Final = tuple(
    f"gru{number}.weight_{part}_l0" for number in (1, 2) for part in ("ih", "hh")
)
ROWS: Final = ("deepiot", "surgery", "dyns-ext", "sparsesep", "deepiot-least")
SPARSE: Final = ("surgery", "dyns-ext")
# Shares of the weights that the paper's tables 5 and 6 leave, in per cent.
PAPER: Final = {
    "exercises": dict(zip(ROWS, (6.16, 74.5, 17.1, 95.3, 6.16), strict=True)),
    "identity": dict(zip(ROWS, (1.13, 77.0, 7.76, 95.4, 1.13), strict=True)),
    "movements": dict(zip(ROWS, (6.16, 74.5, 17.1, 95.3, 6.16), strict=True)),
}

# Of the parameters, that each round of DeepIoT leaves of what the one before left.
SHARES: Final = {
    "deepiot": {"exercises": (0.06,), "identity": (0.29, 0.27), "movements": (0.06,)},
    "deepiot-least": {
        "exercises": (0.25, 0.12),
        "identity": (0.25, 0.24, 0.19),
        "movements": (0.25, 0.12),
    },
}


def method(row: str, task: str, steps: int) -> Method:
    """What makes the network of a row smaller, where an epoch has so many steps."""
    tune = replace(DENSE[task], learning_rate=1e-3)
    if row.startswith("deepiot"):
        searches = [
            DeepIoT(
                share=share,
                search=replace(tune, epochs=tune.epochs * 4 // 3, schedule="constant", warmup=0.0),
                finetune=replace(tune, epochs=tune.epochs // 3),
                learning_rate=5e-3,
            )
            for share in SHARES[row][task]
        ]
        return Chain(methods=tuple(searches))
    if row == "sparsesep":
        return SparseSep(max_drop=0.01)
    conv, recurrent = (
        SurgerySettings(c_rate=rate, gamma=1e-3, iter_stop=tune.epochs * steps * 2 // 3)
        for rate in (0.8, 1.5)
    )
    return DynamicNetworkSurgery(
        training=tune,
        settings=conv,
        layers={} if row == "surgery" else dict.fromkeys(RECURRENT, recurrent),
        skip=RECURRENT if row == "surgery" else (),
    )


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.first, options.first + options.seeds):
        for name in options.tasks:
            ready = TASKS[name](options.data, seed)
            for row in options.rows:
                rows.append(_row(name, row, ready, seed, options.folder))
                print(_text(rows[-1]), flush=True)
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(name: str, row: str, ready: Ready, seed: int, folder: Path) -> dict[str, Any]:
    dense = _dense(name, ready, seed, folder)
    if row == "forest":
        answers = forest_answers(ready.task, seed)
        return _judged(name, row, ready, seed, dense, answers == ready.task.report.labels)
    place = folder / f"{name}-{row}-{seed}"
    tell = partial(print, f"{name} {row} {seed}:", flush=True)
    made = method(row, name, len(dense.fit))
    if row.startswith("deepiot"):
        # In the search, too, the dense network's answers are learned; at last on mixtures.
        smaller = made.apply(taught(dense), folder=place, progress=tell)
        longer = Distillation(
            training=replace(DENSE[name], epochs=DENSE[name].epochs * 3), temperature=2.0
        )
        asked = replace(_mixed(dense, ready, seed), model=smaller, teacher=dense.model)
        found = longer.apply(asked, folder=place / "learn", progress=tell)
    else:
        found = made.apply(dense, folder=place, progress=tell)
    table = layer_table(found, dense.model)
    return {
        **_judged(name, row, ready, seed, dense, _right(dense, found)),
        "paper_percent": PAPER[name][row],
        "parameters_left_percent": 100 * table.share_left,
        "weights_left_percent": 100 * table.weight_share_left,
        "layers": {r.name: (r.units, r.weights, r.weights_left) for r in table.rows},
        **({} if row in SPARSE else shrinking.timed(dense, found, place)),
    }


def _judged(
    name: str, row: str, ready: Ready, seed: int, dense: TrainingTask, right: NDArray[np.bool_]
) -> dict[str, Any]:
    """Right answers of a row beside those of the dense network, window by window."""
    before = _right(dense, dense.model)
    lost = 100 * (before.astype(float) - right)
    return {
        "task": name,
        "row": row,
        "seed": seed,
        "accuracy_dense_percent": 100 * float(before.mean()),
        "accuracy_percent": 100 * float(right.mean()),
        "loss_points": float(lost.mean()),
        "loss_interval": _interval(lost, ready.recordings),
    }


def _dense(name: str, ready: Ready, seed: int, folder: Path) -> TrainingTask:
    """The reference, trained by the same loop, on mixtures where the task is."""
    torch.manual_seed(seed)
    classes = ready.task.classes or 0
    model = DeepSense(classes)
    made = training_task(ready.task, model, batch_size=BATCH, augment=ready.disturb, seed=seed)
    trained = train(
        _mixed(made, ready, seed),
        replace(DENSE[name], seed=seed),
        folder=folder / f"{name}-dense-{seed}",
        progress=lambda e: print(f"{name} {seed}: epoch {e.number}, {e.score:.2%}", flush=True),
    )
    return replace(made, model=trained.model)


def _mixed(asked: TrainingTask, ready: Ready, seed: int) -> TrainingTask:
    """The task with mixtures to learn from, where it has them."""
    if not ready.mixup:
        return asked
    classes = ready.task.classes or 0
    fit = Mixup(loader=asked.fit, classes=classes, alpha=ready.mixup, seed=seed)
    return replace(asked, fit=fit)


def _right(dense: TrainingTask, model: nn.Module) -> NDArray[np.bool_]:
    """Which of the report windows are answered right."""
    report = training_task(replace(dense.task, choose=dense.task.report), model)
    answers, labels = outputs(model, report.choose)
    return np.asarray(answers.argmax(1) == labels)


def _interval(
    lost: NDArray[np.float64], recordings: NDArray[np.int64], draws: int = 4000
) -> tuple[float, float]:
    """95 % interval of a mean over windows, recordings drawn with replacement."""
    _, places = np.unique(recordings, return_inverse=True)
    sums, counts = np.bincount(places, lost), np.bincount(places)
    drawn = np.random.default_rng(0).integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _text(row: dict[str, Any]) -> str:
    low, high = row["loss_interval"]
    left = row.get("parameters_left_percent")
    size = "" if left is None else f"{left:.2f} % left (paper {row['paper_percent']} %), "
    faster = f", {row['faster']:.2f} × faster" if "faster" in row else ""
    return (
        f"{row['task']:8} {row['row']:13} seed {row['seed']}: {size}accuracy "
        f"{row['accuracy_dense_percent']:.2f} → {row['accuracy_percent']:.2f} %, loss "
        f"{row['loss_points']:+.2f} ({low:+.2f} to {high:+.2f}) points{faster}"
    )


def _summary(rows: list[dict[str, Any]]) -> None:
    print("\nmedian over seeds")
    for name in dict.fromkeys((row["task"], row["row"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["row"]) == name]
        keys = ("parameters_left_percent", "accuracy_percent", "loss_points", "faster")
        medians = {
            key: statistics.median(row[key] for row in mine) for key in keys if key in mine[0]
        }
        print(" ".join(name), *(f"{key} {value:.2f}" for key, value in medians.items()), sep=", ")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", nargs="+", choices=("forest", *ROWS), default=("forest", *ROWS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
