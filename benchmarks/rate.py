"""Bytes against accuracy of EfficientNet-Lite0 at three depths, beside the best picture codec.

    python benchmarks/rate.py DATA [--keep FOLDER] [--json FILE]

DATA holds fit.csv and report.csv (files and labels 0 to 999). Codecs are fitted to the first 70 %
of the fit pictures (shuffled with a seed), every cut of a depth is run at ten rates on the other
30 %, and for each depth the fewest bytes whose answers diverge by no more than `--nats` and agree
often enough are settled. Then the report pictures are read once, with everything frozen. Sizes are
those of complete frames; wire bytes are with what gRPC, TCP and IP add. `--keep` keeps the tables,
which benchmarks/codec_speed.py takes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import csv
import json
import random
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.graph import find_cuts, load
from narrows.plan.candidate import Candidate, Route
from narrows.plan.constraints import Constraints
from narrows.plan.predict import Places
from narrows.plan.profile import load_cloud, load_device, load_link
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant, VariantRun
from narrows.runtime.frame import HEADER_BYTES
from narrows.task import Task, load_task
from narrows.zoo.sources import preset, resolve

MODEL = "zoo:efficientnet_lite0"
QUALITIES = {
    "jpeg": tuple(range(30, 96, 5)),
    "webp": tuple(range(30, 96, 5)),
    "avif": tuple(range(40, 91, 5)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A feature of some shape within some share of the MACs, and the bytes to reach."""

    shape: tuple[int, ...]
    macs_share: float
    must_bytes: float
    stretch_bytes: float


DEPTHS = (
    Depth(shape=(40, 28, 28), macs_share=0.30, must_bytes=4200, stretch_bytes=2800),
    Depth(shape=(80, 14, 14), macs_share=0.41, must_bytes=2200, stretch_bytes=1300),
    Depth(shape=(192, 7, 7), macs_share=0.87, must_bytes=1000, stretch_bytes=600),
)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        run = _run(options, options.keep or Path(scratch))
        run.run()
        candidates = run.candidates()
        settled = {f"{d.shape}": _settle(run, candidates, d, options) for d in DEPTHS}
        pictures = [c for c in candidates if c.route is Route.IMAGE]
        settled["picture"] = _fewest(pictures, options)
        chosen = [c for c in settled.values() if c is not None]
        plain, found = run.report(chosen + _huffman(candidates, chosen))
    rows = [_row(name, c, found, candidates) for name, c in settled.items() if c is not None]
    _print(rows, plain.accuracy, plain.n)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _run(options: argparse.Namespace, folder: Path) -> VariantRun:
    folder.mkdir(parents=True, exist_ok=True)
    model = load(resolve(MODEL))
    cuts = [
        cut
        for depth in DEPTHS
        for cut in find_cuts(model)
        if cut.shape == depth.shape and cut.head_macs_share <= depth.macs_share
    ]
    settings = Settings(
        cuts=",".join(str(cut.index) for cut in cuts),
        rates=10,
        step_ratio=2**0.125,
        screen_share=1.0,
        table_examples=10**6,
        qualities=QUALITIES,
    )
    variant = Variant(name="lite0", source=MODEL, model=model, task=_task(options, folder))
    places = Places(
        device=load_device("raspberry-pi-4"), link=load_link("4g"), cloud=load_cloud("x86-core")
    )
    kept = PlanFolder(path=folder / "plan")
    kept.open("rate")
    return VariantRun(variant, settings, Constraints(max_drop=1.0), places, kept, Stages(_tell))


def _task(options: argparse.Namespace, folder: Path) -> Task:
    with (options.data / "fit.csv").open(newline="") as file:
        head, *rows = list(csv.reader(file))
    random.Random(options.seed).shuffle(rows)
    first = round(0.7 * len(rows))
    sets = {"fit": rows[:first], "choose": rows[first:]}
    lines = [f'report = "{(options.data / "report.csv").resolve()}"']
    for name, part in sets.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *part])
        lines.append(f'{name} = "{name}.csv"')
    text = "\n".join(lines)
    path = folder / "task.toml"
    path.write_text(f'name = "pictures"\n[data]\nroot = "{options.data.resolve()}"\n{text}\n')
    return load_task(path, preprocess=preset(MODEL))


