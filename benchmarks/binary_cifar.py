"""BinaryConnect and BinaryNet on CIFAR-10 at half the papers' width, beside floats.

    python benchmarks/binary_cifar.py DATA OUT [--seeds 0] [--rows bnn ...] [--width 0.5]
        [--epochs 60] [--out FILE.json]

DATA is a folder with CIFAR-10 (see narrows.zoo.cifar). The network is the papers':
2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10, each layer with batch normalisation (after the
maximum, before the activation) and the squared hinge. No augmentation and no whitening: a pixel
means (byte - 128) / 128. Everything is chosen on 5 000 of the training pictures; the test pictures
are read once by each row, when it is done. Every training is kept in OUT, so that an interrupted
run goes on. The binary network is also run as bits, and timed beside its float twin.

Learning rates are those that scored best on the choose set after two epochs at a quarter of the
width, with seed 0. The papers' errors are of the full width, original pictures and 500 epochs,
BinaryConnect's on whitened ones.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import nn

import binary_rows
from binary_rows import Row
from narrows.compress import BinaryConnect, BinaryNet
from narrows.files import write_atomic
from narrows.train import TrainSettings
from narrows.zoo.cifar import cifar10

ADAM: Final = TrainSettings(
    epochs=60,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.0,
    schedule="exponential",
    final_rate=3e-6,
    warmup=0.0,
    precision="bf16",
)
BATCH: Final = 100


def network(width: float) -> nn.Module:
    """Six convolutions of 3 x 3 and three linear layers, for pictures of 32 x 32.

    Args:
        width: Share of the papers' channels.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for channels in (128, 256, 512):
        outputs = round(width * channels)
        for pool in ((), (nn.MaxPool2d(2),)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *pool]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
    layers.append(nn.Flatten())
    units = round(width * 1024)
    for size in (16 * inputs, units):
        layers += [nn.Linear(size, units), nn.BatchNorm1d(units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(units, 10), nn.BatchNorm1d(10))


def rows(width: float, epochs: int) -> dict[str, Row]:
    """The rows of the table, by name."""
    floats, build = replace(ADAM, epochs=epochs), partial(network, width)
    settings = replace(floats, learning_rate=0.01, final_rate=1e-5)
    drawn = BinaryConnect(training=settings, signs="stochastic")
    return {
        "float": Row(build=build, how=floats, beside=None, paper=10.64, batch=BATCH),
        "binaryconnect": Row(
            build=build,
            how=BinaryConnect(training=settings),
            beside="float",
            paper=9.90,
            batch=BATCH,
        ),
        "binaryconnect-stochastic": Row(
            build=build, how=drawn, beside="float", paper=8.27, batch=BATCH
        ),
        "bnn": Row(
            build=build,
            how=BinaryNet(training=settings),
            beside="float",
            paper=11.40,
            batch=BATCH,
        ),
    }


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = binary_rows.signed(cifar10(options.data))
    table = rows(options.width, options.epochs)
    found = binary_rows.run_rows(table, options.rows, task, options.seeds, options.folder)
    print("\n" + binary_rows.summary(found))
    if options.out:
        write_atomic(options.out, json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    names = list(rows(1.0, 1))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=ADAM.epochs)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
