"""Dense against sparse products of a weight and a vector: time, memory, and where they break even.

    python benchmarks/sparse_products.py [--shapes ip1 fc1 ...] [--session-s 4] [--out FILE.json]

Shapes are the four of the slides (100 and 1000 squared and crossed) and layers of the networks of
this project. Non-zeros lie at random places, as unstructured pruning leaves them; those of BSR in
blocks of 4 × 4, which only pruning by blocks gives. Of one shape and density everything is timed in
the same rounds, on one thread. A sparse product is compared with the dense one of its own library,
and with the fastest dense one. Memory is what each library holds, indices included.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnx
import onnxruntime as ort
import scipy.sparse
import torch

from narrows.compress.break_even import (
    DENSITIES,
    BreakEven,
    Ratio,
    csr_product,
    dense_product,
    sparse_weight,
)
from narrows.compress.sparse_formats import WeightSize, choose_format, weight_size
from narrows.config import to_dict
from narrows.files import write_atomic
from narrows.measure.contender import Run
from narrows.measure.environment import environment
from narrows.measure.latency import Comparison, Schedule, compare

SHAPES: Final = {
    "100x100": (100, 100),
    "100x1000": (100, 1000),
    "1000x100": (1000, 100),
    "1000x1000": (1000, 1000),
    "ip1": (500, 800),  # LeNet-5, its first linear layer
    "fc1": (4096, 512),  # DeepIoT's VGG
    "fc1-half": (2048, 256),  # the same at half width
    "lstm-128": (512, 384),  # gates of one direction: 128 units that read 256 and themselves
    "lstm-512": (2048, 1536),  # the same of the paper's 512 units
}
PAIRS: Final = {
    "scipy CSR": "numpy",
    "scipy BSR": "numpy",
    "torch CSR": "torch",
    "ORT CSR": "ORT",
}
DENSE: Final = ("numpy", "torch", "ORT")
_BLOCK: Final = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One shape at one density.

    Args:
        size: Of the weight.
        memory_bytes: By what holds it.
        taken: All of them, in the same rounds.
    """

    size: WeightSize
    memory_bytes: dict[str, int]
    taken: Comparison

    def ratio(self, name: str, base: str) -> Ratio:
        """A sparse product over a dense one."""
        found = self.taken.ratio(name, base)
        low, high = found.interval
        return Ratio(density=self.size.density, value=found.estimate, low=low, high=high)

    def fastest(self) -> str:
        """Of the dense ones."""
        return min(DENSE, key=lambda name: self.taken.measurements[name].cpu.estimate)


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    schedule = Schedule(session_s=options.session_s, limit_s=10 * options.session_s)
    rows = []
    for name in options.shapes:
        points = [_point(*SHAPES[name], density, schedule) for density in options.densities]
        _print_shape(name, points)
        rows.append(_row(name, points))
    _print_break_even(rows)
    if options.out:
        record = {"environment": to_dict(environment(threads=1)), "shapes": rows}
        write_atomic(options.out, json.dumps(record, indent=1) + "\n")


def _point(rows: int, columns: int, density: float, schedule: Schedule) -> Point:
    weight = sparse_weight(rows, columns, density)
    blocks = sparse_weight(rows // _BLOCK, columns // _BLOCK, density)
    ones = torch.ones(_BLOCK, _BLOCK)
    by_blocks = scipy.sparse.bsr_array(torch.kron(blocks, ones).numpy(), blocksize=(_BLOCK, _BLOCK))
    by_rows = scipy.sparse.csr_array(weight.numpy())
    vector = np.random.default_rng(0).normal(size=columns).astype(np.float32)
    values = weight.numpy()
    runs: dict[str, Run] = {
        "numpy": lambda: values @ vector,
        "torch": dense_product(weight),
        "ORT": _ort_dense(values, vector),
        "scipy CSR": lambda: by_rows @ vector,
        "scipy BSR": lambda: by_blocks @ vector,
        "torch CSR": csr_product(weight),
        "ORT CSR": _ort_sparse(by_rows, vector),
    }
    _check(runs, values @ vector)
    size = weight_size(weight)
    short, long = size.csr_bytes, weight_size(weight, index_bytes=8).csr_bytes
    held = [by_blocks.data, by_blocks.indices, by_blocks.indptr]
    memory = dict.fromkeys(DENSE, size.dense_bytes) | {
        "scipy CSR": short,
        "scipy BSR": sum(part.nbytes for part in held),
        "torch CSR": short,
        "ORT CSR": long,
    }
    return Point(size=size, memory_bytes=memory, taken=compare(runs, schedule=schedule))


def _ort_dense(weight: np.ndarray, vector: np.ndarray) -> Run:
    made = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 17]>
        dense (float[{weight.shape[1]}, 1] x) => (float[{len(weight)}, 1] y)
        <float[{len(weight)}, {weight.shape[1]}] w> {{ y = MatMul(w, x) }}"""
    )
    del made.graph.initializer[:]
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    feeds = {"x": ort.OrtValue.ortvalue_from_numpy(vector[:, None])}
    return _ort_run(made, feeds)


def _ort_sparse(weight: Any, vector: np.ndarray) -> Run:
    rows, columns = weight.shape
    made = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>
        sparse (sparse_tensor(float[{rows}, {columns}]) w, float[{columns}, 1] x)
        => (float[{rows}, 1] y) {{ y = com.microsoft.SparseToDenseMatMul(w, x) }}"""
    )
    sparse = ort.SparseTensor.sparse_csr_from_numpy(
        np.array([rows, columns], np.int64),
        weight.data,
        weight.indices.astype(np.int64),
        weight.indptr.astype(np.int64),
        ort.OrtDevice.make("cpu", 0),
    )
    feeds = {
        "w": ort.OrtValue.ort_value_from_sparse_tensor(sparse),
        "x": ort.OrtValue.ortvalue_from_numpy(vector[:, None]),
    }
    return _ort_run(made, feeds)


