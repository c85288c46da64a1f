"""Codebooks for weights: accuracy against rate of k-means, product and residual quantization.

    python benchmarks/codebooks.py IMAGENET MNIST OUT [--networks ...] [--seeds 0] [--out F.json]

IMAGENET holds fit.csv (500 pictures, of which 350 are learned from and 150 choose) and report.csv;
MNIST is a folder (see narrows.zoo.mnist). Of EfficientNet-Lite0 the pointwise and dense layers get
codebooks, of LeNet-5 and LeNet-300-100 all layers; both LeNets are pruned besides, as in lenet.py,
and what is left gets k-means, as in Deep Compression. The rate is bits a weight of these layers,
codebooks counted and, of pruned ones, relative indices of 5 bits with their filling zeros. Then the
centres are trained, on what the dense network answers beside the labels. The report pictures are
read once by each row. Rows are kept in OUT, so that an interrupted run goes on, with a figure each
for Lite0 and the LeNets. It takes a core about 6 hours for three seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import nn

import shrinking
from int8_lite0 import task_of
from lenet import DENSE, NETWORKS, ROWS
from narrows.compress import CodebookSharing, taught, weight_layers
from narrows.files import make_folder, write_atomic
from narrows.train import TrainingTask, TrainSettings, crop_and_flip, training_task
from narrows.zoo.mnist import mnist
from narrows.zoo.sources import network

LITE0: Final = "Lite0"
MODEL: Final = "zoo:efficientnet_lite0"
PRUNED: Final = {"LeNet-5": "magnitude", "LeNet-300-100": "magnitude-300"}
INDEX_BITS: Final = 5
_PIECES: Final = ((16, 2), (64, 2), (16, 4), (64, 4))
VECTORS: Final = (
    *(
        CodebookSharing(kind="product", levels=levels, length=length, samples="longer")
        for levels, length in _PIECES
    ),
    *(
        CodebookSharing(kind="residual", levels=16, stages=stages, samples="longer")
        for stages in (2, 4, 8)
    ),
)
SHARINGS: Final = (*(CodebookSharing(levels=levels) for levels in (2, 4, 8, 16)), *VECTORS)
# Some of its weights are zero by chance.
SHARINGS_LITE0: Final = tuple(
    replace(sharing, keep_zeros=False)
    for sharing in (*(CodebookSharing(levels=levels) for levels in (8, 16, 32, 64)), *VECTORS)
)
# Of what pruning left: Deep Compression's bits, and fewer.
SPARSE: Final = (
    *(CodebookSharing(levels=levels) for levels in (4, 8, 16, 32)),
    CodebookSharing(levels=32, layers={"conv1": 256, "conv2": 256}),
)
# Adam, because gradients of centres are sums over as many weights as share them.
TUNE: Final = TrainSettings(
    epochs=6, optimizer="adamw", learning_rate=1e-3, weight_decay=0.0, precision="f32"
)
TUNE_LITE0: Final = replace(TUNE, epochs=8, learning_rate=5e-4)
STYLES: Final = {"kmeans": "C0", "product": "C1", "residual": "C2"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A network to make codebooks for.

    Args:
        name: E.g. "LeNet-5 pruned".
        task: With the network, dense or pruned.
        dense: With the network that drops are measured from.
        sharings: To try.
        tune: How centres are trained.
    """

    name: str
    task: TrainingTask
    dense: TrainingTask
    sharings: tuple[CodebookSharing, ...]
    tune: TrainSettings


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        for start in _starts(seed, options):
            for sharing in start.sharings:
                for tune in (None, start.tune):
                    rows.append(_row(start, replace(sharing, seed=seed), tune, seed, options))
                    print(_text(rows[-1]), flush=True)
    lenets = [row for row in rows if row["network"] != LITE0]
    _figure([row for row in rows if row["network"] == LITE0], options.folder / "lite0.png")
    _figure(lenets, options.folder / "lenets.png")
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _starts(seed: int, options: argparse.Namespace) -> Iterator[Start]:
    if LITE0 in options.networks:
        shifted = partial(crop_and_flip, margin=16)
        task = task_of(options.imagenet, MODEL)
        asked = training_task(task, network(MODEL)[0].eval(), batch_size=25, augment=shifted)
        skip = tuple(_neither_pointwise_nor_dense(asked.model))
        sharings = tuple(replace(sharing, skip=skip) for sharing in SHARINGS_LITE0)
        yield Start(name=LITE0, task=asked, dense=asked, sharings=sharings, tune=TUNE_LITE0)
    for name in NETWORKS:
        if name not in options.networks:
            continue
        torch.manual_seed(seed)
        asked = training_task(mnist(options.mnist), NETWORKS[name](), batch_size=64, seed=seed)
        place = options.folder / f"dense-{name}-{seed}"
        dense = shrinking.dense(asked, replace(DENSE[name], seed=seed), place)
        yield Start(name=name, task=dense, dense=dense, sharings=SHARINGS, tune=TUNE)
        place = options.folder / f"{PRUNED[name]}-{seed}"
        pruned = replace(dense, model=ROWS[PRUNED[name]].method.apply(dense, folder=place))
        sharings = SPARSE if name == "LeNet-5" else (*SPARSE[:-1], CodebookSharing(levels=64))
        yield Start(name=f"{name} pruned", task=pruned, dense=dense, sharings=sharings, tune=TUNE)


