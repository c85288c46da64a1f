"""Trained recurrent networks in integers: what accuracy they lose, and how much faster they are.

    python benchmarks/recurrent_trained.py [--kinds GRU LSTM] [--units 384] [--both] [--layers 2]
        [--epochs 30] [--seeds 3] [--session-s 4] [--out FILE.json]

Pictures of digits, 8 × 8, read as 16 steps of four pixels; the last state is classified. A quarter
of the pictures is fit, a quarter is left alone, half is the report set, which both networks read
once. The ranges come from 100 fit pictures. Times are of batch one on one thread, in the same
rounds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from narrows.config import to_dict
from narrows.files import write_atomic
from narrows.graph.calibrate import fit_batches
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.measure.environment import environment
from narrows.measure.execution import execution
from narrows.measure.judging import judge
from narrows.measure.latency import Schedule, compare
from narrows.measure.operators import plain_run
from narrows.measure.quality import paired_drop
from narrows.task import Task, array_task
from narrows.zoo.export import export

STEPS, WIDTH, CLASSES = 16, 4, 10
_BATCH: Final = 32
_CALIBRATED: Final = 100


class Reader(nn.Module):
    """Recurrent layers, and a class from the last state."""

    def __init__(self, kind: str, options: argparse.Namespace) -> None:
        super().__init__()
        self.cells = getattr(nn, kind)(
            WIDTH,
            options.units,
            num_layers=options.layers,
            batch_first=True,
            bidirectional=options.both,
        )
        self.out = nn.Linear(options.units * (1 + options.both), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.out(self.cells(x)[0][:, -1])


def main() -> None:
    options = _options()
    x, y = load_digits(return_X_y=True)
    task = array_task("digits", (x / 16).reshape(-1, STEPS, WIDTH).astype(np.float32), y)
    rows = []
    for kind, seed in product(options.kinds, range(options.seeds)):
        row = _row(kind, seed, options, task)
        rows.append(row)
        print(_text(row), flush=True)
    if options.out:
        record = {"environment": to_dict(environment(threads=1)), "rows": rows}
        write_atomic(options.out, json.dumps(record, indent=1) + "\n")


def _text(row: dict[str, Any]) -> str:
    low, high = (100 * end for end in row["drop_interval"])
    fast, slow = row["speed_up_interval"]
    return (
        f"{row['layer']}, seed {row['seed']}: accuracy {100 * row['accuracy_float']:.2f} → "
        f"{100 * row['accuracy_int8']:.2f} %, drop {100 * row['drop']:+.2f} points "
        f"({low:+.2f}, {high:+.2f}) on {row['n']}; {1e3 * row['float_s']:.3f} → "
        f"{1e3 * row['int8_s']:.3f} ms, {row['speed_up']:.2f} times as fast ({fast:.2f}, "
        f"{slow:.2f}); {row['size_bytes_before']:,} → {row['size_bytes']:,} bytes; {row['runs']}"
    )


def _row(kind: str, seed: int, options: argparse.Namespace, task: Task) -> dict[str, Any]:
    net = _trained(kind, seed, options, task)
    original = load(export(net, (STEPS, WIDTH)))
    made = load(quantize_static(original, fit_batches(task, original, _CALIBRATED)))
    before, after = (judge(model, task, "report").quality for model in (original, made))
    drop, low, high = paired_drop(before, after)
    runs = {"float": plain_run(original, 1), "int8": plain_run(made, 1)}
    schedule = Schedule(session_s=options.session_s, limit_s=6 * options.session_s)
    taken = compare(runs, schedule=schedule)
    ratio = taken.ratio("float", "int8")
    return {
        "layer": kind,
        "seed": seed,
        "n": len(task.report),
        "accuracy_float": before.accuracy,
        "accuracy_int8": after.accuracy,
        "drop": drop,
        "drop_interval": (low, high),
        "float_s": taken.measurements["float"].cpu.median,
        "int8_s": taken.measurements["int8"].cpu.median,
        "speed_up": ratio.median,
        "speed_up_interval": ratio.interval,
        "size_bytes_before": original.proto.ByteSize(),
        "size_bytes": made.proto.ByteSize(),
        "runs": execution(made).text,
    }


def _trained(kind: str, seed: int, options: argparse.Namespace, task: Task) -> nn.Module:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = Reader(kind, options)
    x, y = map(torch.from_numpy, task.inputs(task.fit, 0, len(task.fit)))
    steps = options.epochs * (len(x) // _BATCH)
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(x) // _BATCH) == 0:
            order = torch.randperm(len(x))
        rows = order[torch.arange(_BATCH) + step % (len(x) // _BATCH) * _BATCH]
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=["GRU", "LSTM"], default=["GRU", "LSTM"])
    parser.add_argument("--units", type=int, default=384)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--both", action="store_true", help="both directions in time")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--session-s", type=float, default=4.0, help="of timing, for each network")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
