"""Training in 16-bit fixed point, rounded to the nearest and stochastically: learning curves.

    python benchmarks/fixed_point.py MNIST CIFAR OUT [--cases mlp cnn] [--seeds 0] [--out F.json]

MNIST and CIFAR are folders (see narrows.zoo.mnist and narrows.zoo.cifar). The networks are those
of Gupta et al.: 784-1000-1000-10 and two convolutions of 8 and 16 channels on MNIST, three of 64 on
10 000 pictures of CIFAR-10. Each is trained in float32 and with every number in <16 - FL, FL>, for
FL of 8, 10, 12 and 14. Curves are errors on the choose set after every epoch; the test pictures are
read once by each row, when it is done, in the arithmetic it was trained with. Every training is
kept in OUT, with a figure for each case, so that an interrupted run goes on. It all takes a core
about 30 hours: mlp 1.8 for a seed, cnn 1.3, cifar 7.
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

from narrows.compress import FixedPointFormats, FixedPointTraining
from narrows.files import make_folder, write_atomic
from narrows.splits import Split
from narrows.task import Task
from narrows.train import TrainingTask, TrainSettings, outputs, train, training_task
from narrows.zoo.cifar import cifar10
from narrows.zoo.mnist import mnist

BITS: Final = 16
FLOAT: Final = "float"
FRACTIONS: Final = (8, 10, 12, 14)
ROUNDINGS: Final = ("nearest", "stochastic")
ROWS: Final = (FLOAT, *(f"{rounding}-{fl}" for rounding in ROUNDINGS for fl in FRACTIONS))


def _mlp() -> nn.Module:
    layers = [nn.Linear(784, 1000), nn.Linear(1000, 1000), nn.Linear(1000, 10)]
    for layer in layers:  # as the paper begins
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    first, second, last = layers
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last)


def _cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def _cifar() -> nn.Module:
    pairs = zip((3, 64, 64), (64, 64, 64), strict=True)
    blocks = [(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)) for a, b in pairs]
    return nn.Sequential(*(layer for block in blocks for layer in block), *_head())


def _head() -> tuple[nn.Module, ...]:
    return nn.Flatten(), nn.Linear(1024, 10)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network and how it is trained.

    Args:
        build: The network, its weights drawn by torch's generator.
        data: "mnist" or "cifar".
        training: In float32 and in fixed point alike.
        pictures: Of the fit set; None for all.
    """

    build: Callable[[], nn.Module]
    data: str
    training: TrainSettings
    pictures: int | None = None


def _falling(epochs: int, rate: float, **more: Any) -> TrainSettings:
    """A learning rate that is multiplied by 0.95 in every epoch."""
    return TrainSettings(
        epochs=epochs,
        learning_rate=rate,
        schedule="exponential",
        final_rate=rate * 0.95**epochs,
        warmup=0.0,
        precision="f32",
        **more,
    )