def _neither_pointwise_nor_dense(model: nn.Module) -> Iterator[str]:
    """Layers that see more than one place, or channels apart."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and (layer.kernel_size != (1, 1) or layer.groups > 1):
            yield name


def _row(
    start: Start,
    sharing: CodebookSharing,
    tune: TrainSettings | None,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Make codebooks, train them and judge, or read what was found."""
    name = f"{start.name}-{_label(sharing)}-{'plain' if tune is None else 'tuned'}-{seed}"
    place = make_folder(options.folder / name.replace(" ", "-"))
    path = place / "row.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    method, task = sharing, start.task
    if tune is not None:
        method = replace(sharing, finetune=replace(tune, seed=seed))
        task = taught(replace(task, teacher=start.dense.model), temperature=1.0)
    found = method.apply(
        task, folder=place, progress=lambda line: print(f"{place.name}: {line}", flush=True)
    )
    row = {
        "network": start.name,
        "kind": sharing.kind,
        "setting": _label(sharing),
        "tuned": tune is not None,
        "seed": seed,
        "bits_a_weight": _rate(sharing, start.task.model),
    }
    row |= shrinking.both(start.dense, found)
    write_atomic(path, json.dumps(row, indent=1) + "\n")
    return row


def _rate(sharing: CodebookSharing, model: nn.Module) -> float:
    """Bits of all layers with codebooks over their weights, zeros among them."""
    layers = weight_layers(model, sharing.skip)
    bits = sum(sharing.weight_bits(model).values())
    for layer in layers:
        used = (layer.value(model) != 0).numpy().ravel()
        if sharing.keep_zeros and not used.all():
            symbols = int(np.ceil(np.log2(sharing.layers.get(layer.name, sharing.levels))))
            bits += INDEX_BITS * int(used.sum()) + _filling(used) * (INDEX_BITS + symbols)
    return bits / sum(layer.value(model).numel() for layer in layers)


def _filling(used: np.ndarray[Any, Any]) -> int:
    """Zeros that are stored because a gap is longer than an index can say."""
    places = np.flatnonzero(used)
    gaps = np.diff(np.concatenate([[-1], places]))
    return int(((gaps - 1) // 2**INDEX_BITS).sum())


def _label(sharing: CodebookSharing) -> str:
    more = {"kmeans": "", "product": f"-{sharing.length}", "residual": f"-{sharing.stages}"}
    layers = "".join(f"-{name}-{levels}" for name, levels in sharing.layers.items())
    return f"{sharing.kind}-{sharing.levels}{more[sharing.kind]}{layers}"


def _figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Report error by rate, the median over seeds: crosses as placed, dots once trained."""
    if not rows:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["network"] for row in rows))
    figure, panels = pyplot.subplots(1, len(names), figsize=(5.5 * len(names), 4), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        mine = [row for row in rows if row["network"] == name]
        for (kind, tuned), points in _curves(mine).items():
            label = f"{kind}, {'trained' if tuned else 'as placed'}"
            style = "o-" if tuned else "x:"
            rates, errors = zip(*points, strict=True)
            panel.plot(rates, errors, style, color=STYLES[kind], label=label)
        dense = statistics.median(row["error_dense_percent"] for row in mine)
        panel.axhline(dense, color="k", linewidth=0.8, label="original")
        panel.set(title=name, xlabel="bits a weight, codebooks counted", ylabel="report error, %")
        panel.set(yscale="log")
        panel.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _curves(rows: list[dict[str, Any]]) -> dict[tuple[str, bool], list[tuple[float, float]]]:
    """Rate and error of each setting, the median over seeds, by kind and whether it is trained."""
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for kind, tuned, setting in dict.fromkeys((r["kind"], r["tuned"], r["setting"]) for r in rows):
        mine = [r for r in rows if (r["kind"], r["tuned"], r["setting"]) == (kind, tuned, setting)]
        rate, error = (
            statistics.median(row[key] for row in mine)
            for key in ("bits_a_weight", "error_percent")
        )
        found.setdefault((kind, tuned), []).append((rate, error))
    return {key: sorted(points) for key, points in found.items()}


def _text(row: dict[str, Any]) -> str:
    drop, low, high = row["drop_points"]
    trained = "trained" if row["tuned"] else "as placed"
    return (
        f"{row['network']} {row['setting']} seed {row['seed']}, {trained}: "
        f"{row['bits_a_weight']:.2f} bits a weight, error {row['error_dense_percent']:.2f} → "
        f"{row['error_percent']:.2f} %, drop {drop:+.2f} ({low:+.2f} to {high:+.2f})"
    )


def _summary(rows: list[dict[str, Any]]) -> None:
    print("\nmedian over seeds: bits a weight, report error in % as placed → trained")
    for name, setting in dict.fromkeys((row["network"], row["setting"]) for row in rows):
        mine = [row for row in rows if (row["network"], row["setting"]) == (name, setting)]
        rate = statistics.median(row["bits_a_weight"] for row in mine)
        before, after = (
            statistics.median(row["error_percent"] for row in mine if row["tuned"] is tuned)
            for tuned in (False, True)
        )
        print(f"{name:21} {setting:28} {rate:6.2f}  {before:6.2f} → {after:6.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every row, and the figures")
    every = [LITE0, *NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=every, default=every)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
