"""DeepIoT's VGG on CIFAR-10, dense and made smaller by the compressor-critic, for several seeds.

    python benchmarks/vgg.py DATA OUT [--width 0.5] [--seeds 3] [--out FILE.json]

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar). Widths are halved by default; `--width 1` is
the network of the paper. Everything is chosen on 5 000 of the training pictures; the test pictures
are read once by each seed, when it is done. Every training is kept in OUT, so that an interrupted
run goes on. Both networks are timed in one run. A seed takes about 90 minutes of one core with AMX.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

import shrinking
from narrows.compress import Chain, DeepIoT, taught
from narrows.files import write_atomic
from narrows.task import Task
from narrows.train import TrainSettings, crop_and_flip, training_task
from narrows.zoo.cifar import cifar10
from narrows.zoo.deepiot_vgg import deepiot_vgg

DENSE: Final = TrainSettings(epochs=25, learning_rate=0.05, warmup=0.2, precision="bf16")
SEARCH: Final = TrainSettings(
    epochs=12, learning_rate=0.005, schedule="constant", warmup=0.0, precision="bf16"
)
TUNE: Final = TrainSettings(epochs=80, learning_rate=0.05, precision="bf16")
CONVOLUTIONS: Final = tuple(f"conv{number}" for number in range(1, 14))
PAPER_PERCENT: Final = 2.44


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    task = cifar10(options.data)
    rows = []
    for seed in options.seeds:
        rows.append(_row(task, seed, options))
        print(f"seed {seed} (paper {PAPER_PERCENT} %): {shrinking.text(rows[-1])}", flush=True)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _method(seed: int) -> Chain:
    """First of the linear layers alone, which are two thirds of the parameters and need few.

    In the end 4.9 % of all parameters are left, and up to 13 % of those of the convolutions.
    """
    search = replace(SEARCH, seed=seed)
    linear = DeepIoT(
        share=0.385,
        search=replace(search, epochs=4),
        finetune=replace(TUNE, epochs=2),
        skip=CONVOLUTIONS,
    )
    return Chain(methods=(linear, DeepIoT(share=0.049 / 0.385, search=search, finetune=TUNE)))


def _row(task: Task, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(seed)
    asked = training_task(
        task,
        deepiot_vgg(width=options.width),
        batch_size=64,
        augment=crop_and_flip,
        seed=seed,
    )
    folder = options.folder / f"{options.width}-{seed}"
    before = shrinking.dense(asked, replace(DENSE, seed=seed), folder / "dense")
    # The dense network's answers are learned, too: in the searches and after.
    found = _method(seed).apply(taught(before), folder=folder / "deepiot", progress=_tell)
    row = {"width": options.width, "seed": seed, **shrinking.both(before, found)}
    whole, left = (
        sum(layer[place] for name, layer in row["layers"].items() if name.startswith("conv"))
        for place in (1, 2)
    )
    row |= {"convolutions_left_percent": 100 * left / whole}
    return row | shrinking.timed(before, found, folder)


def _tell(line: str) -> None:
    print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