CASES: Final = {
    "mlp": Case(
        build=_mlp, data="mnist", training=_falling(20, 0.1, momentum=0.0, weight_decay=0.0)
    ),
    "cnn": Case(build=_cnn, data="mnist", training=_falling(20, 0.1, weight_decay=5e-4)),
    "cifar": Case(
        build=_cifar, data="cifar", training=_falling(20, 0.02, weight_decay=5e-4), pictures=10_000
    ),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    rows = []
    for name in options.cases:
        case = _shorter(CASES[name], options)
        task = _task(case, options)
        for seed in options.seeds:
            for kind in options.rows:
                rows.append(_row(name, case, task, kind, seed, options.folder))
                print(_text(rows[-1]), flush=True)
        _figure([row for row in rows if row["case"] == name], options.folder / f"{name}.png")
    _summary(rows)
    if options.out:
        write_atomic(options.out, json.dumps(rows, indent=1) + "\n")


def _row(name: str, case: Case, task: Task, kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one row and judge it, or read what was found."""
    place = make_folder(folder / f"{name}-{kind}-{seed}")
    path = place / "row.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    torch.manual_seed(seed)
    asked = training_task(task, case.build(), batch_size=100, seed=seed)
    settings = replace(case.training, seed=seed)
    if kind == FLOAT:
        judged = train(asked, settings, folder=place / "training").model
    else:
        method = _method(kind, settings)
        made = method.apply(
            asked, folder=place, progress=lambda line: print(f"{place.name}: {line}", flush=True)
        )
        judged = method.network(asked, made)
    lines = (place / "training" / "scalars.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    row = {
        "case": name,
        "row": kind,
        "seed": seed,
        "choose_error_percent": [100 * (1 - epoch["score"]) for epoch in epochs],
        "loss": [epoch["loss"] for epoch in epochs],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "error_percent": 100 * (1 - _report_score(asked, judged)),
    }
    write_atomic(path, json.dumps(row, indent=1) + "\n")
    return row


def _method(kind: str, settings: TrainSettings) -> FixedPointTraining:
    rounding, _, fraction = kind.partition("-")
    one = (BITS - int(fraction), int(fraction))
    formats = FixedPointFormats(weights=one, activations=one, gradients=one)
    return FixedPointTraining(
        training=settings,
        rounding="nearest" if rounding == "nearest" else "stochastic",
        formats=formats,
    )


def _report_score(asked: TrainingTask, model: nn.Module) -> float:
    """On the report set."""
    task = asked.task
    report = training_task(replace(task, choose=task.report, report=task.choose), model)
    return float(task.metric(*outputs(model, report.choose)))


def _task(case: Case, options: argparse.Namespace) -> Task:
    """Pixels from 0 to 1, or from -1 to 1: the narrowest grid ends at 2."""
    whole = mnist(options.mnist) if case.data == "mnist" else cifar10(options.cifar)
    channels = whole.preprocess.channels
    middle, spread = ((0.0,), (1.0,)) if case.data == "mnist" else ((0.5,), (0.5,))
    preprocess = replace(whole.preprocess, mean=middle * channels, std=spread * channels)
    fit = whole.fit
    if case.pictures is not None:
        fit = Split(sources=fit.sources[: case.pictures], labels=fit.labels[: case.pictures])
    return replace(whole, preprocess=preprocess, fit=fit)


def _shorter(case: Case, options: argparse.Namespace) -> Case:
    """The case, with fewer epochs or pictures where that is asked for."""
    if options.epochs is not None:
        rate, extra = case.training.learning_rate, options.epochs
        final_rate = rate * 0.95**extra
        case = replace(case, training=replace(case.training, epochs=extra, final_rate=final_rate))
    return case if options.pictures is None else replace(case, pictures=options.pictures)


def _figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Errors on choose by epoch, the median over seeds, one panel for each rounding."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(ROUNDINGS), figsize=(10, 4), sharey=True)
    for panel, rounding in zip(panels, ROUNDINGS, strict=True):
        for number, kind in enumerate((FLOAT, *(f"{rounding}-{fl}" for fl in FRACTIONS))):
            curves = [row["choose_error_percent"] for row in rows if row["row"] == kind]
            if curves:
                middle = [statistics.median(values) for values in zip(*curves, strict=True)]
                fraction = kind.partition("-")[2]
                label = f"<{BITS - int(fraction)}, {fraction}>" if fraction else "float32"
                style = "k--" if kind == FLOAT else f"C{number}-"
                panel.plot(range(1, len(middle) + 1), middle, style, label=label)
        panel.set(title=rounding, xlabel="epoch", ylabel="error on choose, %", yscale="log")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend()
    figure.suptitle(f"{path.stem}: {BITS} bits, <IL, FL>")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _text(row: dict[str, Any]) -> str:
    return (
        f"{row['case']} {row['row']} seed {row['seed']}: test error {row['error_percent']:.2f} %, "
        f"choose {min(row['choose_error_percent']):.2f} %, {row['seconds']:.0f} s"
    )


def _summary(rows: list[dict[str, Any]]) -> None:
    print("\nmedian test error over seeds, %")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    print(f"{'':14}" + "".join(f"{case:>8}" for case in cases))
    for kind in dict.fromkeys(row["row"] for row in rows):
        found = [
            [r["error_percent"] for r in rows if (r["case"], r["row"]) == (case, kind)]
            for case in cases
        ]
        print(f"{kind:14}" + "".join(f"{statistics.median(one):8.2f}" for one in found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mnist", type=Path)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("folder", type=Path, help="keeps every training, and the figures")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="fewer, for a trial")
    parser.add_argument("--pictures", type=int, help="fewer, for a trial")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
