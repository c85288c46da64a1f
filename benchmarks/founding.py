"""The founding paper's figures: accuracy, bytes and device MACs at every cut of several networks.

    python benchmarks/founding.py DATA OUT [--examples 120] [--json FILE]

DATA holds fit.csv (halved into fit and choose) and report.csv. EfficientNet-Lite0, 1 and 2 at
three input sizes each are planned twice: with the paper's codec (blocked PCA, Huffman) and with
ours. Every rate of every planned cut is run on the whole choose set; the accuracy of the
uncompressed networks is that of the report set. OUT gets both plans, for `narrows report`. Three
claims of the paper are checked on the table: early features compress badly, late ones are small
already, information only falls with depth. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from narrows.graph import load
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.predict import Places
from narrows.plan.profile import load_cloud, load_device, load_link
from narrows.plan.record import PlanRecord, VariantRow
from narrows.plan.settings import Settings
from narrows.plan.variant import Variant
from narrows.report.compressibility import bytes_at_drop
from narrows.task import load_task
from narrows.zoo.sources import preset, resolve

SIZES = {
    "zoo:efficientnet_lite0": (160, 192, 224),
    "zoo:efficientnet_lite1": (176, 208, 240),
    "zoo:efficientnet_lite2": (192, 224, 260),
}
CODECS = {"paper": (("pca1", "pca2"), ("huffman",)), "ours": (("pca1", "pca2", "klt"), ("ans",))}
DROPS = (0.01, 0.03)


def main() -> None:
    options = _options()
    variants = [_variant(f"{name}?size={size}", options) for name in SIZES for size in SIZES[name]]
    records = {name: _plan(name, variants, options) for name in CODECS}
    rows = [row for name, record in records.items() for row in _rows(name, record)]
    _print(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _variant(source: str, options: argparse.Namespace) -> Variant:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.toml"
        sets = "".join(f'{n} = "{(options.data / n).resolve()}.csv"\n' for n in ("fit", "report"))
        path.write_text(f'name = "ImageNet subset"\n[data]\n{sets}')
        task = load_task(path, preprocess=preset(source))
    name = source.removeprefix("zoo:efficientnet_").replace("?size=", "-")
    return Variant(name=name, source=source, model=load(resolve(source)), task=task)


def _plan(name: str, variants: list[Variant], options: argparse.Namespace) -> PlanRecord:
    transforms, coders = CODECS[name]
    settings = Settings(
        numbers=("float",),
        cuts=options.cuts,
        rates=5,
        transforms=transforms,
        coders=coders,
        pictures=("jpeg", "webp", "avif") if name == "ours" else (),
        scales=(1.0,),
        fit_examples=options.examples,
        choose_examples=options.examples,
        screen_share=1.0,
    )
    places = Places(
        device=load_device("raspberry-pi-4"), link=load_link("4g"), cloud=load_cloud("x86-core")
    )
    return plan(
        variants,
        places,
        Constraints(max_drop=0.01),
        Objective.LATENCY,
        options.out / name,
        settings=settings,
        title=f"{name} codec",
        watcher=_tell,
    )


def _rows(name: str, record: PlanRecord) -> list[dict[str, Any]]:
    """Bytes at each drop for every planned cut, and for the best picture codec (cut 0)."""
    rows = []
    for variant in record.variants:
        curves: dict[int, list[tuple[float, float]]] = {}
        for c in record.candidates:
            if c.variant == variant.name and c.codec is not None and c.route != "raw":
                curve = (c.payload_bytes, c.choose_drop.value)
                curves.setdefault(c.cut or 0, []).append(curve)
        rows += [_row(name, variant, index, curves[index]) for index in sorted(curves)]
    return rows


def _row(
    name: str, variant: VariantRow, index: int, curve: list[tuple[float, float]]
) -> dict[str, Any]:
    cut = variant.cuts[index]
    found = {f"bytes_at_{100 * d:.0f}": bytes_at_drop(curve, d) for d in DROPS}
    accuracy = variant.report.accuracy if variant.report else None
    return {
        "codec": name if index else "picture",
        "variant": variant.name,
        "accuracy": accuracy,
        "total_macs": variant.total_macs,
        "cut": index,
        "shape": cut.shape,
        "head_macs_share": cut.head_macs_share,
        "size_bytes": cut.size_bytes,
        **{key: value and value[0] for key, value in found.items()},
    }


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        needed = " ".join(
            f"{row[key] or float('nan'):9.0f}" for key in ("bytes_at_1", "bytes_at_3")
        )
        print(
            f"{row['codec']:8} {row['variant']:10} {100 * (row['accuracy'] or 0):5.1f} %"
            f" cut {row['cut']:3} {100 * row['head_macs_share']:5.1f} % of MACs"
            f" {row['size_bytes']:8} B uncompressed, at -1 and -3 points: {needed} B"
        )
    for name in CODECS:
        _claims(name, rows)


def _claims(name: str, rows: list[dict[str, Any]]) -> None:
    """The paper's three claims and its sweet spot, in numbers."""
    print(f"claims, codec {name}:")
    for variant in dict.fromkeys(row["variant"] for row in rows):
        of_it = [r for r in rows if r["variant"] == variant]
        mine = [r for r in of_it if r["codec"] == name and r["bytes_at_1"]]
        picture = min(
            (r["bytes_at_1"] for r in of_it if r["codec"] == "picture" and r["bytes_at_1"]),
            default=None,
        )
        if not mine:
            continue
        ratios = {r["cut"]: r["size_bytes"] / 4 / r["bytes_at_1"] for r in mine}
        early = [ratios[r["cut"]] for r in mine if r["head_macs_share"] < 0.3]
        late = [ratios[r["cut"]] for r in mine if r["head_macs_share"] > 0.7]
        rises = sum(b["bytes_at_1"] > a["bytes_at_1"] for a, b in pairwise(mine))
        best = min(mine, key=lambda r: r["bytes_at_1"] * max(r["head_macs_share"], 0.01))
        print(
            f"  {variant:10} 8-bit bytes over bytes at -1 point: early {_range(early)}, late"
            f" {_range(late)}; bytes rise with depth in {rises} of {len(mine) - 1} steps;"
            f" least bytes x MACs at cut {best['cut']} ({100 * best['head_macs_share']:.0f} % of"
            f" MACs, {best['bytes_at_1']:.0f} B, pictures {picture or float('nan'):.0f} B)"
        )


def _range(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else "none"


def _tell(title: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {title}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--cuts", default="auto:20")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
