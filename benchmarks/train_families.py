"""Train every reduced family on CIFAR-10 and export it, so that accuracy can be measured.

    python benchmarks/train_families.py DATA OUT [--families cifar_vgg16 ...] [--epochs 20]

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar). For each family OUT gets NAME.safetensors,
NAME.onnx, NAME.json (what was trained, how long, how good) and NAME/ (the checkpoint). An
interrupted run goes on where it stopped, and what is finished is not done again. The report set is
read once for each family, after its training. An epoch of any of them is about a minute of one
core; two commands with different families use two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch

from narrows.config import to_dict
from narrows.errors import NarrowsError
from narrows.files import write_atomic
from narrows.graph import load
from narrows.graph.cost import total_macs
from narrows.measure.environment import environment
from narrows.task import Task
from narrows.train import (
    Stages,
    TrainingTask,
    TrainSettings,
    crop_and_flip,
    outputs,
    train,
    training_task,
)
from narrows.zoo.cifar import cifar10
from narrows.zoo.export import export
from narrows.zoo.families import FAMILIES, Family

# Dense convolutions gain from bf16 on AMX; depthwise ones lose.
DEPTHWISE: Final = ("cifar_mobilenet_v1", "cifar_mobilenet_v2")
# These take a smaller picture too: windows of 24 × 24, which cost a third less.
SMALL: Final = (*DEPTHWISE, "cifar_inception_v1", "cifar_resnet50")


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    try:
        task = cifar10(options.data, seed=0)
        rows = [_family(FAMILIES[name], task, options) for name in options.families]
    except NarrowsError as error:
        print(error, file=sys.stderr)
        return 1
    _print(rows)
    return 0


def _family(family: Family, task: Task, options: argparse.Namespace) -> dict[str, Any]:
    record = options.out / f"{family.name}.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    settings = TrainSettings(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        warmup=0.2,
        precision="f32" if family.name in DEPTHWISE else options.precision,
        seed=options.seed,
    )
    asked = _asked(family, task, settings, options)
    processor = time.process_time()
    trained = train(
        asked,
        settings,
        folder=options.out / family.name,
        device="cpu",
        progress=lambda e: print(
            f"{family.name} {e.number}/{settings.epochs}: loss {e.loss:.3f}, choose {e.score:.2%}, "
            f"{e.seconds:.0f} s ({time.process_time() - processor:.0f} s of processor)",
            flush=True,
        ),
    )
    row = _exported(family, task, trained.model, options)
    row |= {
        "epochs": len(trained.history),
        "small_share": options.small_share if family.name in SMALL else 0.0,
        "best_epoch": trained.best.number,
        "seconds": sum(epoch.seconds for epoch in trained.history),
        "choose_top1_training": trained.best.score,
    }
    row |= {"choose_top1_torch": float(task.metric(*outputs(trained.model, asked.choose)))}
    write_atomic(record, json.dumps(row, indent=1) + "\n")
    print(json.dumps(row), flush=True)
    return row


def _asked(
    family: Family, task: Task, settings: TrainSettings, options: argparse.Namespace
) -> TrainingTask:
    """The network with its batches: shifted and mirrored pictures, for some small ones first."""
    asked = training_task(
        task,
        family.build(seed=options.seed),
        batch_size=options.batch_size,
        augment=crop_and_flip,
        seed=options.seed,
    )
    switch = round(options.small_share * settings.epochs)
    if family.name not in SMALL or not switch:
        return asked
    windows = partial(crop_and_flip, margin=0, size=24)
    small = training_task(
        task, asked.model, batch_size=options.batch_size, augment=windows, seed=options.seed
    )
    return replace(asked, fit=Stages(first=small.fit, then=asked.fit, switch=switch))


def _exported(
    family: Family, task: Task, model: torch.nn.Module, options: argparse.Namespace
) -> dict[str, Any]:
    """Write weights and ONNX, and score the ONNX model on the choose and report sets."""
    weights = (options.out / family.name / "best.safetensors").read_bytes()
    write_atomic(options.out / f"{family.name}.safetensors", weights)
    path = options.out / f"{family.name}.onnx"
    write_atomic(path, export(model, task.input_shape, name=family.name).SerializeToString())
    return {
        "name": family.name,
        "width": family.width,
        "stem": family.stem,
        "task": task.name,
        "division": task.division,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": total_macs(load(path)),
        "environment": to_dict(environment(threads=options.threads)),
        "choose_top1_onnx": _score(path, task, "choose"),
        "report_top1_onnx": _score(path, task, "report"),
    }


def _score(path: Path, task: Task, name: str) -> float:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    split, answers = task.sets[name], []
    for start in range(0, len(split), 250):
        x, _ = task.inputs(split, start, start + 250)
        answers.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    return float(task.metric(np.concatenate(answers), split.labels))


def _print(rows: list[dict[str, Any]]) -> None:
    print("family               width  parameters   M MACs  epochs  minutes  choose  report")
    for row in rows:
        print(
            f"{row['name']:20} {row['width']:5}  {row['parameters']:10,}  "
            f"{row['macs'] / 1e6:7.1f}  {row['epochs']:6}  "
            f"{row['seconds'] / 60:7.1f}  {row['choose_top1_onnx']:6.2%}  "
            f"{row['report_top1_onnx']:6.2%}"
        )
    print(f"in all {sum(row['seconds'] for row in rows) / 60:.0f} minutes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--small-share", type=float, default=0.0, help="of epochs on small windows")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
