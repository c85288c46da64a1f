from types import SimpleNamespace
from typing import Any

import pytest

from narrows.plan.candidate import Drop, Score
from narrows.plan.constraints import Constraints
from narrows.plan.narrow import kept_pictures, kept_rates, last_kept


def seen(divergence: float | None, agreement: float | None = 1.0, drop: float = 0.0) -> Any:
    score = Score(n=32, accuracy=0.8, top5=None, agreement=agreement, logit_divergence=divergence)
    return score, Drop(value=drop, low=drop - 0.05, high=drop + 0.05)


CURVE = [seen(d) for d in (0.01, 0.02, 0.035, 0.07, 0.14)]


@pytest.mark.parametrize(("max_drop", "place"), [(0.01, 2), (0.02, 3), (0.0, 1), (0.1, 4)])
def test_the_coarsest_point_of_enough_quality_is_found(max_drop: float, place: int) -> None:
    assert last_kept(CURVE, Constraints(max_drop=max_drop)) == place


def test_too_little_agreement_ends_the_curve() -> None:
    curve = [seen(0.01, 0.99), seen(0.02, 0.95), seen(0.03, 0.7)]
    assert last_kept(curve, Constraints(min_agreement=0.94, max_drop=0.05)) == 1


def test_without_classes_the_drop_decides() -> None:
    curve = [seen(None, None, drop) for drop in (0.0, 0.004, 0.03)]
    assert last_kept(curve, Constraints(max_drop=0.01)) == 1


def test_a_dominated_cut_goes_on_only_if_it_codes_clearly_better() -> None:
    cuts: Any = [
        SimpleNamespace(index=1, dominated_by=None, head_macs=10),
        SimpleNamespace(index=2, dominated_by=1, head_macs=20),
        SimpleNamespace(index=3, dominated_by=1, head_macs=30),
        SimpleNamespace(index=4, dominated_by=None, head_macs=40),
    ]
    points = {(cut.index, k): point for cut in cuts for k, point in enumerate(CURVE)}
    scale = {1: 1.0, 2: 0.95, 3: 0.8, 4: 2.0}
    sizes = {(index, k): 1000 * scale[index] / (1 + k) for index, k in points}
    found = kept_rates(cuts, points, sizes, 5, Constraints(max_drop=0.01))
    assert found == {1: (1, 2, 3), 3: (2,), 4: (1, 2, 3)}


def test_each_picture_format_keeps_what_its_best_scale_offers() -> None:
    curves = {
        ("jpeg", 1.0): ["q95", "q80", "q50"],
        ("jpeg", 0.5): ["q95-s", "q80-s"],
        ("webp", 1.0): ["w90"],
        ("avif", 1.0): ["a90", "a80", "a50"],
    }
    points = {
        "q95": seen(0.01),
        "q80": seen(0.03),
        "q50": seen(0.3),
        "q95-s": seen(0.2),
        "q80-s": seen(0.4),
        "w90": seen(0.02),
        "a90": seen(0.01),
        "a80": seen(0.02),
        "a50": seen(0.5),
    }
    sizes = dict(
        zip(points, (300.0, 200.0, 100.0, 90.0, 50.0, 150.0, 99.0, 80.0, 40.0), strict=True)
    )
    kept = kept_pictures(curves, points, sizes, Constraints(max_drop=0.01))
    assert sorted(kept) == ["a80", "q80", "q95", "w90"]