def _ort_run(model: onnx.ModelProto, feeds: dict[str, Any]) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run_with_ort_values(["y"], feeds)


def _check(runs: dict[str, Run], expected: np.ndarray) -> None:
    """All multiply the same; torch takes a random vector of its own, BSR another weight."""
    for name in ("ORT", "scipy CSR", "ORT CSR"):
        answer: Any = runs[name]()
        found = answer[0].numpy()[:, 0] if isinstance(answer, list) else answer
        assert np.allclose(found, expected, atol=1e-3), name


def _row(name: str, points: list[Point]) -> dict[str, Any]:
    size = points[0].size
    return {
        "shape": name,
        "rows": size.rows,
        "columns": size.columns,
        "break_even_by_size": size.break_even,
        "points": [_recorded(point) for point in points],
        "break_even": {pair: _break_even(points, pair, base) for pair, base in PAIRS.items()},
        "break_even_with_fastest_dense": {
            pair: _break_even(points, pair, _fastest(points)) for pair in PAIRS
        },
        "fastest_dense": _fastest(points),
    }


def _recorded(point: Point) -> dict[str, Any]:
    taken = point.taken.measurements
    return {
        "density": point.size.density,
        "memory_bytes": point.memory_bytes,
        "time_s": {name: one.cpu.estimate for name, one in taken.items()},
        "wall_s": {name: one.estimate for name, one in taken.items()},
        "ratios": {pair: to_dict(point.ratio(pair, base)) for pair, base in PAIRS.items()},
    }


def _fastest(points: list[Point]) -> str:
    found = [point.fastest() for point in points]
    return max(DENSE, key=found.count)


def _break_even(points: list[Point], name: str, base: str) -> dict[str, float]:
    ratios = tuple(point.ratio(name, base) for point in points)
    size = points[0].size
    found = BreakEven(rows=size.rows, columns=size.columns, ratios=ratios)
    return {"density": found.density, "low": found.low, "high": found.high}


def _print_shape(name: str, points: list[Point]) -> None:
    size = points[0].size
    names = [*DENSE, *PAIRS]
    print(f"\n{name}: {size.rows} × {size.columns}, {size.dense_bytes:,} bytes dense; CPU time, µs")
    print("density  " + "".join(f"{each:>11}" for each in names) + "   CSR bytes   CSR / dense")
    for point in points:
        taken = point.taken.measurements
        times = "".join(f"{1e6 * taken[each].cpu.estimate:11.2f}" for each in names)
        ratio = point.ratio("scipy CSR", "numpy")
        said = f"{ratio.value:6.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
        print(f"{point.size.density:7.1%}  {times}{point.size.csr_bytes:12,}  {said}", flush=True)


def _print_break_even(rows: list[dict[str, Any]]) -> None:
    """Densities below which the sparse product is faster, and what that chooses."""
    highest = rows[0]["points"][-1]["density"]
    print("\nsparse is faster below a density of (95 %), against the same library's dense product")
    print(f"{'shape':10}" + "".join(f"{pair:>22}" for pair in PAIRS) + "  smaller below")
    for row in rows:
        cells = "".join(f"{_text(row['break_even'][pair], highest):>22}" for pair in PAIRS)
        print(f"{row['shape']:10}{cells}{row['break_even_by_size']:14.1%}")
    print("\nagainst the fastest dense product")
    for row in rows:
        cells = "".join(
            f"{_text(row['break_even_with_fastest_dense'][p], highest):>22}" for p in PAIRS
        )
        print(f"{row['shape']:10}{cells}  ({row['fastest_dense']})")
    print("\nformat chosen by size, and by scipy's time against the fastest dense product")
    for row in rows:
        faster_below = row["break_even_with_fastest_dense"]["scipy CSR"]["low"]
        chosen = []
        for point in row["points"]:
            weight = sparse_weight(row["rows"], row["columns"], point["density"])
            by_time = choose_format(weight, break_even=faster_below)
            chosen.append(f"{point['density']:.0%} {choose_format(weight)}/{by_time}")
        print(f"{row['shape']:10}" + ", ".join(chosen))


def _text(found: dict[str, float], highest: float) -> str:
    if not found["high"]:
        return "never"
    if found["low"] == highest:
        return f"above {highest:.0%}"
    return f"{found['density']:.1%} ({found['low']:.1%}–{found['high']:.1%})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--densities", nargs="+", type=float, default=list(DENSITIES))
    parser.add_argument("--session-s", type=float, default=4.0, help="for each shape and density")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
