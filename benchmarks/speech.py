"""A bidirectional LSTM on strings of spoken digits, dense and made smaller, for several seeds.

    python benchmarks/speech.py DATA OUT [--seeds 0 1 2] [--rows dense ...] [--out FILE.json]

DATA is a zip or a folder of the Free Spoken Digit Dataset (see narrows.zoo.speech_digits). No
speaker is in two sets. Everything is chosen on one speaker; the strings of another are read once by
each row, when it is done. Every training is kept in OUT, so that an interrupted run goes on.

The loss of a row is in points of word error rate against the dense network of the same seed, with a
paired bootstrap interval over strings; `dense-longer` says what training it for as long as what
DeepIoT leaves would have gained. What DeepIoT leaves is timed against the dense network in one run.
The baseline, cepstra and logistic regression, is given single digits, cut where they begin and end,
of the same speakers; the network has strings of them, and has to find them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import shrinking
from narrows.compress import (
    Chain,
    DeadUnits,
    DeepIoT,
    Distillation,
    DynamicNetworkSurgery,
    SurgerySettings,
    layer_table,
)
from narrows.files import write_atomic
from narrows.measure.quality import paired_drop_by_metric
from narrows.task import Task
from narrows.train import (
    ArrayLoader,
    TrainingTask,
    TrainSettings,
    outputs,
    score,
    train,
    training_task,
)
from narrows.zoo.bilstm import BiLSTM, ctc
from narrows.zoo.speech_digits import CEPSTRA, SPEAKERS, STRINGS, read_recordings, spoken_digits

BATCH: Final = 32
DENSE: Final = TrainSettings(
    epochs=12,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.01,
    clip_norm=5.0,
    precision="bf16",
)
TUNE: Final = replace(DENSE, epochs=10)
LEARN: Final = Distillation(training=replace(DENSE, epochs=20), temperature=1.0)
# As many epochs of labels alone.
LONGER: Final = replace(LEARN, training=replace(DENSE, epochs=30), weight=0.0)
SEARCH: Final = replace(DENSE, epochs=10, learning_rate=5e-4, schedule="constant", warmup=0.0)
_STEPS: Final = STRINGS["fit"] // BATCH
# Thresholds of each kind of layer (DeepIoT, section 5): inputs, states, the output.
_C: Final = {"weight_ih": 0.4, "weight_hh": 0.4, "out": 0.0}


def _deepiot(share: float) -> Chain:
    """The search, and then the dense network as the teacher of what it left."""
    search = DeepIoT(
        share=share, search=SEARCH, finetune=TUNE, learning_rate=5e-3, scale_dropout=False
    )
    return Chain(methods=(search, LEARN))


def _surgery(model: nn.Module) -> Chain:
    """Half of its epochs with masks that change; then units without connections go."""
    rules = {
        kind: SurgerySettings(c_rate=c, gamma=1e-3, iter_stop=TUNE.epochs // 2 * _STEPS)
        for kind, c in _C.items()
    }
    layers = {
        f"{name}.{part}": rules[part.removesuffix("_l0")]
        for name, module in model.named_modules()
        if isinstance(module, nn.LSTM)
        for part in ("weight_ih_l0", "weight_hh_l0")
    }
    surgery = DynamicNetworkSurgery(training=TUNE, settings=rules["out"], layers=layers)
    return Chain(methods=(surgery, DeadUnits()))


ROWS: Final = {
    "dense": lambda model: None,
    "dense-longer": lambda model: Chain(methods=(LONGER,)),
    "deepiot": lambda model: _deepiot(0.148),
    "deepiot-10": lambda model: _deepiot(0.0995),
    "dyns-ext": _surgery,
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    task = spoken_digits(options.data)
    wrong = baseline(options.data)
    print(f"baseline: {100 * wrong:.1f} % of single digits wrong", flush=True)
    rows: list[dict[str, Any]] = [{"row": "baseline", "error_percent": 100 * wrong}]
    for seed in options.seeds:
        dense = _dense(task, seed, options.folder)
        for name in options.rows:
            rows.append(_row(name, dense, seed, options.folder))
            print(_text(rows[-1]), flush=True)
            if options.out:
                write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def baseline(data: Path) -> float:
    """Share of the report speaker's recordings that cepstra and logistic regression get wrong.

    Cepstra, normalised as the network's, are averaged over ten stretches of each recording. The
    strength of regularisation is chosen on the choose speaker.
    """
    recordings = read_recordings(data)
    sets = {}
    for name, members in SPEAKERS.items():
        mine = [r for r in recordings if r.speaker in members]
        x = np.stack([_stretches(r.signal) for r in mine])
        sets[name] = (x, np.array([r.digit for r in mine]))
    made = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(*sets["fit"])
        for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    best = max(made, key=lambda model: float(model.score(*sets["choose"])))
    return 1 - float(best.score(*sets["report"]))


def _stretches(signal: NDArray[Any], count: int = 10) -> NDArray[Any]:
    frames = CEPSTRA.normalised(CEPSTRA.log_mel(signal))
    places = np.arange(count) * len(frames) // count
    ends = np.maximum(places + 1, (np.arange(count) + 1) * len(frames) // count)
    return np.concatenate(
        [frames[start:end].mean(0) for start, end in zip(places, ends, strict=True)]
    )


def _dense(task: Task, seed: int, folder: Path) -> TrainingTask:
    """The reference, trained by the same loop, with its batches."""
    torch.manual_seed(seed)
    model = BiLSTM(task.input_shape[1], 11, forward_units=(128,) * 5, dropout=0.1)
    made = training_task(task, model, loss=ctc, batch_size=BATCH, seed=seed)
    trained = train(
        made,
        replace(DENSE, seed=seed),
        folder=folder / f"dense-{seed}",
        progress=lambda e: print(
            f"dense {seed}: epoch {e.number}, {e.seconds:.0f} s, loss {e.loss:.3f}, "
            f"word error rate on choose {-e.score:.2%}",
            flush=True,
        ),
    )
    return replace(made, model=trained.model)


def _row(name: str, dense: TrainingTask, seed: int, folder: Path) -> dict[str, Any]:
    place = folder / f"{name}-{seed}"
    method = ROWS[name](dense.model)
    found = dense.model
    if method is not None:
        found = method.apply(
            dense, folder=place, progress=lambda line: print(f"{name} {seed}: {line}", flush=True)
        )
    table = layer_table(found, dense.model)
    (before, labels), (after, _) = (_reported(dense, model) for model in (dense.model, found))
    drop = paired_drop_by_metric(dense.task.metric, labels, before, after, draws=300)
    sizes = {}
    if name.startswith("deepiot"):
        sizes = shrinking.timed(dense, found, place)
    return {
        "row": name,
        "seed": seed,
        "parameters_left_percent": 100 * table.share_left,
        "weights_left_percent": 100 * table.weight_share_left,
        "layers": {r.name: (r.units, r.parameters, r.left) for r in table.rows},
        "wer_choose_percent": -100 * score(dense, found),
        "wer_percent": -100 * float(dense.task.metric(after, labels)),
        "loss_points": [100 * value for value in drop],
        **sizes,
    }


@lru_cache(maxsize=8)
def _reported(
    dense: TrainingTask, model: nn.Module
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answers to the report speaker's strings, and the labels."""
    report = dense.task.report
    samples, labels = (torch.from_numpy(values) for values in (report.sources, report.labels))
    prepared = dense.task.preprocess
    return outputs(model, ArrayLoader(samples=samples, labels=labels, preprocess=prepared))


def _text(row: dict[str, Any]) -> str:
    loss, low, high = row["loss_points"]
    faster = f", {row['faster']:.2f} × faster" if "faster" in row else ""
    return (
        f"{row['row']:12} seed {row['seed']}: {row['parameters_left_percent']:6.2f} % of the "
        f"parameters, word error rate {row['wer_percent']:.2f} % "
        f"({loss:+.2f} points, {low:+.2f} to {high:+.2f}){faster}"
    )


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
