"""EfficientNet-Lite0 as one packed file, nothing retrained, beside the standard's coder.

    python benchmarks/pack_lite0.py DATA OUT [--nncodec PYTHON] [--out FILE.json]

DATA holds fit.csv, of which half is rounded by and half chooses, and report.csv. Each way of
packing gets the coarsest setting whose answers on the choose half diverge little (a drop on 250
pictures has a standard error of a point, and cannot choose); these are frozen, and the report
pictures are read once by each. Ways: `narrows pack` (compensated rounding, steps by column,
adaptive ANS), the same without compensation and with one step for all (what plain rounding costs),
and nncodec, ISO/IEC 15938-17, if PYTHON has it (see nncodec_file.py), with its trellis-coded
quantization, on the same weights with batch norms folded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from int8_lite0 import task_of
from narrows.files import make_folder, write_atomic
from narrows.graph.calibrate import fit_batches
from narrows.graph.load import Model, load
from narrows.graph.ort import session
from narrows.graph.packed_model import pack_model, unpack_model
from narrows.graph.round_weights import RoundSettings, WeightRounder, with_values
from narrows.graph.second_moments import input_moments
from narrows.graph.weight_matrices import initial_values, weight_matrices
from narrows.measure.divergence import divergences
from narrows.measure.judging import judge, outputs_of
from narrows.measure.quality import paired_drop
from narrows.task import Task
from narrows.zoo.sources import resolve

MODEL: Final = "zoo:efficientnet_lite0"
_BATCH: Final = 16
_TIMES: Final = 5
_QPS: Final = tuple(range(-40, -15))


@dataclass(frozen=True, kw_only=True)
class Packed:
    """One setting of one way: its bytes, the model of them, and how long they took."""

    size_bytes: int
    proto: onnx.ModelProto
    decode_s: float
    setting: float


Way = Callable[[int], Packed]  # of a level: higher is coarser


def main() -> None:
    options = _options()
    task = task_of(options.data, MODEL)
    original = load(resolve(MODEL))
    judged = Judge(original, task)
    rows = []
    for name, (way, low, high) in _ways(original, task, options).items():
        if options.ways and name not in options.ways:
            continue
        level, trials = _coarsest(way, low, high, judged, options)
        rows.append(_row(name, way(level), level, trials, original, task))
        print(_text(rows[-1]), flush=True)
    if options.out:
        told = {"model": MODEL, "before_bytes": original.proto.ByteSize(), "rows": rows}
        write_atomic(options.out, json.dumps(told, indent=1) + "\n")


class Judge:
    """Answers on the choose set beside those of the original."""

    def __init__(self, original: Model, task: Task) -> None:
        self._task = task
        self._reference, self._labels = self._answers(original)

    def of(self, proto: onnx.ModelProto) -> dict[str, float]:
        """Drop, agreement and divergence of a model."""
        found, _ = self._answers(load(proto))
        before, after = (answers.argmax(1) for answers in (self._reference, found))
        right = [(one == self._labels).mean() for one in (before, after)]
        return {
            "drop": float(right[0] - right[1]),
            "error": float(np.sqrt((before != after).sum()) / len(before)),
            "agreement": float((before == after).mean()),
            "divergence": float(divergences(self._reference, found, "logits").mean()),
        }

    def _answers(self, model: Model) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen, running = self._task.choose, session(model.proto)
        parts = [
            self._task.inputs(chosen, start, start + _BATCH)
            for start in range(0, len(chosen), _BATCH)
        ]
        outputs = [outputs_of(model, running, x) for x, _ in parts]
        return np.concatenate(outputs), np.concatenate([y for _, y in parts])


def _ways(
    original: Model, task: Task, options: argparse.Namespace
) -> dict[str, tuple[Way, int, int]]:
    """Each way with its finest and its coarsest level; levels of ours are eighths of an octave."""
    weights = weight_matrices(original)
    moments = input_moments(original, weights, fit_batches(task, original, len(task.fit)))
    ours = WeightRounder(original, weights, moments)
    plain = WeightRounder(
        original, weights, {}, RoundSettings(shrinkage=0.0, spread=0.0, shift_biases=False)
    )
    ways: dict[str, tuple[Way, int, int]] = {
        "narrows": (partial(_rounded, ours), -80, 0),
        "one step, adaptive ANS": (partial(_rounded, plain), -80, 0),
    }
    if options.nncodec:
        folder = make_folder(options.folder)
        for name, extra in (("nncodec", "opt_qp=false"), ("nncodec, opt_qp", "opt_qp=true")):
            way = partial(_nncodec, original, extra, folder, options.nncodec)
            ways[name] = (way, _QPS[0], _QPS[-1])
    return ways


def _rounded(rounder: WeightRounder, level: int) -> Packed:
    step = 2.0 ** (level / 8)
    made = rounder.rounded(step)
    data = pack_model(made.proto, grids=made.grids)
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        proto = unpack_model(data)
        took.append(time.perf_counter() - began)
    return Packed(size_bytes=len(data), proto=proto, decode_s=float(np.median(took)), setting=step)


def _nncodec(original: Model, extra: str, folder: Path, python: str, qp: int) -> Packed:
    stored = initial_values(original)  # nncodec takes no scalars: they stay as they are
    values = {name: v for name, v in stored.items() if v.dtype == np.float32 and v.ndim}
    source, target = folder / "weights.npz", folder / "decoded.npz"
    np.savez(source, **values)
    script = Path(__file__).with_name("nncodec_file.py")
    done = subprocess.run(
        [python, str(script), str(source), str(target), f"qp={qp}", "use_dq=true", extra],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    with np.load(target) as decoded:
        found = {name: decoded[name].reshape(v.shape) for name, v in values.items()}
    return Packed(
        size_bytes=told["size_bytes"],
        proto=with_values(original.proto, found),
        decode_s=told["decode_s"],
        setting=qp,
    )


def _coarsest(
    way: Way, low: int, high: int, judged: Judge, options: argparse.Namespace
) -> tuple[int, list[dict[str, float]]]:
    """The coarsest level that keeps the choose set's answers, by halving."""
    trials = []
    while high - low > 1:
        middle = (low + high) // 2
        packed = way(middle)
        found = judged.of(packed.proto)
        trials.append({"level": middle, "size_bytes": packed.size_bytes, **found})
        print(f"  level {middle}: {packed.size_bytes:,} bytes, {found}", flush=True)
        kept = found["divergence"] <= options.max_divergence
        low, high = (middle, high) if kept else (low, middle)
    return low, trials


