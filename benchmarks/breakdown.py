"""Where the time of networks goes, in float32 and in int8, against this machine's roofline.

    python benchmarks/breakdown.py [--networks NAME ...] [--threads N] [--backend openvino]
        [--rows N] [--out FILE.json]

Int8 is ONNX Runtime's QDQ with uint8 activations and weights per channel, calibrated on random
inputs: its answers are worthless, its kernels and their times are those of a real one. For each it
is said how many weight-bearing operators really run in int8.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from narrows.config import to_dict, write_atomic
from narrows.graph import Model, load
from narrows.graph.quantize import quantize_static
from narrows.measure.breakdown import Breakdown, OperatorRow, TypeRow, breakdown
from narrows.measure.execution import execution
from narrows.measure.roofline import Roofline, machine_roofline
from narrows.zoo.sources import resolve

NETWORKS = ("torchvision:mobilenet_v2", "torchvision:resnet50")


def variants(network: str) -> Iterator[tuple[str, Model]]:
    """The network in float32 and in int8."""
    floating = load(resolve(f"{network}?pretrained=0"))
    yield "float32", floating
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((2, *floating.input.shape), dtype=np.float32)]
    yield "int8", load(quantize_static(floating, samples))


def show(found: Breakdown, rows: int) -> None:
    print(
        "| type | kernels | in int8 | ms | share | M MACs | MB moved | MACs/byte | limit | of it |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --- | --: |")
    for kind in found.by_type:
        print(f"| {kind.kind} | {kind.count} | {kind.int8} {_figures(kind)}")
    longest = sorted(found.rows[:-1], key=lambda row: -row.time_s)[:rows]
    if longest:
        print("\n| layer | kernel | ms | share | M MACs | MB moved | MACs/byte | limit | of it |")
        print("| --- | --- | --: | --: | --: | --: | --: | --- | --: |")
    for row in longest:
        print(f"| {', '.join(row.layers) or row.kind} | {row.kernel} {_figures(row)}")
    print(flush=True)


def _figures(row: OperatorRow | TypeRow) -> str:
    far = "" if row.limit_share is None else f"{100 * row.limit_share:.0f} %"
    return (
        f"| {1e3 * row.time_s:.3f} | {100 * row.share:.1f} % | {row.macs / 1e6:.1f} |"
        f" {row.moved_bytes / 1e6:.2f} | {row.macs_per_byte:.1f} | {row.limit or ''} | {far} |"
    )


def _tell(roof: Roofline) -> None:
    print(
        f"roofline, {roof.threads} threads: {roof.macs_per_s / 1e9:.1f} G float32 and"
        f" {roof.int8_macs_per_s / 1e9:.1f} G int8 multiply-accumulates a second; memory"
        f" {roof.bandwidth_bytes_per_s / 1e9:.1f} GB/s, caches"
        f" {', '.join(f'{s / 1e9:.0f} ({b >> 10} KiB)' for b, s in roof.bandwidths[:-1])} GB/s\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--backend", default="onnxruntime", choices=("onnxruntime", "openvino"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rows", type=int, default=5, help="slowest layers to print")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    roof = machine_roofline(threads=options.threads)
    _tell(roof)
    records: list[dict[str, Any]] = []
    for network in options.networks:
        for variant, model in variants(network):
            found = breakdown(
                model,
                threads=options.threads,
                runs=options.runs,
                roofline=roof,
                backend=options.backend,
            )
            ran = execution(model)
            print(f"{network} {variant}: {1e3 * found.total_s:.2f} ms; {ran.text}")
            if found.contention:
                print(f"  contended: {', '.join(found.contention)}")
            for flag in ran.flags:
                print(f"  ! {flag}")
            show(found, options.rows)
            record = {"network": network, "variant": variant, "execution": to_dict(ran)}
            records.append(record | {"breakdown": to_dict(found)})
    if options.out is not None:
        write_atomic(options.out, json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
