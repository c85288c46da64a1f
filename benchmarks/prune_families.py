"""Every reduced family, pruned to fewer MACs and retrained: what is lost, and what time is gained.

    python benchmarks/prune_families.py DATA FAMILIES OUT [--families ...] [--methods units ...]
    python benchmarks/prune_families.py DATA FAMILIES OUT --time --out FILE.json

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar), FAMILIES what benchmarks/train_families.py
left. `units` removes units of small norm in blocks of 16, as ONNX Runtime computes them;
`torch-pruning` is that package's own pruner at the same MACs and in the same blocks (it is left out
where it is not installed; version 1.6.1 was used); `deepiot-macs` and `deepiot-latency` stop at a
share of the MACs or of the measured latency. All are retrained by the same loop and settings. The
best epoch is chosen on 5 000 of the training pictures, the test pictures are read once, when a row
is done. Every training is kept in OUT, so that an interrupted run goes on. An epoch is about a
minute of one core. `--time` times all rows of a family in one run, best on a quiet machine.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import shrinking
from narrows.compress import DeepIoT, Method, UnitPruning
from narrows.compress.costs import Cost, UnitCosts
from narrows.compress.units import find
from narrows.files import make_folder, write_atomic
from narrows.measure.latency import Schedule, compare
from narrows.measure.workers import open_contender
from narrows.task import Task
from narrows.train import (
    TrainingTask,
    TrainSettings,
    crop_and_flip,
    score,
    train,
    training_task,
)
from narrows.zoo.cifar import cifar10
from narrows.zoo.export import export
from narrows.zoo.families import FAMILIES

# Dense convolutions gain from bf16 on AMX; depthwise ones lose.
DEPTHWISE: Final = ("cifar_mobilenet_v1", "cifar_mobilenet_v2")
LEAST_GAIN: Final = 0.6  # of what the MACs saved would give


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    if not options.time:
        task = cifar10(options.data)
        for seed in options.seeds:
            for family in options.families:
                for method in options.methods:
                    print(text(_row(task, family, method, seed, options)), flush=True)
        return
    rows = [
        json.loads(path.read_text()) for path in sorted(options.folder.glob("cifar_*-*-*.json"))
    ]
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        add_times_(mine, options.folder / f"{family}-original.onnx")
    for row in rows:
        print(text(row))
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(
    task: Task, family: str, method: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Prune, retrain and judge, or read what was found."""
    name = f"{family}-{method}-{seed}"
    path = make_folder(options.folder) / f"{name}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    weights = options.trained / f"{family}.safetensors"
    asked = training_task(
        task,
        FAMILIES[family].build(weights=weights).eval(),
        batch_size=64,
        augment=crop_and_flip,
        seed=seed,
    )
    settings = TrainSettings(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        precision="f32" if family in DEPTHWISE else "bf16",
        seed=seed,
    )
    pruned, found = METHODS[method](asked, settings, options, options.folder / name)
    row = {"row": name, "family": family, "method": method, "seed": seed, "share": options.share}
    row |= _judged(asked, pruned, found)
    for kind, model in ((f"{family}-original", asked.model), (name, found)):
        proto = export(model, task.input_shape, name=kind)
        write_atomic(options.folder / f"{kind}.onnx", proto.SerializeToString())
    write_atomic(path, json.dumps(row, indent=1) + "\n")
    return row


def _judged(asked: TrainingTask, pruned: nn.Module | None, found: nn.Module) -> dict[str, Any]:
    """MACs, scores on choose, and losses on the report set before and after retraining."""
    made: dict[str, Any] = {"macs": macs(asked.model, asked), "macs_left": macs(found, asked)}
    models = {"original": asked.model, "pruned": pruned, "retrained": found}
    for name, model in models.items():
        if model is not None:
            made[f"choose_{name}"] = score(asked, model)
    if pruned is not None:
        made["pruned_drop_points"] = shrinking.both(asked, pruned)["drop_points"]
    return made | shrinking.both(asked, found)


def macs(model: nn.Module, asked: TrainingTask) -> float:
    """Multiply-accumulates of one picture."""
    return UnitCosts(model, find(model, asked.example), asked.example, "macs").whole


Made = tuple[nn.Module | None, nn.Module]


def _units(
    asked: TrainingTask, settings: TrainSettings, options: argparse.Namespace, folder: Path
) -> Made:
    pruned = _by_norm(asked, options)
    return pruned, _retrained(asked, pruned, settings, folder)


