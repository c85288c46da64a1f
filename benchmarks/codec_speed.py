"""Time of the codecs that benchmarks/rate.py settled, and of the heads they are fused into.

    python benchmarks/rate.py DATA --keep FOLDER --json rate.json
    python benchmarks/codec_speed.py FOLDER rate.json [--json FILE]

Encoding and decoding run on the symbols of real pictures, on one core. A fused head and the plain
head alternate within the same rounds; their ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from narrows.coding.coders import Ans, Huffman
from narrows.graph import find_cuts, load
from narrows.graph.fuse import fuse_head
from narrows.graph.ort import run, session
from narrows.graph.split import split
from narrows.measure.latency import Schedule, compare, latency
from narrows.plan.store import PlanFolder
from narrows.task import load_task
from narrows.zoo.sources import preset, resolve

MODEL = "zoo:efficientnet_lite0"
_PICTURES = 64


def main() -> None:
    options = _options()
    model = load(resolve(MODEL))
    cuts = find_cuts(model)
    task = load_task(options.folder / "task.toml", preprocess=preset(MODEL))
    pictures, _ = task.inputs(task.choose, 0, _PICTURES)
    rows = []
    for settled in json.loads(options.rates.read_text()):
        if settled["cut"] is None:
            continue
        cut = cuts[settled["cut"]]
        fitted = PlanFolder(path=options.folder / "plan").load_fitted("lite0", cut.index)
        rate = fitted.rates[settled["rate_index"]]
        codec = fitted.codec(rate, "ans")
        head = split(model, cut).head
        assert head is not None
        plain, fused = session(head), session(fuse_head(head, cut, codec))
        name = model.input.name
        symbols = [run(fused, {name: picture[None]})[0][0] for picture in pictures]
        compared = compare(
            {
                "fused": partial(run, fused, {name: pictures[:1]}),
                "plain": partial(run, plain, {name: pictures[:1]}),
            },
            schedule=Schedule(target=None, rounds=options.rounds, session_s=options.session),
        )
        ratio = compared.ratio("fused", "plain", cpu=True)
        row = {
            "cut": cut.index,
            "shape": cut.shape,
            "codec": settled["id"],
            "plain_head_s": compared.measurements["plain"].cpu.median,
            "fused_head_s": compared.measurements["fused"].cpu.median,
            "head_ratio": ratio.median,
            "head_ratio_interval": ratio.interval,
            **_coding(symbols, rate.coder_tables),
        }
        rows.append(row)
        _print(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _coding(symbols: list[Any], tables: Any) -> dict[str, Any]:
    """Bytes and times of both coders, and how far ANS is from its tables' cross-entropy."""
    found: dict[str, Any] = {}
    for coder in (Ans(), Huffman()):
        table = tables[coder.name]
        payloads = [coder.encode(one, table) for one in symbols]
        shape = symbols[0].shape
        encode = latency(_each(symbols, partial(coder.encode, table=table)))
        decode = latency(_each(payloads, partial(coder.decode, shape=shape, table=table)))
        found[f"{coder.name}_bytes"] = float(np.mean([len(payload) for payload in payloads]))
        found[f"{coder.name}_encode_s"] = encode.cpu.median
        found[f"{coder.name}_decode_s"] = decode.cpu.median
        if isinstance(coder, Ans):
            least = [coder.cost_bits(one, table) / 8 for one in symbols]
            over = [len(p) / bits - 1 for p, bits in zip(payloads, least, strict=True)]
            long = [share for share, p in zip(over, payloads, strict=True) if len(p) >= 500]
            found["over_cross_entropy_mean"] = float(np.mean(over))
            found["over_cross_entropy_most"] = float(max(long, default=0.0))
    return found


def _each(items: list[Any], work: Callable[[Any], object]) -> Callable[[], object]:
    """A call that works on the next item every time."""
    endless = cycle(items)
    return lambda: work(next(endless))


def _print(row: dict[str, Any]) -> None:
    low, high = row["head_ratio_interval"]
    print(
        f"cut {row['cut']} {row['shape']} {row['codec']}\n"
        f"  head {1e3 * row['plain_head_s']:.2f} ms plain, {1e3 * row['fused_head_s']:.2f} ms fused"
        f": ratio {row['head_ratio']:.3f} ({low:.3f} to {high:.3f})"
    )
    for name in ("ans", "huffman"):
        both = row[f"{name}_encode_s"] + row[f"{name}_decode_s"]
        print(
            f"  {name:7} {row[f'{name}_bytes']:6.0f} B, encode {1e3 * row[f'{name}_encode_s']:.2f}"
            f" + decode {1e3 * row[f'{name}_decode_s']:.2f} = {1e3 * both:.2f} ms"
        )
    print(
        f"  ANS over its tables' cross-entropy: {100 * row['over_cross_entropy_mean']:.2f} % mean,"
        f" {100 * row['over_cross_entropy_most']:.2f} % at most (payloads of 500 bytes and more)"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what rate.py kept")
    parser.add_argument("rates", type=Path, help="rate.py's JSON")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--session", type=float, default=10.0, help="seconds a head")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
