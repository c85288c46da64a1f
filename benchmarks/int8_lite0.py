"""EfficientNet-Lite0 in float32, int8 and with 8-bit weights alone: accuracy and time in one run.

    python benchmarks/int8_lite0.py DATA [--model NAME] [--examples 100] [--out FILE.json]

DATA holds fit.csv (halved into fit and choose) and report.csv. Activations are calibrated on the
fit half by every method; the choose half picks the one whose answers diverge least. Then the report
set is read once, by all, on both runtimes. Times are of worker processes in interleaved rounds on
one thread, each compared with float32 on the same runtime (OpenVINO's really in f32). With 8-bit
weights the network is timed once more in ONNX Runtime with the weights dequantized once, while it
is loaded: as it is, that runtime dequantizes them at each run.
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
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.backends import BACKENDS
from narrows.measure.execution import execution
from narrows.measure.latency import Comparison, Schedule, compare
from narrows.measure.quality import Quality, QualityRecord, paired_drop
from narrows.measure.worker import serve
from narrows.measure.workers import WorkerContender, open_contender
from narrows.splits import Split
from narrows.task import Task, load_task
from narrows.zoo.sources import preset, resolve

FLOAT, INT8, WEIGHTS, FOLDED = "float32", "int8", "weights", "weights, folded at load"
ORT, OPENVINO = "onnxruntime", "openvino"
Run = tuple[str, str]  # the network and the runtime
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
        runs = {
            (name, runtime): path for runtime in (ORT, OPENVINO) for name, path in files.items()
        }
        comparison = _times(runs, options)
        sizes = {name: path.stat().st_size for name, path in files.items()}
        quality = _quality(runs, original.input.name, task, task.report)
    rows = {key: _row(key, quality, sizes, comparison) for key in (*runs, (FOLDED, ORT))}
    executed = {name: execution(model).text for name, model in models.items() if name != FLOAT}
    passed = _print(rows, executed, tried, method, len(task.report))
    if options.out:
        found = {
            "model": options.model,
            "report_pictures": len(task.report),
            "calibration": {"examples": options.examples, "method": method, "divergence": tried},
            "rows": [{"network": key[0], "runtime": key[1], **row} for key, row in rows.items()],
            "runs": executed,
            "latency": to_dict(comparison),
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if passed else 1


def _best_method(original: Model, task: Task, examples: int) -> tuple[Method, dict[str, float]]:
    """The calibration whose answers diverge least on the choose set."""
    with tempfile.TemporaryDirectory() as folder:
        files = {(FLOAT, ORT): Path(folder) / "float32.onnx"}
        onnx.save(original.proto, files[FLOAT, ORT])
        for made in METHODS:
            files[made, ORT] = Path(folder) / f"{made}.onnx"
            onnx.save(_int8(original, task, examples, made).proto, files[made, ORT])
        judged = _quality(files, original.input.name, task, task.choose)
    found = {made: judged[made, ORT].logit_divergence or 0.0 for made in METHODS}
    return min(METHODS, key=lambda method: found[method]), dict(found)


def _int8(original: Model, task: Task, examples: int, method: Method) -> Model:
    batches = fit_batches(task, original, examples)
    return load(quantize_static(original, batches, method=method))


def _quality(
    files: Mapping[Run, Path], given: str, task: Task, split: Split
) -> dict[Run, QualityRecord]:
    """All networks on all runtimes in one pass; the first is what the others are compared with."""
    running = {key: BACKENDS[key[1]].load(path, threads=1) for key, path in files.items()}
    judged: dict[Run, Quality] = {}
    for start in range(0, len(split), _BATCH):
        inputs, labels = task.inputs(split, start, min(start + _BATCH, len(split)))
        outputs = {key: one.run({given: inputs})[0] for key, one in running.items()}
        first = next(iter(outputs.values()))
        for key, found in outputs.items():
            one = judged.setdefault(key, Quality(classes=found.shape[1]))
            one.add(found, labels, first)
    return {key: quality.result() for key, quality in judged.items()}


def _times(files: Mapping[Run, Path], options: argparse.Namespace) -> Comparison:
    contenders = {
        _name(key): open_contender(path, backend=key[1], name=_name(key))
        for key, path in files.items()
    }
    command = (sys.executable, __file__, str(options.data), "--serve", str(files[WEIGHTS, ORT]))
    folded = _name((FOLDED, ORT))
    contenders[folded] = WorkerContender(folded, command)
    schedule = Schedule(session_s=options.session, limit_s=4 * options.session)
    try:
        return compare(contenders, schedule=schedule)
    finally:
        for contender in contenders.values():
            contender.close()


def _name(key: Run) -> str:
    return f"{key[1]}: {key[0]}"


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
    key: Run,
    quality: Mapping[Run, QualityRecord],
    sizes: Mapping[str, int],
    comparison: Comparison,
) -> dict[str, Any]:
    taken, floating = comparison.measurements[_name(key)], (FLOAT, key[1])
    row: dict[str, Any] = {"latency_s": taken.estimate, "latency_interval_s": taken.interval}
    row["contended"] = taken.contended
    if key != floating:
        ratio = comparison.ratio(_name(floating), _name(key))
        row |= {"speed_up": ratio.estimate, "speed_up_interval": ratio.interval}
    if key in quality:
        record = quality[key]
        row |= {"size_bytes": sizes[key[0]], "accuracy": record.accuracy, "top5": record.top5}
        row["agreement"] = record.agreement
        if key != floating:
            drop, low, high = paired_drop(quality[FLOAT, ORT], record)
            row |= {"drop": drop, "drop_interval": (low, high)}
    return row


def _print(
    rows: Mapping[Run, dict[str, Any]],
    executed: Mapping[str, str],
    tried: Mapping[str, float],
    method: str,
    pictures: int,
) -> bool:
    told = ", ".join(f"{name} {value:.4f}" for name, value in tried.items())
    print(f"divergence on the choose set, nats: {told}; taken: {method}")
    print(f"{pictures} report pictures, one thread")
    print(
        f"{'runtime':12} {'network':24} {'MB':>6} {'top-1':>7} {'drop, points':>22} {'ms':>8} "
        f"{'faster':>20}"
    )
    for (name, runtime), row in rows.items():
        size = f"{row['size_bytes'] / 1e6:.2f}" if "size_bytes" in row else ""
        accuracy = f"{100 * row['accuracy']:.2f}" if "accuracy" in row else ""
        drop = _interval(row, "drop", 100) if "drop" in row else ""
        speed_up = _interval(row, "speed_up", 1) if "speed_up" in row else ""
        mark = " (contended)" if row["contended"] else ""
        print(
            f"{runtime:12} {name:24} {size:>6} {accuracy:>7} {drop:>22} "
            f"{1e3 * row['latency_s']:8.2f} {speed_up:>20}{mark}"
        )
    for name, text in executed.items():
        print(f"{name} in ONNX Runtime: {text}")
    passed = False
    for runtime in (ORT, OPENVINO):
        found = rows[INT8, runtime]
        good = found["drop"] <= _LARGEST_DROP and found["speed_up"] >= _LEAST_SPEED_UP
        print(f"int8 in {runtime} loses at most a point and is at least twice as fast: {good}")
        passed = passed or good
    return passed


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
