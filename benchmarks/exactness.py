"""How exact removals are: networks and patterns, a quarter of the units and more at random.

    python benchmarks/exactness.py [--only TEXT] [--draws 3] [--out F.json]

In each draw at least a quarter of the units of every group goes (one of each set that a layer
needs stays). `remove_units` compares the smaller network with the masked larger one, with random
weights in float64, and raises where they differ by more than 1e-9 of the largest answer: a row is
exact in all its draws, or it is refused with the reason. Layers that answer are never removed from;
other layers that are refused are listed with their reasons. Networks of libraries have random
weights and small inputs, patterns are those of the tests.

Beside it torch-pruning, where it can be imported; how it is judged is told in
`exactness_torch_pruning.py`. It is no dependency of narrows, and is installed beside it:

    pip install --no-deps --target /tmp/others torch-pruning==1.6.1
    PYTHONPATH=/tmp/others python benchmarks/exactness.py

With --out each row is written when it is done, and not done again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

import exactness_torch_pruning as others
from narrows.compress.removal import remove_units
from narrows.compress.units import Units, find_units
from narrows.errors import ModelError
from narrows.zoo.bilstm import BiLSTM
from narrows.zoo.deepiot_vgg import deepiot_vgg
from narrows.zoo.deepsense import DeepSense
from narrows.zoo.families import FAMILIES
from narrows.zoo.lenet import lenet5

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compress"))
import test_units_exact as patterns

Make = Callable[[], tuple[nn.Module, Tensor]]

_KINDS = {
    "grouped, depthwise": ("depthwise", "groups", "shuffled"),
    "recurrent": ("LSTM", "GRU", "RNN", "states", "cell"),
    "attention": ("attention",),
}
_TORCHVISION = {
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
_OTHERS = ("pruner", "chosen")
_TIMM = {"efficientnet_lite0": 32, "convnext_atto": 32, "vit_tiny_patch16_224": 32}


def networks() -> Iterator[tuple[str, str, Make]]:
    """Every row: its name, its kind, and what makes the network and an input of it."""
    for name, make in patterns.NETWORKS.items():
        kinds = [kind for kind, words in _KINDS.items() if any(word in name for word in words)]
        yield name, (kinds or ["other patterns"])[0], partial(_pattern, make)
    zoo: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "LeNet-5": (lenet5, (1, 1, 28, 28)),
        "DeepIoT's VGG": (deepiot_vgg, (1, 3, 32, 32)),
        "DeepSense": (lambda: DeepSense(classes=6), (1, 20, 120)),
        "BiLSTM of 5 levels": (lambda: BiLSTM(20, 12), (1, 15, 20)),
    }
    for name, (build, shape) in zoo.items():
        kind = "recurrent" if name in ("DeepSense", "BiLSTM of 5 levels") else "whole networks"
        yield f"zoo {name}", kind, partial(_built, build, shape)
    for family in FAMILIES.values():
        yield f"zoo {family.name}", "whole networks", partial(_built, family.build, (1, 3, 32, 32))
    for name, side in _TORCHVISION.items():
        yield f"torchvision {name}", "whole networks", partial(_torchvision, name, side)
    for name, side in _TIMM.items():
        yield f"timm {name}", "whole networks", partial(_timm, name, side)


def _pattern(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    return make(), patterns.example()


def _built(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    return build(), torch.randn(shape)


def _torchvision(name: str, side: int) -> tuple[nn.Module, Tensor]:
    options: dict[str, Any] = {"image_size": side} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    made = getattr(torchvision.models, name)(weights=None, num_classes=10, **options)
    return made, torch.randn(1, 3, side, side)


def _timm(name: str, side: int) -> tuple[nn.Module, Tensor]:
    options = {"img_size": side} if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=10, **options), torch.randn(1, 3, side, side)


def drawn(units: Units, seed: int) -> dict[str, list[int]]:
    """The units that stay: three quarters at most, but what no layer can be without."""
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in units.groups:
        order = torch.randperm(group.size, generator=generator).tolist()
        stays = {each[0] for each in group.needed}
        count = 3 * group.size // 4
        stays |= set([unit for unit in order if unit not in stays][: max(0, count - len(stays))])
        keep[group.name] = sorted(stays or {0})
    return keep


def measure(make: Make, draws: int, limit_s: int) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(0)
    model, example = make()
    started_s = time.process_time()
    row: dict[str, Any] = {"result": "exact", "reason": ""}
    try:
        units = find_units(model.eval(), example)
        if not units.groups:
            raise ModelError("no units can be removed")
        row |= {"groups": len(units.groups), "units": sum(group.size for group in units.groups)}
        row["refused"] = {
            name: reason for name, reason in units.refused.items() if reason != others.ANSWERS
        }
        before = sum(parameter.numel() for parameter in model.parameters())
        row |= {"parameters_left": [], "least_removed": 1.0}
        for seed in range(draws):
            keep = drawn(units, seed)
            gone = [1 - len(keep[group.name]) / group.size for group in units.groups]
            row["least_removed"] = min([row["least_removed"], *gone])
            smaller = remove_units(model, example, keep)
            after = sum(parameter.numel() for parameter in smaller.parameters())
            row["parameters_left"].append(after / before)
    except ModelError as error:
        row |= {"result": "refused", "reason": str(error)}
        units = Units(groups=(), refused={})
    row["processor_s"] = time.process_time() - started_s
    for way in _OTHERS:
        chosen = way == "chosen"
        row[way] = others.judged(model, example, units, draws, limit_s, chosen=chosen)
    return row


def _told(name: str, row: dict[str, Any]) -> str:
    left = ", ".join(f"{share:.0%}" for share in row.get("parameters_left", []))
    theirs = " | ".join(_of_other(row[way]) for way in _OTHERS)
    return (
        f"| {name} | {row['result']} | {row.get('groups', '')} | {row.get('units', '')} | "
        f"{row.get('least_removed', 0):.0%} | {left} | {len(row.get('refused', ()))} | "
        f"{row['processor_s']:.0f} | {theirs} |"
    )


def _of_other(row: dict[str, Any]) -> str:
    whole = f", {len(row['whole'])} left whole" if row["whole"] else ""
    return f"{row['result']}{whole}"


def _summary(rows: dict[str, Any]) -> Iterator[str]:
    yield "\nexact / wrong / refused of torch-pruning's own pruner, and with channels chosen:\n"
    yield "| kind | rows | exact | refused | torch-pruning: its pruner | chosen |"
    yield "| --- | --: | --: | --: | --: | --: |"
    kinds = list(dict.fromkeys(row["kind"] for row in rows.values()))
    for kind in [*kinds, "all"]:
        mine = [row for row in rows.values() if kind in (row["kind"], "all")]
        ours = Counter(row["result"] for row in mine)
        cells = [str(number) for number in (len(mine), ours["exact"], ours["refused"])]
        for way in _OTHERS:
            theirs = Counter(row[way]["result"] for row in mine)
            cells.append(" / ".join(str(theirs[it]) for it in ("exact", "wrong", "refused")))
        yield f"| {kind} | {' | '.join(cells)} |"
    for name, row in rows.items():
        if row["reason"]:
            yield f"{name}: {row['reason'][:300]}"
        for reason, count in Counter(row.get("refused", {}).values()).items():
            yield f"{name}: {count} layers refused: {reason}"
        for way in _OTHERS:
            if row[way]["reason"]:
                yield f"{name}: torch-pruning, {way}: {row[way]['result']}: {row[way]['reason']}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--limit-s", type=int, default=120, help="torch-pruning's, for one draw")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    if options.out and options.out.exists():
        rows = json.loads(options.out.read_text())
    heads = ("network", "result", "groups", "units", "removed, least", "left", "refused", "s")
    print(f"| {' | '.join(heads)} | its pruner | chosen |\n| --- | --- |{' --: |' * 6} --- | --- |")
    for name, kind, make in networks():
        if options.only not in name:
            continue
        if name not in rows:
            rows[name] = {"kind": kind} | measure(make, options.draws, options.limit_s)
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(_told(name, rows[name]), flush=True)
    print("\n".join(_summary(rows)))


if __name__ == "__main__":
    main()
