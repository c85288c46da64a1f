"""Kill every long method with signal 9, again and again, and see that it ends as if it never was.

    python benchmarks/kill.py OUT [--methods deepiot ...] [--kills 5] [--seed 0] [--out F.json]

The task is scikit-learn's digits, the network a small one with dropout. Each method is run once to
its end. Then, in a fresh folder each time, it is killed three times on its way: at a random step (a
batch of training or of scoring), in the middle of writing a random file of its checkpoints (which
then holds a random part of it), and from outside at a random moment. What it ends with must have
the same bits, on one thread. A process that is done before its kill was due is counted as such.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from narrows.compress import (
    BinaryConnect,
    Chain,
    CodebookSharing,
    DeadUnits,
    DeepIoT,
    Distillation,
    DynamicNetworkSurgery,
    FixedPointFormats,
    FixedPointTraining,
    Int8Aware,
    MagnitudePruning,
    Method,
    MixedPrecision,
    SparseSep,
    SurgerySettings,
    UnitPruning,
)
from narrows.files import write_atomic
from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, train, training_task
from narrows.train.loaders import Batch, Loader

SETTINGS: Final = TrainSettings(epochs=4, learning_rate=0.02)
SEARCH: Final = TrainSettings(epochs=4, learning_rate=0.02, schedule="constant", warmup=0.0)
UNITS: Final = UnitPruning(shares=(0.7, 0.5), retrain=replace(SETTINGS, epochs=2))
LEARN: Final = Distillation(training=SETTINGS)
MAGNITUDE: Final = MagnitudePruning(
    by="global", targets=(0.6, 0.9), retrain=replace(SETTINGS, epochs=2)
)
METHODS: Final[dict[str, Method | None]] = {
    "train": None,
    "deepiot": DeepIoT(share=0.4, search=SEARCH, finetune=SETTINGS, learning_rate=0.01),
    "units": UNITS,
    "magnitude": MAGNITUDE,
    "surgery": DynamicNetworkSurgery(
        training=replace(SETTINGS, epochs=6), settings=SurgerySettings(c_rate=1.0, iter_stop=50)
    ),
    "sparsesep": SparseSep(max_drop=0.1, finetune=SETTINGS),
    "distillation": LEARN,
    "binaryconnect": BinaryConnect(training=SETTINGS, signs="stochastic"),
    "fixed_point": FixedPointTraining(
        training=SETTINGS,
        last=FixedPointFormats(weights=(4, 16), activations=(6, 14), gradients=(4, 16)),
        last_epochs=1,
    ),
    "codebooks": CodebookSharing(levels=16, finetune=replace(SETTINGS, learning_rate=1e-4)),
    "mixed_precision": MixedPrecision(rate=4.5, finetune=SETTINGS),
    "int8_aware": Int8Aware(training=SETTINGS),
    "chain": Chain(methods=(MAGNITUDE, DeadUnits(), UNITS, LEARN)),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When a process ends itself by signal 9; 0 is never.

    Args:
        step: At this batch.
        write: In the middle of writing this file.
    """

    step: int = 0
    write: int = 0


