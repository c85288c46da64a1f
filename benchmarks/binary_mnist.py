"""BinaryConnect and BinaryNet on MNIST beside floats, for several seeds.

    python benchmarks/binary_mnist.py DATA OUT [--seeds 0 1 2] [--rows bnn ...] [--epochs 100]
        [--out FILE.json]

DATA is a folder with MNIST (see narrows.zoo.mnist). The perceptrons are those of the papers, with
batch normalisation and the squared hinge: 784-1024-1024-1024-10 for BinaryConnect, with rows
without it, deterministic, stochastic, and with dropout instead; 784-2048-2048-2048-10 for
BinaryNet, with Adam and batch normalisation, and with shift-based AdaMax and shift-based
normalisation. Everything is chosen on 5 000 of the training pictures; the test pictures are read
once by each row, when it is done. Every training is kept in OUT, so that an interrupted run goes
on. A binary network is also run as bits, on all test pictures, and timed beside its float twin.

Learning rates are those that scored best on the choose set after two or three epochs with seed 0.
The papers' errors are of 1000 epochs; BinaryNet's of 3 x 4096 with dropout (Adam), and of 3 x 2048
(shifts).
"""

from __future__ import annotations

import argparse
import itertools
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
from narrows.zoo.mnist import mnist

ADAM: Final = TrainSettings(
    epochs=100,
    optimizer="adamw",
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="exponential",
    final_rate=1e-5,
    warmup=0.0,
    precision="bf16",
)
SHIFTS: Final = replace(ADAM, optimizer="shift_adamax", learning_rate=2**-8, final_rate=2**-16)
SGD: Final = replace(ADAM, optimizer="sgd", momentum=0.0, learning_rate=1.0, final_rate=1e-3)
BATCH: Final = 200


def perceptron(width: int, dropout: float = 0.0) -> nn.Module:
    """784, three layers of a width, and 10, each with batch normalisation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise((784, width, width, width)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(width, 10), nn.BatchNorm1d(10))


def rows(epochs: int) -> dict[str, Row]:
    """The rows of the table, by name."""
    small, large = partial(perceptron, 1024), partial(perceptron, 2048)
    adam, shifts, sgd = (replace(each, epochs=epochs) for each in (ADAM, SHIFTS, SGD))
    steps = replace(sgd, learning_rate=3.0, final_rate=3e-3)
    drawn = BinaryConnect(training=steps, signs="stochastic")
    return {
        "none": Row(build=small, how=sgd, beside=None, paper=1.30, batch=BATCH),
        "binaryconnect": Row(
            build=small,
            how=BinaryConnect(training=sgd),
            beside="none",
            paper=1.29,
            batch=BATCH,
        ),
        "binaryconnect-stochastic": Row(
            build=small, how=drawn, beside="none", paper=1.18, batch=BATCH
        ),
        "dropout": Row(
            build=partial(perceptron, 1024, 0.5), how=sgd, beside="none", paper=1.01, batch=BATCH
        ),
        "float": Row(build=large, how=adam, beside=None, paper=None, batch=BATCH),
        "bnn": Row(
            build=large, how=BinaryNet(training=adam), beside="float", paper=0.96, batch=BATCH
        ),
        "bnn-shift": Row(
            build=large,
            how=BinaryNet(training=shifts, norm="shift"),
            beside="float",
            paper=1.40,
            batch=BATCH,
        ),
    }


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = binary_rows.signed(mnist(options.data))
    table = rows(options.epochs)
    found = binary_rows.run_rows(table, options.rows, task, options.seeds, options.folder)
    print("\n" + binary_rows.summary(found))
    if options.out:
        write_atomic(options.out, json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    names = list(rows(1))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--epochs", type=int, default=ADAM.epochs)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