def _by_norm(asked: TrainingTask, options: argparse.Namespace) -> nn.Module:
    return UnitPruning(
        shares=(options.share,), cost="macs", norm="l2", multiple=options.multiple, retrain=None
    ).apply(asked)


def _torch_pruning(
    asked: TrainingTask, settings: TrainSettings, options: argparse.Namespace, folder: Path
) -> Made:
    """The smallest ratio of its pruner that leaves no more MACs than `units` does."""
    ours = macs(_by_norm(asked, options), asked)
    low, high = 0.0, 0.95
    pruned = _by_torch_pruning(asked, high, options.multiple)
    for _ in range(8):
        middle = (low + high) / 2
        tried = _by_torch_pruning(asked, middle, options.multiple)
        if macs(tried, asked) <= ours:
            pruned, high = tried, middle
        else:
            low = middle
    return pruned, _retrained(asked, pruned, settings, folder)


def _by_torch_pruning(asked: TrainingTask, ratio: float, multiple: int) -> nn.Module:
    import torch_pruning as tp

    model = copy.deepcopy(asked.model)
    classifier = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    tp.pruner.BasePruner(
        model,
        asked.example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        round_to=multiple,
        ignored_layers=[classifier],
    ).step()
    return model.eval()


def _deepiot(
    cost: Cost,
    asked: TrainingTask,
    settings: TrainSettings,
    options: argparse.Namespace,
    folder: Path,
) -> Made:
    search = replace(settings, learning_rate=0.01, schedule="constant", warmup=0.0)
    method: Method = DeepIoT(
        share=options.share, cost=cost, multiple=options.multiple, search=search, finetune=settings
    )
    return None, method.apply(asked, folder=folder, progress=lambda line: print(line, flush=True))


METHODS: Final[dict[str, Callable[..., Made]]] = {
    "units": _units,
    "torch-pruning": _torch_pruning,
    "deepiot-macs": lambda *given: _deepiot("macs", *given),
    "deepiot-latency": lambda *given: _deepiot("latency", *given),
}


def _retrained(
    asked: TrainingTask, pruned: nn.Module, settings: TrainSettings, folder: Path
) -> nn.Module:
    return train(
        replace(asked, model=pruned),
        settings,
        folder=folder,
        device="cpu",
        progress=lambda e: print(
            f"{folder.name}: epoch {e.number}, {e.score:.2%}, {e.seconds:.0f} s", flush=True
        ),
    ).model


def add_times_(rows: list[dict[str, Any]], original: Path) -> None:
    """Time all rows beside the original in one run, and write into each what was found.

    Args:
        rows: Each with the name of its ONNX file, which lies beside the original's.
        original: The original's file.
    """
    paths = {"original": original}
    paths |= {row["row"]: original.with_name(f"{row['row']}.onnx") for row in rows}
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(open_contender(path, name=name))
            for name, path in paths.items()
        }
        taken = compare(contenders, schedule=Schedule(session_s=20, limit_s=90))
    for row in rows:
        ratio = taken.ratio("original", row["row"])
        row["latency_s"] = taken.measurements[row["row"]].estimate
        row["original_latency_s"] = taken.measurements["original"].estimate
        row["faster"], row["faster_interval"] = ratio.estimate, ratio.interval
        asked = LEAST_GAIN * (row["macs"] / row["macs_left"] - 1)
        row["gain_holds"] = ratio.estimate - 1 >= asked and ratio.interval[0] > 1


def text(row: dict[str, Any]) -> str:
    """One line of what was found."""
    (drop, low, high), left = row["drop_points"], row["macs_left"] / row["macs"]
    before = f"{row['pruned_drop_points'][0]:+.2f}" if "pruned_drop_points" in row else "–"
    said = (
        f"{row['row']:34} MACs left {left:.1%}, parameters {row['parameters_left_percent']:.1f} %, "
        f"error {row['error_dense_percent']:.2f} → {row['error_percent']:.2f} %, drop "
        f"{before} before, {drop:+.2f} ({low:+.2f} to {high:+.2f}) after retraining"
    )
    if "faster" in row:
        low, high = row["faster_interval"]
        share = (row["faster"] - 1) / (row["macs"] / row["macs_left"] - 1)
        said += f", {row['faster']:.2f} × ({low:.2f}–{high:.2f}) faster, {share:.2f} of the MACs'"
    return said


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("trained", type=Path, help="what train_families.py left")
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=["units", "torch-pruning"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.69, help="of the MACs (0-1) left at most")
    parser.add_argument("--multiple", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--time", action="store_true", help="time what is there, train nothing")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
