"""LeNets as files: the pipeline of Deep Compression, ours, and the standard's coder beside ours.

    python benchmarks/deep_compression.py DATA OUT [--seeds 0 1 2] [--nncodec PYTHON]
        [--networks LeNet-5] [--out FILE.json]

DATA is a folder with MNIST (see narrows.zoo.mnist); OUT keeps every training and may be the folder
of lenet.py, whose dense and pruned networks are taken from there. Ways:

* Deep Compression: magnitude pruning, k-means codebooks of 8 bits for convolutions and 5 for linear
  layers whose centres are trained, with the dense network as the teacher of both, symbols by
  Huffman, in the file of a torch network; and the same symbols by adaptive ANS.
* ours: fewer weights by surgery (LeNet-5) or by magnitude in many rounds with the dense network as
  the teacher (LeNet-300-100), rounded without training as `narrows pack` does it.
* nncodec, ISO/IEC 15938-17, if PYTHON has it (see nncodec_file.py), on the same pruned weights.

Rounding of the last two is as coarse as the choose set allows: no drop there beyond its standard
error, and little divergence. Files hold everything, structure and headers too; ratios are to the
float32 bytes of the dense network's parameters. The test pictures are read once by each way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

import shrinking
from codebooks import TUNE
from lenet import DENSE, LEARN, NETWORKS, ROWS
from narrows.coding import Coder
from narrows.coding.coders import Adaptive, Huffman
from narrows.compress import Chain, CodebookSharing, MagnitudePruning, Method, taught
from narrows.files import write_atomic
from narrows.graph.calibrate import fit_batches
from narrows.graph.load import Model, load
from narrows.graph.round_weights import RoundSettings, WeightRounder
from narrows.graph.second_moments import input_moments
from narrows.graph.weight_matrices import weight_matrices
from narrows.store import load_network, pack_network
from narrows.train import TrainingTask, TrainSettings, training_task
from narrows.zoo.export import export
from narrows.zoo.mnist import mnist
from packing import Judge, Packed, first_kept, nncodec, ours, reported

EXAMPLES: Final = 2000
MOST_DIVERGENCE: Final = 0.002
_ROUND: Final = TrainSettings(epochs=8, learning_rate=0.01, weight_decay=1e-4)
PRUNED: Final[dict[str, Method]] = {
    "LeNet-5": MagnitudePruning(
        by="layer",
        targets=(0.7, 0.85, 0.925, 0.95),
        layers={"conv1": (0.2, 0.3, 0.34, 0.34), "ip2": (0.5, 0.7, 0.81, 0.81)},
        retrain=_ROUND,
    ),
    "LeNet-300-100": MagnitudePruning(by="global", targets=(0.7, 0.85, 0.92, 0.94), retrain=_ROUND),
}
CENTRES: Final = {
    "LeNet-5": CodebookSharing(levels=32, layers={"conv1": 256, "conv2": 256}, finetune=TUNE),
    "LeNet-300-100": CodebookSharing(levels=64, finetune=TUNE),
}
FEWER: Final[dict[str, tuple[str, Method]]] = {
    "LeNet-5": ("surgery", ROWS["surgery"].method),
    "LeNet-300-100": (
        "gradual-300",
        Chain(
            methods=(
                MagnitudePruning(
                    by="global", targets=(0.7, 0.85, 0.92, 0.95, 0.965), retrain=_ROUND
                ),
                LEARN,
            )
        ),
    ),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = mnist(options.data)
    rows = []
    for seed in options.seeds:
        for name in options.networks:
            torch.manual_seed(seed)
            asked = training_task(task, NETWORKS[name](), batch_size=64, seed=seed)
            place = options.folder / f"dense-{name}-{seed}"
            dense = shrinking.dense(asked, replace(DENSE[name], seed=seed), place)
            whole = 4 * sum(value.numel() for value in dense.model.parameters())
            for row in (
                *_shared(dense, name, seed, options),
                *_rounded(dense, name, seed, options),
            ):
                rows.append({"network": name, "seed": seed, "before_bytes": whole, **row})
                print(_text(rows[-1]), flush=True)
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _shared(
    dense: TrainingTask, name: str, seed: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Deep Compression: pruned, shared, coded."""
    method = Chain(methods=(PRUNED[name], replace(CENTRES[name], seed=seed)))
    found = _made(f"deep-compression-{name}", method, dense, seed, options).model
    original = _exported(dense, dense)
    rows = []
    coders: dict[str, Coder] = {"Huffman": Huffman(), "adaptive ANS": Adaptive()}
    for coder, one in coders.items():
        data = pack_network(found, coder=one)
        began = time.perf_counter()
        again = load_network(data)
        took = time.perf_counter() - began
        packed = Packed(
            size_bytes=len(data),
            proto=_exported(dense, replace(dense, model=again)).proto,
            decode_s=took,
            setting=CENTRES[name].levels,
        )
        rows.append({"way": f"Deep Compression, {coder}", **reported(packed, original, dense.task)})
    return rows


