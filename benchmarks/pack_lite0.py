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
from pathlib import Path
from typing import Any, Final

from int8_lite0 import task_of
from narrows.files import write_atomic
from narrows.graph.calibrate import fit_batches
from narrows.graph.load import Model, load
from narrows.graph.round_weights import RoundSettings, WeightRounder
from narrows.graph.second_moments import input_moments
from narrows.graph.weight_matrices import weight_matrices
from narrows.task import Task
from narrows.zoo.sources import resolve
from packing import Judge, Way, coarsest, nncodec, ours, reported

MODEL: Final = "zoo:efficientnet_lite0"


def main() -> None:
    options = _options()
    task = task_of(options.data, MODEL)
    original = load(resolve(MODEL))
    judged = Judge(original, task)
    rows = []
    for name, way in _ways(original, task, options).items():
        if options.ways and name not in options.ways:
            continue
        packed, trials = coarsest(
            way, judged, lambda found: found["divergence"] <= options.max_divergence
        )
        rows.append({"way": name, **reported(packed, original, task), "trials": trials})
        print(_text(rows[-1]), flush=True)
    if options.out:
        told = {"model": MODEL, "before_bytes": original.proto.ByteSize(), "rows": rows}
        write_atomic(options.out, json.dumps(told, indent=1) + "\n")


def _ways(original: Model, task: Task, options: argparse.Namespace) -> dict[str, Way]:
    weights = weight_matrices(original)
    moments = input_moments(original, weights, fit_batches(task, original, len(task.fit)))
    plain = RoundSettings(shrinkage=0.0, spread=0.0, shift_biases=False)
    ways = {
        "narrows": ours(WeightRounder(original, weights, moments)),
        "one step, adaptive ANS": ours(WeightRounder(original, weights, {}, plain)),
    }
    if options.nncodec:
        for name, opt_qp in (("nncodec", False), ("nncodec, opt_qp", True)):
            ways[name] = nncodec(original, options.folder, options.nncodec, opt_qp=opt_qp)
    return ways


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
