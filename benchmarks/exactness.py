"""How exact removals are: networks and patterns, a quarter of the units and more at random.

    python benchmarks/exactness.py [--only TEXT] [--draws 3] [--out F.json]

In each draw at least a quarter of the units of every group goes. `remove_units` compares the
smaller network with the masked larger one in float64 and raises where they differ, so that a row is
exact, or it is refused with a reason. Networks of torchvision have random weights and small inputs.
The patterns are those of the tests.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from narrows.compress.removal import remove_units
from narrows.compress.units import Units, find_units
from narrows.errors import ModelError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compress"))
import test_units_exact as patterns

_SIDES = {
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "wide_resnet50_2": 32,
    "densenet121": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "mobilenet_v3_large": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "regnet_y_400mf": 32,
    "regnet_x_400mf": 32,
    "squeezenet1_1": 64,
    "shufflenet_v2_x0_5": 32,
    "shufflenet_v2_x1_0": 32,
    "googlenet": 64,
    "inception_v3": 80,
    "convnext_tiny": 32,
    "vgg11_bn": 32,
    "vit_b_16": 32,
    "swin_t": 32,
}


def networks() -> dict[str, Callable[[], tuple[nn.Module, Tensor]]]:
    """Every row: what makes the network and an input of it."""
    rows: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {}
    for name, make in patterns.NETWORKS.items():
        rows[name] = lambda make=make: (make(), patterns.example())
    for name, side in _SIDES.items():
        rows[f"torchvision {name}"] = lambda name=name, side=side: _torchvision(name, side)
    return rows


def _torchvision(name: str, side: int) -> tuple[nn.Module, Tensor]:
    options: dict[str, Any] = {"image_size": side} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    made = getattr(torchvision.models, name)(weights=None, num_classes=10, **options)
    return made, torch.randn(1, 3, side, side)


def drawn(units: Units, seed: int) -> dict[str, list[int]]:
    """The units that stay: three quarters at most, but what no layer can be without."""
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in units.groups:
        stays = set(torch.randperm(group.size, generator=generator)[: 3 * group.size // 4].tolist())
        stays |= {each[0] for each in group.needed if not stays & set(each)}
        keep[group.name] = sorted(stays or {0})
    return keep


def measure(make: Callable[[], tuple[nn.Module, Tensor]], draws: int) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(0)
    model, example = make()
    started_s = time.monotonic()
    row: dict[str, Any] = {"result": "exact", "reason": ""}
    try:
        units = find_units(model.eval(), example)
        row |= {"groups": len(units.groups), "units": sum(group.size for group in units.groups)}
        row["refused"] = dict(units.refused)
        before = sum(parameter.numel() for parameter in model.parameters())
        row["parameters_left"] = []
        for seed in range(draws):
            smaller = remove_units(model, example, drawn(units, seed))
            after = sum(parameter.numel() for parameter in smaller.parameters())
            row["parameters_left"].append(after / before)
    except ModelError as error:
        row |= {"result": "refused", "reason": str(error)}
    return row | {"took_s": time.monotonic() - started_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print("| network | result | groups | units | layers refused | parameters left | s |")
    print("| --- | --- | --: | --: | --: | --: | --: |")
    rows = {}
    for name, make in networks().items():
        if options.only not in name:
            continue
        row = rows[name] = measure(make, options.draws)
        left = ", ".join(f"{share:.0%}" for share in row.get("parameters_left", []))
        print(
            f"| {name} | {row['result']} | {row.get('groups', '')} | {row.get('units', '')} | "
            f"{len(row.get('refused', ()))} | {left} | {row['took_s']:.0f} |",
            flush=True,
        )
    exact = sum(row["result"] == "exact" for row in rows.values())
    print(f"\n{exact} of {len(rows)} exact")
    for name, row in rows.items():
        if row["reason"]:
            print(f"{name}: {row['reason'][:300]}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