def _rounded(
    dense: TrainingTask, name: str, seed: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Fewer weights, rounded; and the same weights by nncodec."""
    sparse = _made(*FEWER[name], dense, seed, options)
    original, model = (_exported(dense, one) for one in (dense, sparse))
    weights = weight_matrices(model)
    moments = input_moments(model, weights, fit_batches(dense.task, model, EXAMPLES))
    ways = {"narrows": ours(WeightRounder(model, weights, moments, RoundSettings(rate=0.12)))}
    if options.nncodec:
        ways["nncodec"] = nncodec(model, options.folder / "nncodec", options.nncodec, opt_qp=False)
        ways["nncodec, opt_qp"] = nncodec(
            model, options.folder / "nncodec", options.nncodec, opt_qp=True
        )
    judged, rows = Judge(model, dense.task), []
    for way, make in ways.items():
        packed, trials = first_kept(make, judged, _keeps)
        rows.append({"way": way, **reported(packed, original, dense.task), "trials": trials})
    return rows


def _keeps(found: dict[str, float]) -> bool:
    return found["drop"] <= found["error"] and found["divergence"] <= MOST_DIVERGENCE


def _made(
    row: str, method: Method, dense: TrainingTask, seed: int, options: argparse.Namespace
) -> TrainingTask:
    """The task with the network a method makes of the dense one."""
    place = options.folder / f"{row}-{seed}"
    asked = dense if row == "surgery" else taught(dense)
    return replace(dense, model=method.apply(asked, folder=place, progress=_tell))


def _exported(dense: TrainingTask, asked: TrainingTask) -> Model:
    return load(export(asked.model, tuple(dense.example.shape[1:])))


def _tell(line: str) -> None:
    print(line, flush=True)


def _text(row: dict[str, Any]) -> str:
    drop, low, high = (100 * value for value in row["drop"])
    ratio = row["before_bytes"] / row["size_bytes"]
    errors = [100 * (1 - row[key]) for key in ("accuracy_before", "accuracy")]
    return (
        f"{row['network']:13} seed {row['seed']} {row['way']:30} {row['size_bytes']:7,} bytes, "
        f"{ratio:6.1f} ×, error {errors[0]:.2f} → {errors[1]:.2f} %, drop {drop:+.2f} "
        f"({low:+.2f} to {high:+.2f}), decoded in {row['decode_s']:.3f} s"
    )


def _summary(rows: list[dict[str, Any]]) -> None:
    print("\nmedian over seeds")
    for name, way in dict.fromkeys((row["network"], row["way"]) for row in rows):
        mine = [row for row in rows if (row["network"], row["way"]) == (name, way)]
        ratio = statistics.median(row["before_bytes"] / row["size_bytes"] for row in mine)
        drop = statistics.median(100 * row["drop"][0] for row in mine)
        print(f"{name:13} {way:30} {ratio:6.1f} ×, drop {drop:+.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--nncodec", help="a Python interpreter that has nncodec")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
