"""LeNet-5 and LeNet-300-100 on MNIST, dense and made smaller by every method, for several seeds.

    python benchmarks/lenet.py DATA OUT [--seeds 3] [--rows deepiot surgery ...] [--out FILE.json]

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
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn

from narrows.compress import (
    DeepIoT,
    DynamicNetworkSurgery,
    MagnitudePruning,
    Method,
    SparseSep,
    SurgerySettings,
    layer_table,
)
from narrows.files import write_atomic
from narrows.measure.latency import Schedule, compare
from narrows.measure.workers import open_contender
from narrows.task import Task
from narrows.train import TrainingTask, TrainSettings, outputs, train, training_task
from narrows.zoo.export import export
from narrows.zoo.lenet import lenet5, lenet_300_100
from narrows.zoo.mnist import mnist

DENSE: Final = TrainSettings(epochs=20, learning_rate=0.01, weight_decay=5e-4)
TUNE: Final = TrainSettings(epochs=15, learning_rate=0.01, weight_decay=5e-4)
SEARCH: Final = TrainSettings(
    epochs=16, learning_rate=0.005, schedule="constant", warmup=0.0, weight_decay=5e-4
)
NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "LeNet-5": lenet5,
    "LeNet-300-100": lenet_300_100,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        network: Name of the network.
        method: What makes it smaller.
        paper: Share of the weights that the paper leaves, in per cent.
    """

    network: str
    method: Method
    paper: float


def _surgery(**rates: float) -> DynamicNetworkSurgery:
    """One training of 40 epochs, masks fixed after 25; c of each layer as given."""
    steps = 25 * 859
    rule = SurgerySettings(gamma=1e-4, iter_stop=steps)
    return DynamicNetworkSurgery(
        training=replace(TUNE, epochs=40),
        settings=rule,
        layers={name: replace(rule, c_rate=rate) for name, rate in rates.items()},
    )


ROWS: Final = {
    "deepiot": Row(
        network="LeNet-5",
        method=DeepIoT(share=0.0195, search=SEARCH, finetune=replace(TUNE, epochs=40)),
        paper=1.98,
    ),
    "magnitude": Row(
        network="LeNet-5",
        method=MagnitudePruning(
            by="layer",
            targets=(0.7, 0.85, 0.92),
            layers={"conv1": (0.2, 0.3, 0.34), "ip2": (0.5, 0.7, 0.81)},
            retrain=TUNE,
        ),
        paper=8.0,
    ),
    "surgery": Row(
        network="LeNet-5", method=_surgery(conv1=0.5, conv2=2.0, ip1=3.0, ip2=2.0), paper=2.35
    ),
    "sparsesep": Row(network="LeNet-5", method=SparseSep(max_drop=0.002), paper=72.39),
    "magnitude-300": Row(
        network="LeNet-300-100",
        method=MagnitudePruning(by="global", targets=(0.7, 0.85, 0.92), retrain=TUNE),
        paper=8.0,
    ),
    "surgery-300": Row(
        network="LeNet-300-100", method=_surgery(ip1=2.2, ip2=2.2, ip3=1.5), paper=1.8
    ),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = mnist(options.data)
    rows = []
    for seed in range(options.seeds):
        for name in options.rows:
            rows.append(_row(name, ROWS[name], task, seed, options.folder))
            print(_text(rows[-1]), flush=True)
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(name: str, row: Row, task: Task, seed: int, folder: Path) -> dict[str, Any]:
    dense = _dense(row.network, task, seed, folder)
    place = folder / f"{name}-{seed}"
    found = row.method.apply(
        dense, folder=place, progress=lambda line: print(f"{name} {seed}: {line}", flush=True)
    )
    table = layer_table(found, dense.model)
    files = {"dense": dense.model, "compressed": found}
    sizes, times = _exported(files, task, place) if not _sparse(row.method) else ({}, {})
    return {
        "row": name,
        "network": row.network,
        "seed": seed,
        "paper_percent": row.paper,
        "weights_left_percent": 100 * table.weight_share_left,
        "parameters_left_percent": 100 * table.share_left,
        "layers": {r.name: (r.units, r.weights, r.weights_left) for r in table.rows},
        "error_dense_percent": _error(dense, dense.model),
        "error_percent": _error(dense, found),
        **sizes,
        **times,
    }


def _sparse(method: Method) -> bool:
    """Whether the result is as large as before, with zeros in it."""
    return isinstance(method, MagnitudePruning | DynamicNetworkSurgery)


def _dense(network: str, task: Task, seed: int, folder: Path) -> TrainingTask:
    """The reference, trained by the same loop, with its batches."""
    torch.manual_seed(seed)
    made = training_task(task, NETWORKS[network](), batch_size=64, seed=seed)
    trained = train(
        made,
        replace(DENSE, seed=seed),
        folder=folder / f"dense-{network}-{seed}",
        progress=lambda e: print(f"{network} {seed}: epoch {e.number}, {e.score:.2%}", flush=True),
    )
    return replace(made, model=trained.model)


def _error(dense: TrainingTask, model: nn.Module) -> float:
    """In per cent of the test pictures."""
    report = training_task(replace(dense.task, choose=dense.task.report), model)
    return 100 * (1 - float(dense.task.metric(*outputs(model, report.choose))))


def _exported(
    models: dict[str, nn.Module], task: Task, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bytes of both ONNX files, and how much faster the second is."""
    paths = {name: folder / f"{name}.onnx" for name in models}
    for name, model in models.items():
        write_atomic(paths[name], export(model, task.input_shape, name=name).SerializeToString())
    contenders = {name: open_contender(path, name=name) for name, path in paths.items()}
    try:
        taken = compare(contenders, schedule=Schedule(session_s=8, limit_s=30))
    finally:
        for contender in contenders.values():
            contender.close()
    ratio = taken.ratio("dense", "compressed")
    sizes = {f"{name}_bytes": path.stat().st_size for name, path in paths.items()}
    times = {f"{name}_latency_s": taken.measurements[name].estimate for name in models}
    return sizes, times | {"faster": ratio.estimate, "faster_interval": ratio.interval}


def _text(row: dict[str, Any]) -> str:
    faster = f", {row['faster']:.2f} × faster" if "faster" in row else ""
    size = f", file {row['compressed_bytes'] / row['dense_bytes']:.2%}" if faster else ""
    return (
        f"{row['row']:14} seed {row['seed']}: {row['weights_left_percent']:6.2f} % of the weights "
        f"(paper {row['paper_percent']} %), error {row['error_dense_percent']:.2f} → "
        f"{row['error_percent']:.2f} %{faster}{size}"
    )


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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
