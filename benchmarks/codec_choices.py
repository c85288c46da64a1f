"""What each choice in the feature codec is worth: bytes at equal divergence of the answers.

    python benchmarks/codec_choices.py DATA [--cut N ...] [--json FILE]

DATA holds fit.csv. Transforms and tables are fitted to 60 % of the pictures. On the others each
variant of the codec is run at three steps, and the bytes at which the answers diverge by 0.03 nats
are read off the line through log bytes and log divergence. Everything but one choice stays as plans
have it: weighted axes (exponent 0.5), threshold 0.57, matched moments, reconstruction in the middle
of the bins, plain rounding, static tables.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Table, fit
from narrows.coding.coders import Ans
from narrows.coding.quantizers import Uniform
from narrows.coding.transforms import BlockedPCA, SeparableKLT
from narrows.coding.transforms.blocked_pca import MomentMatcher
from narrows.graph import find_cuts, load
from narrows.measure.divergence import divergences, scale_of
from narrows.plan.features import FeatureReader, Tail
from narrows.plan.scale import channel_moments
from narrows.zoo.sources import resolve
from rate import MODEL, load_pictures

NATS = 0.03
_STEPS = (0.5, 0.5 * 2**0.5, 1.0)
_BATCH = 10

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A codec that differs from the plans' own in one choice."""

    transform: BlockedPCA | SeparableKLT
    threshold: float = 0.57
    fit_shift: bool = False
    matched: bool = True
    rate_weight: float = 0.0  # of rate-distortion-optimised rounding; 0 is none


def variants(side: int) -> dict[str, Variant]:
    """By name; `side` is that of the separable transform's block."""
    pca, klt = BlockedPCA(), SeparableKLT(block=side)
    base = Variant(transform=pca)
    return {
        "blocked PCA 2 x 2 as plans have it": base,
        "blocks of one position": replace(base, transform=BlockedPCA(block=1)),
        "plain axes (exponent 0)": replace(base, transform=BlockedPCA(exponent=0.0)),
        "axes weighted more (exponent 0.75)": replace(base, transform=BlockedPCA(exponent=0.75)),
        "no matched moments": replace(base, matched=False),
        "plain rounding (threshold 0.5)": replace(base, threshold=0.5),
        "wider dead zone (threshold 0.65)": replace(base, threshold=0.65),
        "reconstruction at the mean of bins": replace(base, fit_shift=True),
        "rate-distortion-optimised, weight 0.05": replace(base, threshold=0.5, rate_weight=0.05),
        "rate-distortion-optimised, weight 0.1": replace(base, threshold=0.5, rate_weight=0.1),
        f"separable KLT {side} x {side}": Variant(transform=klt),
        f"separable KLT {side} x {side}, plain axes": Variant(transform=replace(klt, exponent=0.0)),
    }


def main() -> None:
    options = _options()
    model = load(resolve(MODEL))
    cuts = find_cuts(model)
    inputs = load_pictures(options.data)
    rows = []
    for index in options.cut:
        cut = cuts[index]
        reader = FeatureReader(model, [cut], threads=1)
        found = [reader.read(inputs[a : a + _BATCH]) for a in range(0, len(inputs), _BATCH)]
        feature = np.concatenate([features[index] for features, _ in found])
        outputs = np.concatenate([out for _, out in found])
        split = round(0.6 * len(inputs))
        tail = Tail(model, cut, threads=1)

        def harm(restored: Array, tail: Tail = tail, wanted: Array = outputs[split:]) -> float:
            parts = [tail.run(restored[a : a + 50]) for a in range(0, len(restored), 50)]
            return float(divergences(wanted, np.concatenate(parts), scale_of(wanted)).mean())

        print(f"cut {index} {cut.tensor} {cut.shape}, {100 * cut.head_macs_share:.1f} % of MACs")
        base_bytes = 0.0
        side = cut.shape[1] if cut.shape[1] <= 14 else 7
        for name, variant in variants(side).items():
            points = list(_points(variant, feature[:split], feature[split:], harm))
            size_bytes = at_nats(points, NATS)
            base_bytes = base_bytes or size_bytes
            rows.append({"cut": index, "variant": name, "points": points, "bytes": size_bytes})
            print(f"  {size_bytes:7.0f} B {size_bytes / base_bytes:6.3f}  {name}", flush=True)
        gain = context_gain(feature[:split], feature[split:])
        rows.append({"cut": index, "variant": "contexts", "gain": gain})
        print(f"  {100 * gain:.1f} % fewer bytes, ideally, with contexts of neighbouring blocks")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _points(
    variant: Variant, fitted: Array, other: Array, harm: Callable[[Array], float]
) -> Iterator[tuple[float, float]]:
    """Bytes and divergence at each step."""
    transform, coder = variant.transform, Ans()
    table = fit(transform, (fitted[a : a + _BATCH] for a in range(0, len(fitted), _BATCH)))
    y, z = transform.forward(fitted, table), transform.forward(other, table)
    spread = _spread(variant, y)
    for share in _STEPS:
        step = spread * share
        quantizer = Uniform(step=step, threshold=variant.threshold, fit_shift=variant.fit_shift)
        levels = fit(quantizer, [y])
        mine, theirs = (quantizer.quantize(part, levels) for part in (y, z))
        counts = fit(coder, [mine])
        if variant.rate_weight:
            for _ in range(2):
                mine = _optimised(y / step, counts, variant.rate_weight)
                counts = fit(coder, [mine])
            theirs = _optimised(z / step, counts, variant.rate_weight)
        if variant.matched:
            matcher = MomentMatcher({**table, **channel_moments(fitted, transform)})
            matcher.add(transform.inverse(quantizer.dequantize(mine, levels), table))
            table = {**table, **matcher.matched()}
        restored = transform.inverse(quantizer.dequantize(theirs, levels), table)
        table = {**table, "gain": np.ones_like(table["gain"]), "offset": 0 * table["offset"]}
        sizes = [coder.cost_bits(one, counts) / 8 for one in theirs]
        yield float(np.mean(sizes)), harm(restored)