def _row(
    name: str, packed: Packed, level: int, trials: list[Any], original: Model, task: Task
) -> dict[str, Any]:
    before, after = (judge(one, task, "report") for one in (original, load(packed.proto)))
    answers = [_answered(one, task) for one in (original, load(packed.proto))]
    return {
        "way": name,
        "setting": packed.setting,
        "level": level,
        "size_bytes": packed.size_bytes,
        "decode_s": packed.decode_s,
        "report_pictures": len(task.report),
        "accuracy_before": before.quality.accuracy,
        "accuracy": after.quality.accuracy,
        "drop": paired_drop(before.quality, after.quality),
        "agreement": float((answers[0] == answers[1]).mean()),
        "trials": trials,
    }


def _answered(model: Model, task: Task) -> NDArray[np.int64]:
    running = session(model.proto)
    return np.concatenate(
        [
            outputs_of(model, running, task.inputs(task.report, at, at + _BATCH)[0]).argmax(1)
            for at in range(0, len(task.report), _BATCH)
        ]
    )


def _text(row: dict[str, Any]) -> str:
    drop, low, high = (100 * value for value in row["drop"])
    return (
        f"{row['way']:24} {row['size_bytes'] / 1e6:.3f} MB, report accuracy "
        f"{row['accuracy_before']:.2%} → {row['accuracy']:.2%}, drop {drop:+.2f} ({low:+.2f} to "
        f"{high:+.2f}) points, agreement {row['agreement']:.2%}, decoded in {row['decode_s']:.2f} s"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="of nncodec's files")
    parser.add_argument("--nncodec", help="a Python interpreter that has nncodec")
    parser.add_argument("--ways", nargs="+", help="names of those to do")
    parser.add_argument("--max-divergence", type=float, default=0.02, help="nats, on choose")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
