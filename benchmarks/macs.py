"""Multiply-accumulates of the networks people use, counted and published.

    python benchmarks/macs.py [--networks NAME ...] [--out macs.json]

Every network is exported with random weights and its graph is counted; the published figure is
what its authors, or its library's table of weights, give for multiply-accumulates ("GFLOPS" there).
A difference above 1 % is told and makes the command fail. Exports are kept in the cache folder, so
a second run takes seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from narrows.config import write_atomic
from narrows.graph import load, total_macs, unknown_operators
from narrows.zoo.sources import resolve

ALLOWED = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What others say.

    Args:
        macs: Multiply-accumulates.
        where: Who says so.
    """

    macs: float
    where: str


_TORCHVISION = "torchvision, table of weights (GFLOPS)"
_TF_MOBILENET = "tensorflow/models, slim/nets/mobilenet/README (MACs)"
_TIMM = "timm, results/benchmark-infer-*.csv (infer_gmacs)"
_LITE = "d-li14/efficientnet-lite.pytorch, README (GFLOPs)"

NETWORKS: Mapping[str, Published] = {
    "timm:mobilenetv1_100": Published(macs=569e6, where="Howard et al. 2017, table 8"),
    "torchvision:mobilenet_v2": Published(macs=0.301e9, where=_TORCHVISION),
    "timm:mobilenetv2_050": Published(macs=97e6, where=_TF_MOBILENET),
    "timm:mobilenetv2_100": Published(macs=300e6, where=_TF_MOBILENET),
    "timm:mobilenetv2_140": Published(macs=582e6, where=_TF_MOBILENET),
    "torchvision:mobilenet_v3_small": Published(macs=0.057e9, where=_TORCHVISION),
    "torchvision:mobilenet_v3_large": Published(macs=0.217e9, where=_TORCHVISION),
    "torchvision:vgg16": Published(macs=15.47e9, where=_TORCHVISION),
    "torchvision:vgg19": Published(macs=19.632e9, where=_TORCHVISION),
    "torchvision:googlenet": Published(macs=1.498e9, where=_TORCHVISION),
    "torchvision:inception_v3": Published(macs=5.713e9, where=_TORCHVISION),
    "timm:inception_v4": Published(macs=12.28e9, where=_TIMM),
    "torchvision:resnet50": Published(macs=4.089e9, where=_TORCHVISION),
    "torchvision:resnet101": Published(macs=7.801e9, where=_TORCHVISION),
    "torchvision:resnet152": Published(macs=11.514e9, where=_TORCHVISION),
    "timm:efficientnet_lite0": Published(macs=0.385e9, where=_LITE),
    "timm:efficientnet_lite1": Published(macs=0.600e9, where=_LITE),
    "timm:efficientnet_lite2": Published(macs=0.860e9, where=_LITE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was counted of one network.

    Args:
        network: As it is named.
        shape: Of one input.
        macs: Counted.
        published: What others say.
        unknown: Operators without a rule, and how often they occur.
        export_s: Seconds of the export, near 0 where it was kept.
        load_s: Seconds to load and count.
    """

    network: str
    shape: tuple[int, ...]
    macs: int
    published: Published
    unknown: Mapping[str, int]
    export_s: float
    load_s: float

    @property
    def error(self) -> float:
        """Counted over published, less one."""
        return self.macs / self.published.macs - 1

    @property
    def good(self) -> bool:
        """Whether nothing is missing and the two agree to 1 %."""
        return not self.unknown and abs(self.error) <= ALLOWED


def count(network: str) -> Row:
    """Export and count one network."""
    started_s = time.perf_counter()
    path = resolve(f"{network}?pretrained=0")
    exported_s = time.perf_counter()
    model = load(path)
    return Row(
        network=network,
        shape=model.input.shape,
        macs=total_macs(model),
        published=NETWORKS[network],
        unknown=dict(unknown_operators(model)),
        export_s=exported_s - started_s,
        load_s=time.perf_counter() - exported_s,
    )


def counted(networks: Sequence[str]) -> Iterator[Row]:
    """Count networks, printing a table as it grows."""
    print("| network | input | counted MACs | published | difference | where | export s | load s |")
    print("| --- | --- | --: | --: | --: | --- | --: | --: |")
    for network in networks:
        row = count(network)
        print(
            f"| {network} | {' × '.join(map(str, row.shape))} | {row.macs / 1e6:.1f} M |"
            f" {row.published.macs / 1e6:.0f} M | {100 * row.error:+.2f} % |"
            f" {row.published.where} | {row.export_s:.1f} | {row.load_s:.1f} |"
            f"{'' if row.good else ' FAILED'}",
            flush=True,
        )
        yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rows = list(counted(options.networks))
    if options.out is not None:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        write_atomic(options.out, text + "\n")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
