"""EfficientNet-Lite0 in float32, int8 and with 8-bit weights alone: accuracy and time in one run.

    python benchmarks/int8_lite0.py DATA [--model NAME] [--examples 100] [--out FILE.json]

DATA holds fit.csv (halved into fit and choose) and report.csv. Activations are calibrated on the
fit half by every method; the choose half picks the one whose answers diverge least. Then the report
set is read once, by all. Times are of worker processes in interleaved rounds on one thread. The
network with 8-bit weights is timed twice: as ONNX Runtime runs it, dequantizing at each run, and
with the weights dequantized once while it is loaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from narrows.config import to_dict
from narrows.graph.calibrate import METHODS, Method, fit_batches
from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.execution import execution
from narrows.measure.latency import Comparison, Schedule, compare
from narrows.measure.quality import Quality, QualityRecord, paired_drop
from narrows.measure.worker import serve
from narrows.measure.workers import WorkerContender, open_contender
from narrows.splits import Split
from narrows.task import Task, load_task
from narrows.zoo.sources import preset, resolve

FLOAT, INT8, WEIGHTS, FOLDED = "float32", "int8", "weights", "weights, folded at load"
_BATCH = 8
_LARGEST_DROP, _LEAST_SPEED_UP = 0.01, 2.0


def main() -> int:
    options = _options()
    if options.serve:
        serve(_folded(options.serve))
        return 0
    task = task_of(options.data, options.model)
    original = load(resolve(options.model))
    method, tried = _best_method(original, task, options.examples)
    models = {
        FLOAT: original,
        INT8: _int8(original, task, options.examples, method),
        WEIGHTS: load(quantize_weights(original)),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in models}
        for name, model in models.items():
            onnx.save(model.proto, files[name])
        comparison = _times(files, options)
        sizes = {name: path.stat().st_size for name, path in files.items()}
    quality = _quality(models, task, task.report)
    rows = {name: _row(name, quality, sizes, comparison) for name in (*models, FOLDED)}
    runs = {name: execution(model).text for name, model in models.items() if name != FLOAT}
    passed = _print(rows, runs, tried, method, len(task.report))
    if options.out:
        found = {
            "model": options.model,
            "report_pictures": len(task.report),
            "calibration": {"examples": options.examples, "method": method, "divergence": tried},
            "rows": rows,
            "runs": runs,
            "latency": to_dict(comparison),
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if passed else 1


def _best_method(original: Model, task: Task, examples: int) -> tuple[Method, dict[str, float]]:
    """The calibration whose answers diverge least on the choose set."""
    models = {method: _int8(original, task, examples, method) for method in METHODS}
    judged = _quality({FLOAT: original, **models}, task, task.choose)
    found = {method: judged[method].logit_divergence or 0.0 for method in METHODS}
    return min(METHODS, key=lambda method: found[method]), dict(found)


def _int8(original: Model, task: Task, examples: int, method: Method) -> Model:
    batches = fit_batches(task, original, examples)
    return load(quantize_static(original, batches, method=method))


def _quality(models: Mapping[str, Model], task: Task, split: Split) -> dict[str, QualityRecord]:
    """All models in one pass; the first is what the others are compared with."""
    running = {name: session(model.proto) for name, model in models.items()}
    judged = {name: Quality(classes=int(np.prod(m.outputs[0].shape))) for name, m in models.items()}
    first = next(iter(models))
    for start in range(0, len(split), _BATCH):
        inputs, labels = task.inputs(split, start, min(start + _BATCH, len(split)))
        outputs = {
            name: run(one, {models[name].input.name: inputs})[0] for name, one in running.items()
        }
        for name, quality in judged.items():
            quality.add(outputs[name], labels, outputs[first])
    return {name: quality.result() for name, quality in judged.items()}


def _times(files: Mapping[str, Path], options: argparse.Namespace) -> Comparison:
    contenders = {name: open_contender(path, name=name) for name, path in files.items()}
    command = (sys.executable, __file__, str(options.data), "--serve", str(files[WEIGHTS]))
    contenders[FOLDED] = WorkerContender(FOLDED, command)
    schedule = Schedule(session_s=options.session, limit_s=4 * options.session)
    try:
        return compare(contenders, schedule=schedule)
    finally:
        for contender in contenders.values():
            contender.close()


def _folded(path: Path) -> Callable[[], object]:
    """A run of a model whose DequantizeLinear nodes are folded while loading."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    running = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    given = running.get_inputs()[0]
    x = np.random.default_rng(0).normal(size=(1, *given.shape[1:])).astype(np.float32)
    return lambda: running.run(None, {given.name: x})


def _row(
    name: str,
    quality: Mapping[str, QualityRecord],
    sizes: Mapping[str, int],
    comparison: Comparison,
) -> dict[str, Any]:
    taken = comparison.measurements[name]
    row: dict[str, Any] = {"latency_s": taken.estimate, "latency_interval_s": taken.interval}
    row["contended"] = taken.contended
    if name != FLOAT:
        ratio = comparison.ratio(FLOAT, name)
        row |= {"speed_up": ratio.estimate, "speed_up_interval": ratio.interval}
    if name in quality:
        record = quality[name]
        drop, low, high = paired_drop(quality[FLOAT], record)
        row |= {"size_bytes": sizes[name], "accuracy": record.accuracy, "top5": record.top5}
        row |= {"drop": drop, "drop_interval": (low, high), "agreement": record.agreement}
    return row


def _print(
    rows: Mapping[str, dict[str, Any]],
    runs: Mapping[str, str],
    tried: Mapping[str, float],
    method: str,
    pictures: int,
) -> bool:
    told = ", ".join(f"{name} {value:.4f}" for name, value in tried.items())
    print(f"divergence on the choose set, nats: {told}; taken: {method}")
    print(f"{pictures} report pictures, one thread")
    print(f"{'':24} {'MB':>6} {'top-1':>7} {'drop, points':>22} {'ms':>8} {'faster':>20}")
    for name, row in rows.items():
        size = f"{row['size_bytes'] / 1e6:.2f}" if "size_bytes" in row else ""
        accuracy = f"{100 * row['accuracy']:.2f}" if "accuracy" in row else ""
        drop = _interval(row, "drop", 100) if name != FLOAT and "drop" in row else ""
        speed_up = _interval(row, "speed_up", 1) if name != FLOAT else ""
        mark = " (contended)" if row["contended"] else ""
        print(
            f"{name:24} {size:>6} {accuracy:>7} {drop:>22} {1e3 * row['latency_s']:8.2f} "
            f"{speed_up:>20}{mark}"
        )
    for name, text in runs.items():
        print(f"{name}: {text}")
    found = rows[INT8]
    passed = found["drop"] <= _LARGEST_DROP and found["speed_up"] >= _LEAST_SPEED_UP
    print(f"int8 loses at most a point and is at least twice as fast: {passed}")
    return bool(passed)


def _interval(row: Mapping[str, Any], name: str, factor: float) -> str:
    low, high = row[f"{name}_interval"]
    return f"{factor * row[name]:.2f} ({factor * low:.2f}, {factor * high:.2f})"


def task_of(data: Path, model: str) -> Task:
    """The pictures of a folder with fit.csv and report.csv, prepared for a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.toml"
        sets = "".join(f'{n} = "{(data / n).resolve()}.csv"\n' for n in ("fit", "report"))
        path.write_text(f'name = "pictures"\n[data]\n{sets}')
        return load_task(path, preprocess=preset(model))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="zoo:efficientnet_lite0")
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--session", type=float, default=20.0, help="seconds of timing, at least")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
