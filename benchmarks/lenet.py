"""LeNet-5 and LeNet-300-100 on MNIST, dense and made smaller by every method, for several seeds.

    python benchmarks/lenet.py DATA OUT [--seeds 0 1 2] [--rows deepiot ...] [--out FILE.json]

DATA is a folder with MNIST (see narrows.zoo.mnist). Everything is chosen on 5 000 of the training
pictures; the test pictures are read once by each row, when it is done. Every training is kept in
OUT, so that an interrupted run goes on. Sizes are of weights, as the papers count them, of all
parameters, and of the ONNX files; the compressed LeNet-5 is timed against the dense one in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn

import shrinking
from narrows.compress import (
    Chain,
    DeepIoT,
    Distillation,
    DynamicNetworkSurgery,
    MagnitudePruning,
    Method,
    SparseSep,
    SurgerySettings,
)
from narrows.files import write_atomic
from narrows.task import Task
from narrows.train import Mixup, TrainSettings, training_task
from narrows.zoo.lenet import lenet5, lenet_300_100
from narrows.zoo.mnist import mnist

TUNE: Final = TrainSettings(epochs=15, learning_rate=0.01, weight_decay=5e-4)
SEARCH: Final = TrainSettings(
    epochs=6, learning_rate=0.005, schedule="constant", warmup=0.0, weight_decay=5e-4
)
NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "LeNet-5": lenet5,
    "LeNet-300-100": lenet_300_100,
}
DENSE: Final = {
    "LeNet-5": TrainSettings(epochs=20, learning_rate=0.01, weight_decay=5e-4),
    "LeNet-300-100": TrainSettings(epochs=20, learning_rate=0.05, weight_decay=5e-4),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        network: Name of the network.
        method: What makes it smaller.
        paper: Share of the weights that the paper leaves, in per cent.
        mixtures: α of mixtures of pictures, on which at last the dense network's answers are
            learned; 0 does without.
    """

    network: str
    method: Method
    paper: float
    mixtures: float = 0.0


# Of what a method left, by the dense network.
LEARN: Final = Distillation(
    training=TrainSettings(epochs=60, learning_rate=0.02, weight_decay=1e-4, clip_norm=1.0),
    temperature=2.0,
)


def _surgery(learning_rate: float, **rates: float) -> DynamicNetworkSurgery:
    """One training of 40 epochs, masks fixed after 25; c of each layer as given."""
    steps = 25 * 859
    rule = SurgerySettings(gamma=1e-4, iter_stop=steps)
    return DynamicNetworkSurgery(
        training=replace(TUNE, epochs=40, learning_rate=learning_rate),
        settings=rule,
        layers={name: replace(rule, c_rate=rate) for name, rate in rates.items()},
    )


def _deepiot(share: float, epochs: int) -> DeepIoT:
    """One round of the search, down to a share of what the one before left."""
    return DeepIoT(
        share=share,
        search=replace(SEARCH, epochs=epochs),
        finetune=replace(TUNE, epochs=4),
        learning_rate=3e-3,
    )


ROWS: Final = {
    "deepiot": Row(
        network="LeNet-5",
        method=Chain(
            methods=(
                _deepiot(0.25, 6),
                _deepiot(0.282, 8),
                _deepiot(0.28, 12),
            )
        ),
        paper=1.98,
        mixtures=0.4,
    ),
    "magnitude": Row(
        network="LeNet-5",
        method=MagnitudePruning(
            by="layer",
            targets=(0.7, 0.85, 0.925),
            layers={"conv1": (0.2, 0.3, 0.34), "ip2": (0.5, 0.7, 0.81)},
            retrain=replace(TUNE, epochs=10),
        ),
        paper=8.0,
    ),
    "surgery": Row(
        network="LeNet-5", method=_surgery(0.01, conv1=0.6, conv2=2.5, ip1=4.0, ip2=2.5), paper=2.35
    ),
    "sparsesep": Row(network="LeNet-5", method=SparseSep(max_drop=0.002), paper=72.39),
    "magnitude-300": Row(
        network="LeNet-300-100",
        method=MagnitudePruning(
            by="global", targets=(0.7, 0.85, 0.925), retrain=replace(TUNE, epochs=10)
        ),
        paper=8.0,
    ),
    "surgery-300": Row(
        network="LeNet-300-100",
        method=Chain(methods=(_surgery(0.02, ip1=8.0, ip2=3.0, ip3=0.0), LEARN)),
        paper=1.8,
    ),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = mnist(options.data)
    rows = []
    for seed in options.seeds:
        for name in options.rows:
            rows.append(_row(name, ROWS[name], task, seed, options.folder))
            print(
                f"{name} seed {seed} (paper {ROWS[name].paper} %): {shrinking.text(rows[-1])}",
                flush=True,
            )
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(name: str, row: Row, task: Task, seed: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(seed)
    asked = training_task(task, NETWORKS[row.network](), batch_size=64, seed=seed)
    place = folder / f"dense-{row.network}-{seed}"
    before = shrinking.dense(asked, replace(DENSE[row.network], seed=seed), place)
    place = folder / f"{name}-{seed}"
    tell = partial(print, f"{name} {seed}:", flush=True)
    found = row.method.apply(before, folder=place, progress=tell)
    if row.mixtures:
        mixed = Mixup(loader=before.fit, classes=10, alpha=row.mixtures, seed=seed)
        asked = replace(before, model=found, teacher=before.model, fit=mixed)
        found = LEARN.apply(asked, folder=place / "mixtures", progress=tell)
    made = {"row": name, "network": row.network, "seed": seed, "paper_percent": row.paper}
    made |= shrinking.both(before, found)
    return made if _sparse(row.method) else made | shrinking.timed(before, found, place)


def _sparse(method: Method) -> bool:
    """Whether the result is as large as before, with zeros in it."""
    parts = method.methods if isinstance(method, Chain) else (method,)
    return any(isinstance(part, MagnitudePruning | DynamicNetworkSurgery) for part in parts)


def _summary(rows: list[dict[str, Any]]) -> None:
    print("\nmedian over seeds")
    for name in dict.fromkeys(row["row"] for row in rows):
        mine = [row for row in rows if row["row"] == name]
        left, before, after = (
            statistics.median(row[key] for row in mine)
            for key in ("weights_left_percent", "error_dense_percent", "error_percent")
        )
        print(f"{name:14} {left:6.2f} % left, error {before:.2f} → {after:.2f} %")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