def _spread(variant: Variant, y: Array) -> float:
    """Steps are comparable between weights when taken over the plain axes' spread."""
    wide = 1.9 if variant.transform.exponent == 0 else 1.6
    return float(y.std()) * wide


def _optimised(scaled: Array, counts: Table, weight: float) -> Array:
    """Of the nearest level and the next ones towards zero, the least error² + weight · bits."""
    reach = (counts["counts"].shape[1] - 2) // 2
    bits = (24 - np.log2(counts["counts"]))[counts["classes"]]
    size, sign = np.abs(scaled), np.sign(scaled)
    near = np.minimum(np.floor(size + 0.5), reach)
    component = np.arange(scaled.shape[1]).reshape(-1, *(1,) * (scaled.ndim - 2))

    def cost(level: Array) -> Array:
        codes = (sign * level).astype(np.int64) + reach
        return (size - level) ** 2 + weight * bits[component, codes]

    best, least = near, cost(near)
    for level in (np.maximum(near - 1, 0), np.zeros_like(near)):
        other = cost(level)
        best, least = np.where(other < least, level, best), np.minimum(other, least)
    return (sign * best).astype(np.int32)


def context_gain(fitted: Array, other: Array) -> float:
    """Share of bits that contexts save, at best: magnitudes of larger components nearby.

    Components are decoded in eight groups of falling variance. Within a group a symbol's class is
    its component's mean magnitude, times what blocks as active as its own in the groups before
    (itself and its eight neighbours) had on average.
    """
    transform = BlockedPCA()
    table = fit(transform, [fitted])
    y, z = transform.forward(fitted, table), transform.forward(other, table)
    quantizer = Uniform(step=float(y.std()) * 1.1, threshold=0.57)
    levels = fit(quantizer, [y])
    mine, theirs = (np.abs(quantizer.quantize(part, levels)) for part in (y, z))
    mean = mine.mean((0, 2, 3)) + 1e-4
    share = np.cumsum(np.minimum(mean, 1)) / np.minimum(mean, 1).sum()
    group = np.minimum((share * 8).astype(int), 7)
    plain = context = 0.0
    for index in range(8):
        members = np.flatnonzero(group == index)
        if not len(members):
            continue
        scales = []
        active = [_activity(part, mean, group < index) for part in (mine, theirs)]
        edges = np.quantile(active[0], np.linspace(0, 1, 13)[1:-1]) if index else np.zeros(0)
        bins = [np.searchsorted(edges, one) for one in active]
        ratio = np.ones(13)
        for level in range(13):
            at = bins[0] == level
            if at.any():
                ratio[level] = (
                    mine[:, members].transpose(1, 0, 2, 3)[:, at].mean() / mean[members].mean()
                )
        for part_bins in bins:
            scales.append(mean[members][None, :, None, None] * ratio[part_bins][:, None])
        plain += _bits(
            mine[:, members],
            theirs[:, members],
            [
                np.broadcast_to(mean[members][None, :, None, None], part[:, members].shape)
                for part in (mine, theirs)
            ],
        )
        context += _bits(mine[:, members], theirs[:, members], scales)
    return 1 - context / plain


def _activity(symbols: Array, mean: Array, before: Array) -> Array:
    """Weighted magnitudes of the groups before, in a block and its neighbours (n, h, w)."""
    total = (symbols[:, before] / np.sqrt(mean[before])[:, None, None]).sum(1)
    padded = np.pad(total, ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = total.shape[1:]
    around = sum(padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3))
    return total + 0.25 * around


def _bits(fitted: Array, other: Array, scales: list[Array]) -> float:
    """Bits of magnitudes and signs of `other` under tables by scale, counted on `fitted`."""
    classes = [np.clip((np.log2(np.maximum(s, 1e-4)) + 14) * 3, 0, 63).astype(int) for s in scales]
    counts = np.zeros((64, 32))
    np.add.at(counts, (classes[0], np.minimum(fitted, 31)), 1)
    counts += 0.05 * 2.0 ** -np.arange(32)
    cost = -np.log2(counts / counts.sum(1, keepdims=True))
    return float(cost[classes[1], np.minimum(other, 31)].sum() + (other > 0).sum())


def at_nats(points: list[tuple[float, float]], nats: float) -> float:
    """Bytes where the least-squares line through the logarithms reaches a divergence.

    Example:
        >>> round(at_nats([(1000, 0.04), (2000, 0.01)], 0.02))
        1414
    """
    sizes, harms = np.log(np.array(points)).T
    slope, offset = np.polyfit(harms, sizes, 1)
    return math.exp(offset + slope * math.log(nats))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cut", type=int, nargs="*", default=[22, 46])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
