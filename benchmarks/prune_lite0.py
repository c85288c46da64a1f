"""EfficientNet-Lite0 at full size, pruned to fewer MACs and taught by itself on a few pictures.

    python benchmarks/prune_lite0.py DATA OUT [--shares 0.85 0.69] [--out FILE.json]

DATA holds fit.csv (500 pictures, of which 350 are learned from and 150 choose) and report.csv (800
pictures). Units of small norm go in blocks of 16, then the original teaches what is left
(Distillation). Five hundred pictures are a 2 500th of what the network was trained on, so the loss
says what pruning costs without the training data, and no more. The report pictures are read once by
each share. Trainings are kept in OUT. An epoch is about half a minute of one core. `--time` times
what is there in one run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import shrinking
from int8_lite0 import task_of
from narrows.compress import Distillation, UnitPruning
from narrows.files import make_folder, write_atomic
from narrows.graph.cost import total_macs
from narrows.graph.load import load
from narrows.train import TrainingTask, TrainSettings, crop_and_flip, training_task
from narrows.zoo.export import export
from narrows.zoo.sources import network
from prune_families import add_times_, text

MODEL: Final = "zoo:efficientnet_lite0"
ORIGINAL: Final = "original"


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    if options.time:
        found = sorted(options.folder.glob("lite0-*.json"))
        rows = [json.loads(path.read_text()) for path in found]
        add_times_(rows, options.folder / f"{ORIGINAL}.onnx")
    else:
        task = task_of(options.data, MODEL)
        original = network(MODEL)[0].eval()
        shifted = partial(crop_and_flip, margin=16)
        asked = training_task(task, original, batch_size=25, augment=shifted)
        rows = [_row(asked, share, options) for share in options.shares]
    for row in rows:
        print(text(row))
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(asked: TrainingTask, share: float, options: argparse.Namespace) -> dict[str, Any]:
    """Prune, teach and judge, or read what was found."""
    name = f"lite0-{share}"
    path = make_folder(options.folder) / f"{name}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    pruning = UnitPruning(shares=(share,), cost="macs", norm="l2", multiple=16, retrain=None)
    pruned = pruning.apply(asked)
    settings = TrainSettings(epochs=options.epochs, learning_rate=0.01, weight_decay=1e-5)
    found = Distillation(training=settings, temperature=1.0).apply(
        replace(asked, model=pruned, teacher=asked.model),
        folder=options.folder / name,
        progress=lambda line: print(f"{name}: {line}", flush=True),
    )
    macs = {
        kind: total_macs(load(_exported(model, asked, options.folder, kind)))
        for kind, model in ((ORIGINAL, asked.model), (name, found))
    }
    row = {"row": name, "share": share, "epochs": options.epochs}
    row |= {"macs": macs[ORIGINAL], "macs_left": macs[name]}
    row |= {"pruned_drop_points": shrinking.both(asked, pruned)["drop_points"]}
    row |= shrinking.both(asked, found)
    write_atomic(path, json.dumps(row, indent=1) + "\n")
    return row


def _exported(model: nn.Module, asked: TrainingTask, folder: Path, name: str) -> Path:
    path = folder / f"{name}.onnx"
    proto = export(model, tuple(asked.example.shape[1:]), name=name)
    write_atomic(path, proto.SerializeToString())
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.85, 0.69])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--time", action="store_true", help="time what is there, train nothing")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
