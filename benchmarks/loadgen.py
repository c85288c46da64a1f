"""One network measured through narrows and through MLCommons LoadGen, in turns in the same run.

    python benchmarks/loadgen.py [--model M] [--pairs 10] [--seconds 3] [--out loadgen.json]

Every pair is a round of narrows in a fresh worker process and a single-stream run of LoadGen in a
fresh process, in random order. The estimate of each is the median of its medians; they agree where
the median ratio is within 5 % of one. Takes about a minute and a half. Needs the extras `lab` (for
the network) and `loadgen`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from narrows.config import write_json
from narrows.measure.environment import Environment, environment
from narrows.measure.loadgen import run_loadgen
from narrows.measure.record import Measurement
from narrows.measure.workers import WorkerContender, open_contender
from narrows.units import percent_text, seconds_text
from narrows.zoo.sources import resolve

LARGEST_DIFFERENCE = 0.05
WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was found.

    Args:
        model: The network.
        seconds: Of every round and run.
        narrows_s: Median latency of each of narrows' rounds.
        loadgen_s: Median latency of each of LoadGen's runs.
        ratio: narrows over LoadGen, pair by pair.
        all_valid: Whether LoadGen took every run as valid.
        agrees: Whether the median ratio is within 5 % of one.
        environment: Where.
    """

    model: str
    seconds: float
    narrows_s: Measurement
    loadgen_s: Measurement
    ratio: Measurement
    all_valid: bool
    agrees: bool
    environment: Environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="torchvision:mobilenet_v3_small?pretrained=0")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    source = resolve(given.model)
    with tempfile.TemporaryDirectory() as folder:
        path = source if isinstance(source, Path) else Path(folder) / "model.onnx"
        if isinstance(source, onnx.ModelProto):
            path.write_bytes(source.SerializeToString())
        found = compare(given.model, path, given)
    show(found)
    if given.out:
        write_json(given.out, found)
    sys.exit(not found.agrees)


def compare(model: str, path: Path, given: argparse.Namespace) -> Agreement:
    order = np.random.default_rng(given.seed)
    times: dict[str, list[float]] = {"narrows": [], "loadgen": []}
    valid = []
    with open_contender(path, threads=given.threads) as worker:
        for pair in range(given.pairs):
            for which in order.permutation(["narrows", "loadgen"]):
                if which == "narrows":
                    times["narrows"].append(one_round(worker, given.seconds))
                else:
                    record = run_loadgen(
                        path, threads=given.threads, seconds=given.seconds, samples=64
                    )
                    times["loadgen"].append(record.median_s)
                    valid.append(record.valid)
            ours, theirs = times["narrows"][-1], times["loadgen"][-1]
            texts = seconds_text(ours), seconds_text(theirs)
            print(f"  pair {pair + 1:2}: narrows {texts[0]:>9}, LoadGen {texts[1]:>9}", flush=True)
    here = environment(threads=given.threads)
    ratio = tuple(a / b for a, b in zip(times["narrows"], times["loadgen"], strict=True))
    ratios = Measurement(name="narrows / LoadGen", unit="1", samples=ratio, environment=here)
    return Agreement(
        model=model,
        seconds=given.seconds,
        narrows_s=measurement("narrows_s", times["narrows"], here),
        loadgen_s=measurement("loadgen_s", times["loadgen"], here),
        ratio=ratios,
        all_valid=all(valid),
        agrees=abs(ratios.median - 1) <= LARGEST_DIFFERENCE,
        environment=here,
    )


def one_round(worker: WorkerContender, seconds: float) -> float:
    worker.respawn()
    worker.call(min_calls=3, seconds=WARM_UP_S)
    return float(np.median(worker.call(min_calls=64, seconds=seconds)[0]))


def measurement(name: str, samples: list[float], here: Environment) -> Measurement:
    return Measurement(name=name, unit="s", samples=tuple(samples), environment=here)


def show(found: Agreement) -> None:
    print(f"{found.model}, {found.environment.cpu_model}, {found.environment.threads} threads")
    for title, taken in (("narrows", found.narrows_s), ("LoadGen", found.loadgen_s)):
        low, high = (seconds_text(end) for end in taken.interval)
        print(f"  {title:<8} median latency {seconds_text(taken.median):>9}  ({low} to {high})")
    low, high = found.ratio.interval
    print(
        f"  ratio    {found.ratio.median:.4f}  ({low:.4f} to {high:.4f},"
        f" {percent_text(found.ratio.coverage)}); LoadGen's verdict"
        f" {'VALID' if found.all_valid else 'INVALID'} on its runs;"
        f" {'within' if found.agrees else 'NOT within'} {percent_text(LARGEST_DIFFERENCE)}"
    )


if __name__ == "__main__":
    main()
