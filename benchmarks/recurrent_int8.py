"""GRU and LSTM layers in float32 and in integers: time and error, and from which size it pays.

    python benchmarks/recurrent_int8.py [--kinds GRU LSTM] [--hidden 64 120 256 512] [--inputs 0]
        [--steps 32 100] [--batch 1] [--both] [--forms] [--session-s 4] [--out FILE.json]

One layer with random weights as PyTorch draws them, quantized by `quantize_static`, against the
same layer in float32, both in ONNX Runtime on one thread, timed in the same rounds. `--inputs` 0:
as many as hidden units. `--hidden` 0: the smallest layer over these inputs that `quantize_static`
takes by itself. `--forms` times the other integer forms of `recurrent_forms` in the same rounds,
too. With other load on the machine the ratio is of CPU times.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.config import to_dict
from narrows.files import write_atomic
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.recurrent import least_hidden
from narrows.measure.environment import environment
from narrows.measure.latency import Comparison, Schedule, compare
from recurrent_forms import gru_forms, lstm_loop

Array = NDArray[Any]
FLOAT, INT8 = "float32", "int8"
GATES: Final = {"GRU": 3, "LSTM": 4}
_GOAL, _GOAL_HIDDEN = 2.0, 512


def main() -> int:
    options = _options()
    schedule = Schedule(session_s=options.session_s, limit_s=6 * options.session_s)
    rows = []
    print(
        f"{'layer':6}{'hidden':>7}{'inputs':>7}{'steps':>6}  {'form':12}{'ms':>8}{'faster':>22}"
        f"{'error':>8}{'bytes':>12}{'load, ms':>9}"
    )
    for kind in options.kinds:
        for hidden, inputs, steps in product(options.hidden, options.inputs, options.steps):
            hidden = hidden or least_hidden(kind, inputs=inputs, steps=steps)
            size = {"hidden": hidden, "inputs": inputs or hidden, "steps": steps}
            rows += _layer(kind, options, schedule, **size)
    if options.out:
        record = {"environment": to_dict(environment(threads=1)), "rows": rows}
        write_atomic(options.out, json.dumps(record, indent=1) + "\n")
    judged = [row for row in rows if row["form"] == INT8 and row["hidden"] >= _GOAL_HIDDEN]
    missed = [row for row in judged if row["speed_up"] < _GOAL]
    if judged:
        print(f"at least {_GOAL:g} times as fast from {_GOAL_HIDDEN} hidden units on: {not missed}")
    return 1 if missed else 0


def layer(
    kind: str, *, hidden: int, inputs: int, steps: int, both: bool, seed: int = 0
) -> onnx.ModelProto:
    """A network of one recurrent layer whose weights are drawn as PyTorch draws them."""
    ways, rows, bound = 1 + both, GATES[kind] * hidden, hidden**-0.5
    direction = "bidirectional" if both else "forward"
    after = ", linear_before_reset = 1" if kind == "GRU" else ""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        one (float[{steps}, N, {inputs}] x) => (float[{steps}, {ways}, N, {hidden}] y) {{
        [layer] y = {kind}<hidden_size = {hidden}, direction = "{direction}"{after}>(x, W, R, B)
        }}"""
    )
    rng = np.random.default_rng(seed)
    shapes = {"W": (ways, rows, inputs), "R": (ways, rows, hidden), "B": (ways, 2 * rows)}
    for name, shape in shapes.items():
        values = rng.uniform(-bound, bound, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


def _layer(
    kind: str, options: argparse.Namespace, schedule: Schedule, **size: int
) -> list[dict[str, Any]]:
    floating = layer(kind, **size, both=options.both)
    shape = (size["steps"], options.batch, size["inputs"])
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    protos = {FLOAT: floating, INT8: quantize_static(floating, [x], recurrent="all")}
    if options.forms and kind == "GRU":
        others = gru_forms(protos[INT8], size["steps"])
        protos |= {name: proto for name, proto in others.items() if name != "loop"}
    elif options.forms:
        W, R, B = (numpy_helper.to_array(t)[0] for t in floating.graph.initializer)
        bias = B.reshape(2, -1).sum(axis=0)
        largest = float(np.abs(x).max())
        protos["loop"] = lstm_loop(W, R, bias, steps=size["steps"], largest=largest)
    running, load_s = {}, {}
    for name, proto in protos.items():
        began_s = time.process_time()
        running[name] = session(proto)
        load_s[name] = time.process_time() - began_s
    answers = {name: run(one, {"x": x})[0] for name, one in running.items()}
    runs = {name: (lambda one=one: run(one, {"x": x})) for name, one in running.items()}
    taken = compare(runs, schedule=schedule)
    rows = []
    for name, proto in protos.items():
        row = {"layer": kind, **size, "batch": options.batch, "form": name}
        row |= _times(taken, name)
        row["error"] = float(np.std(answers[name] - answers[FLOAT]) / np.std(answers[FLOAT]))
        row |= {"size_bytes": proto.ByteSize(), "load_s": load_s[name]}
        _print(row)
        rows.append(row)
    return rows


def _times(taken: Comparison, name: str) -> dict[str, Any]:
    one = taken.measurements[name]
    row: dict[str, Any] = {"cpu_s": one.cpu.median, "wall_s": one.median}
    row["contended"] = one.contended
    if name != FLOAT:
        ratio = taken.ratio(FLOAT, name)
        row |= {"speed_up": ratio.median, "speed_up_interval": ratio.interval}
    return row


def _print(row: dict[str, Any]) -> None:
    told = ""
    if "speed_up" in row:
        low, high = row["speed_up_interval"]
        told = f"{row['speed_up']:.2f} ({low:.2f}, {high:.2f})"
    print(
        f"{row['layer']:6}{row['hidden']:7}{row['inputs']:7}{row['steps']:6}  {row['form']:12}"
        f"{1e3 * row['cpu_s']:8.3f}{told:>22}{row['error']:8.4f}{row['size_bytes']:12,}"
        f"{1e3 * row['load_s']:9.1f}",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=list(GATES), default=list(GATES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 120, 256, 512])
    parser.add_argument("--inputs", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", nargs="+", type=int, default=[32, 100])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--both", action="store_true", help="both directions in time")
    parser.add_argument("--forms", action="store_true", help="other integer forms, too")
    parser.add_argument("--session-s", type=float, default=4.0, help="for each layer")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