def load_pictures(data: Path) -> NDArray[np.float32]:
    """All fit pictures as inputs (n, 3, 224, 224), shuffled."""
    with tempfile.TemporaryDirectory() as folder:
        task = _task(argparse.Namespace(data=data, seed=0), Path(folder))
        sets = (task.fit, task.choose)
        return np.concatenate([task.inputs(part, 0, len(part))[0] for part in sets])


def _settle(
    run: VariantRun, candidates: list[Candidate], depth: Depth, options: argparse.Namespace
) -> Candidate | None:
    """The fewest bytes at a depth, by ANS."""
    indexes = {
        cut.index
        for cut in run.planned
        if cut.shape == depth.shape and cut.head_macs_share <= depth.macs_share
    }
    return _fewest((c for c in candidates if c.cut in indexes and _coder(c) == "ans"), options)


def _fewest(candidates: Iterable[Candidate], options: argparse.Namespace) -> Candidate | None:
    good = [
        c
        for c in candidates
        if (c.choose.logit_divergence or 0) <= options.nats
        and (c.choose.agreement or 0) >= options.agreement
    ]
    return min(good, key=lambda c: c.payload_bytes, default=None)


def _coder(candidate: Candidate) -> str:
    return candidate.codec.name.rpartition("-")[2] if candidate.codec else ""


def _huffman(candidates: list[Candidate], chosen: list[Candidate]) -> list[Candidate]:
    """The same symbols by the other coder."""
    places = {(c.cut, c.rate_index) for c in chosen if c.cut is not None}
    return [c for c in candidates if (c.cut, c.rate_index) in places and _coder(c) == "huffman"]


def _row(
    name: str, chosen: Candidate, found: dict[str, Any], candidates: list[Candidate]
) -> dict[str, Any]:
    score, drop, payload_bytes = found[chosen.id]
    row = {
        "depth": name,
        "id": chosen.id,
        "cut": chosen.cut,
        "rate_index": chosen.rate_index,
        "device_macs": chosen.cost.device_macs,
        "frame_bytes": payload_bytes + HEADER_BYTES,
        "wire_bytes_up": chosen.cost.bytes_up + payload_bytes - chosen.payload_bytes,
        "wire_bytes_down": chosen.cost.bytes_down,
        "choose_agreement": chosen.choose.agreement,
        "choose_divergence": chosen.choose.logit_divergence,
        "accuracy": score.accuracy,
        "agreement": score.agreement,
        "divergence": score.logit_divergence,
        "drop": drop.value,
        "drop_low": drop.low,
        "drop_high": drop.high,
        "n": score.n,
    }
    for other in _huffman(candidates, [chosen]):
        row["huffman_frame_bytes"] = found[other.id][2] + HEADER_BYTES
    return row


def _print(rows: list[dict[str, Any]], accuracy: float, n: int) -> None:
    print(f"uncompressed: {100 * accuracy:.2f} % of {n} report pictures")
    picture = next((row["frame_bytes"] for row in rows if row["depth"] == "picture"), None)
    for row in rows:
        line = (
            f"{row['depth']:14} {row['id']:34} {row['frame_bytes']:7.0f} B"
            f"  drop {100 * row['drop']:+.2f} ({100 * row['drop_low']:+.2f} to"
            f" {100 * row['drop_high']:+.2f}) points  agreement {100 * row['agreement']:.2f} %"
            f"  {row['divergence']:.4f} nats"
        )
        if "huffman_frame_bytes" in row:
            line += f"  Huffman {row['huffman_frame_bytes']:.0f} B"
        line += f"  wire {row['wire_bytes_up']:.0f} up, {row['wire_bytes_down']:.0f} down"
        if picture and row["depth"] != "picture":
            line += f"  picture / this {picture / row['frame_bytes']:.1f}"
        print(line)


def _tell(title: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {title}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--nats", type=float, default=0.03)
    parser.add_argument("--agreement", type=float, default=0.945)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