@final
class Counted(Loader):
    """Batches of another loader, counted.

    Args:
        loader: The other.
        count: Called before each.
    """

    def __init__(self, loader: Loader, count: Callable[[], None]) -> None:
        self._loader, self._count = loader, count

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self._loader)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Those of the other."""
        for batch in self._loader.batches(epoch):
            self._count()
            yield batch


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    task = _task()
    start = replace(task, model=train(task, SETTINGS, device="cpu").model)
    print("method        steps  files  killed at step, in file, from outside        digest   same")
    rows = []
    for name in options.methods:
        # Fixed point has no normalisation, and takes a network that was not trained as well.
        plain = _task(norm=False) if name == "fixed_point" else start
        rows.append(_row(name, task if METHODS[name] is None else plain, options))
        if options.out:
            write_atomic(options.out, json.dumps(rows, indent=1) + "\n")
    wrong = [row["method"] for row in rows if not row["same"]]
    if wrong:
        sys.exit(f"not the same weights: {', '.join(wrong)}")


def _row(name: str, task: TrainingTask, options: argparse.Namespace) -> dict[str, Any]:
    """One method: run to its end, then killed and taken up again."""
    folder, rng = options.folder, random.Random(f"{name} {options.seed}")
    whole = _run(name, task, _fresh(folder / f"{name}-whole"), Kill())
    assert whole is not None, f"{name} failed"
    kills, digests = [], []
    for number in range(options.kills):
        own = _fresh(folder / f"{name}-{number}")
        step = rng.randrange(1, whole["steps"])
        left = max(1, round(whole["writes"] * (1 - step / whole["steps"])))
        write, moment_s = rng.randint(1, left), rng.uniform(0, whole["seconds"] / 2)
        made = [
            _run(name, task, own, Kill(step=step)),
            _run(name, task, own, Kill(write=write)),
            _run(name, task, own, Kill(), moment_s=moment_s),
        ]
        told = (str(step), f"{write}", f"{moment_s:.2f} s")
        kills.append(
            [said if result is None else "done" for said, result in zip(told, made, strict=True)]
        )
        end = _run(name, task, own, Kill())
        digests.append("" if end is None else end["digest"])
    same = digests == [whole["digest"]] * options.kills
    shown = "; ".join(",".join(each) for each in kills)
    print(
        f"{name:12}{whole['steps']:7}{whole['writes']:7}  {shown:46}  {whole['digest'][:12]}  "
        f"{'yes' if same else 'NO'}",
        flush=True,
    )
    return {"method": name, **whole, "kills": kills, "digests": digests, "same": same}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _run(
    name: str, task: TrainingTask, folder: Path, kill: Kill, *, moment_s: float | None = None
) -> dict[str, Any] | None:
    """A method in a process of its own; what it ended with, or None where it was killed.

    Raises:
        RuntimeError: It ended in another way.
    """
    said = folder.with_suffix(".json")
    said.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _child(name, task, folder, kill, said)
    if moment_s is not None:
        time.sleep(moment_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        msg = f"{name} ended with status {status}: see above"
        raise RuntimeError(msg)
    found: dict[str, Any] = json.loads(said.read_text())
    return found


def _child(name: str, task: TrainingTask, folder: Path, kill: Kill, said: Path) -> None:
    """Apply the method, tell what came out, and end."""
    status = 1
    try:
        began_s, seen = time.perf_counter(), {"steps": 0, "writes": 0}

        def step() -> None:
            seen["steps"] += 1
            if seen["steps"] == kill.step:
                os.kill(os.getpid(), signal.SIGKILL)

        def write(file: int) -> None:
            seen["writes"] += 1
            if seen["writes"] == kill.write:
                size_bytes = os.fstat(file).st_size
                os.ftruncate(file, random.Random(size_bytes).randrange(size_bytes))
                os.kill(os.getpid(), signal.SIGKILL)
            synchronised(file)

        synchronised, os.fsync = os.fsync, write
        model = _applied(METHODS[name], task, folder, step)
        found = {"digest": _digest(model), "seconds": time.perf_counter() - began_s, **seen}
        os.fsync = synchronised
        said.write_text(json.dumps(found))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _applied(
    method: Method | None, task: TrainingTask, folder: Path, step: Callable[[], None]
) -> nn.Module:
    counted = replace(
        task, fit=Counted(task.fit, step), choose=Counted(task.choose, step), teacher=task.model
    )
    if method is None:
        return train(counted, SETTINGS, folder=folder, device="cpu").model
    return method.apply(counted, folder=folder)


def _task(*, norm: bool = True) -> TrainingTask:
    x, y = load_digits(return_X_y=True)
    pictures = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 10)),
    )
    return training_task(array_task("digits", pictures, y), model, batch_size=32)


def _digest(model: nn.Module) -> str:
    """Of all names, shapes and bits of a network's state."""
    made = hashlib.sha256()
    for name, value in model.state_dict().items():
        made.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        made.update(value.contiguous().numpy().tobytes())
    return made.hexdigest()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of all checkpoints")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--kills", type=int, default=5, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of when")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
