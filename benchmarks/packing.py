"""What the benchmarks of packed files share: ways to pack, judged on choose, searched, reported."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.files import make_folder
from narrows.graph.load import Model, load
from narrows.graph.ort import session
from narrows.graph.packed_model import pack_model, unpack_model
from narrows.graph.round_weights import WeightRounder, with_values
from narrows.graph.weight_matrices import initial_values
from narrows.measure.divergence import divergences
from narrows.measure.judging import judge, outputs_of
from narrows.measure.quality import paired_drop
from narrows.splits import Split
from narrows.task import Task

_BATCH: Final = 16
_TIMES: Final = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One setting of one way: its bytes, the model of them, and how long they took."""

    size_bytes: int
    proto: onnx.ModelProto
    decode_s: float
    setting: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to pack a model.

    Args:
        make: Of a level: higher is coarser.
        low: The finest level.
        high: One that is too coarse.
    """

    make: Callable[[int], Packed]
    low: int
    high: int


def ours(rounder: WeightRounder) -> Way:
    """`narrows pack`; levels are eighths of an octave of the step."""
    return Way(make=partial(_rounded, rounder), low=-80, high=16)


def nncodec(original: Model, folder: Path, python: str, *, opt_qp: bool) -> Way:
    """The standard's coder with trellis-coded quantization, a call of another interpreter each."""
    extra = f"opt_qp={str(opt_qp).lower()}"
    return Way(
        make=partial(_nncodec, original, extra, make_folder(folder), python), low=-40, high=-8
    )


@final
class Judge:
    """Answers on the choose set beside those of a reference."""

    def __init__(self, reference: Model, task: Task) -> None:
        self._task = task
        self._reference = answers(reference, task, task.choose)
        self._labels = np.concatenate(
            [task.inputs(task.choose, at, at + _BATCH)[1] for at in _starts(task.choose)]
        )

    def of(self, proto: onnx.ModelProto) -> dict[str, float]:
        """Drop, its standard error, agreement and divergence of a model."""
        found = answers(load(proto), self._task, self._task.choose)
        before, after = (one.argmax(1) for one in (self._reference, found))
        right = [(one == self._labels).mean() for one in (before, after)]
        return {
            "drop": float(right[0] - right[1]),
            "error": float(np.sqrt((before != after).sum()) / len(before)),
            "agreement": float((before == after).mean()),
            "divergence": float(divergences(self._reference, found, "logits").mean()),
        }


def coarsest(
    way: Way, judged: Judge, keeps: Callable[[dict[str, float]], bool]
) -> tuple[Packed, list[dict[str, float]]]:
    """The coarsest level that keeps the choose set's answers, by halving, and what was tried."""
    trials = []
    low, high = way.low, way.high
    while high - low > 1:
        middle = (low + high) // 2
        packed = way.make(middle)
        found = judged.of(packed.proto)
        trials.append({"level": middle, "size_bytes": packed.size_bytes, **found})
        print(f"  level {middle}: {packed.size_bytes:,} bytes, {found}", flush=True)
        low, high = (middle, high) if keeps(found) else (low, middle)
    return way.make(low), trials


def first_kept(
    way: Way, judged: Judge, keeps: Callable[[dict[str, float]], bool]
) -> tuple[Packed, list[dict[str, float]]]:
    """The coarsest level of all that keeps the choose set's answers, and what was tried.

    Where files are small every level can be tried: a drop of few pictures is no steady function of
    the level, and halving stops at the first bad luck.
    """
    trials = []
    for level in range(way.high, way.low - 1, -1):
        packed = way.make(level)
        found = judged.of(packed.proto)
        trials.append({"level": level, "size_bytes": packed.size_bytes, **found})
        if keeps(found):
            break
    print(f"  level {level}: {packed.size_bytes:,} bytes, {found}", flush=True)
    return packed, trials


def reported(packed: Packed, original: Model, task: Task) -> dict[str, Any]:
    """What the report set says of a packed model beside the original."""
    models = [original, load(packed.proto)]
    before, after = (judge(one, task, "report") for one in models)
    said = [answers(one, task, task.report).argmax(1) for one in models]
    return {
        "setting": packed.setting,
        "size_bytes": packed.size_bytes,
        "decode_s": packed.decode_s,
        "report_pictures": len(task.report),
        "accuracy_before": before.quality.accuracy,
        "accuracy": after.quality.accuracy,
        "drop": paired_drop(before.quality, after.quality),
        "agreement": float((said[0] == said[1]).mean()),
    }


def answers(model: Model, task: Task, split: Split) -> NDArray[np.float32]:
    """Outputs for all examples of a set."""
    running = session(model.proto)
    return np.concatenate(
        [
            outputs_of(model, running, task.inputs(split, at, at + _BATCH)[0])
            for at in _starts(split)
        ]
    )


def _starts(split: Split) -> range:
    return range(0, len(split), _BATCH)


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
