"""One colour for each variant and each type of operator, the same in the page and the figures.

The original is ink, as black as the ground allows; the paper's two variants take the two colours of
Okabe and Ito that every eye tells apart best, further ones the rest in order. Types of operators
take as many hues as there are; what is rare is summed up as "other".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from narrows.measure.breakdown import UNEXPLAINED
from narrows.report.study_scene import StudyScene
from narrows.study.settings import ORIGINAL

Pair = tuple[str, str]

_INK: Final[Pair] = ("#3f4854", "#cfd6de")
_VARIANTS: Final[tuple[Pair, ...]] = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f07c33"),
    ("#009e73", "#2fc79b"),
    ("#b8588f", "#de8fbe"),
    ("#e69f00", "#f0b429"),
    ("#8a7a00", "#d9cb3f"),
)
_TYPES: Final[tuple[Pair, ...]] = (
    ("#0072b2", "#3f9bd6"),
    ("#e69f00", "#f0b429"),
    ("#009e73", "#2fc79b"),
    ("#b8588f", "#de8fbe"),
    ("#d55e00", "#f07c33"),
    ("#7fc1e8", "#a9d8f5"),
    ("#8a7a00", "#d9cb3f"),
    ("#6a51a3", "#a592d6"),
)
OTHER: Final = "other"
_REST: Final[Mapping[str, Pair]] = {
    OTHER: ("#9aa5b1", "#6e7b88"),
    UNEXPLAINED: ("#d5dae0", "#3c4854"),
}

# Runtimes differ by mark and line, so that colour is left for variants.
MARKS: Final = ("o", "s", "D", "^", "v")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "triangle-down")


def variant_colours(variants: Sequence[str]) -> dict[str, Pair]:
    """Variant → colour on a light and on a dark ground."""
    changed = [variant for variant in variants if variant != ORIGINAL]
    found = {name: _VARIANTS[i % len(_VARIANTS)] for i, name in enumerate(changed)}
    return {ORIGINAL: _INK, **found}


def operator_shares(scene: StudyScene) -> dict[tuple[str, str, str], dict[str, float]]:
    """(network, variant, runtime) → type of operator → share of the time, summing to one.

    Types beyond the eight that take most time in all are one type, "other".
    """
    raw: dict[tuple[str, str, str], dict[str, float]] = {}
    total: dict[str, float] = defaultdict(float)
    for record in scene.records:
        found, cell = record.facts.operators, record.cell
        if found is None or found.total_s <= 0:
            continue
        shares = {row.kind: max(0.0, row.time_s) / found.total_s for row in found.by_type}
        shares.setdefault(UNEXPLAINED, 0.0)
        raw[cell.network, cell.variant, cell.runtime] = shares
    for shares in raw.values():
        for name, share in shares.items():
            total[name] += share
    named = sorted(set(total) - {UNEXPLAINED}, key=lambda name: -total[name])[: len(_TYPES)]
    summed = {}
    for place, shares in raw.items():
        whole = sum(shares.values())
        kept = {name: shares.get(name, 0.0) / whole for name in named}
        kept[OTHER] = max(0.0, 1.0 - sum(kept.values()) - shares[UNEXPLAINED] / whole)
        kept[UNEXPLAINED] = shares[UNEXPLAINED] / whole
        summed[place] = kept
    return summed


def operator_colours(types: Sequence[str]) -> dict[str, Pair]:
    """Type of operator → colour on a light and on a dark ground, in the order given."""
    named = [name for name in types if name not in _REST]
    found = dict(zip(named, _TYPES, strict=False))
    return {name: _REST[name] if name in _REST else found[name] for name in types}
