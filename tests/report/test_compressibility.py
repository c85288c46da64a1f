"""Bytes at a loss, read off curves of rates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_plans import make_plan

from narrows.plan.candidate import Candidate
from narrows.report.compressibility import (
    best_picture,
    bytes_at_drop,
    curves,
    drops,
    need,
    needs_by_cut,
)
from narrows.report.scene import gather

POINTS = [(8000.0, -0.002), (4000.0, 0.004), (2000.0, 0.02), (1000.0, 0.08)]


def test_between_two_rates_the_bytes_are_linear_in_their_logarithm() -> None:
    share = (0.01 - 0.004) / (0.02 - 0.004)
    wanted = 4000 ** (1 - share) * 2000**share
    assert bytes_at_drop(POINTS, 0.01) == (pytest.approx(wanted), False)
    assert bytes_at_drop(list(reversed(POINTS)), 0.01) == (pytest.approx(wanted), False)


def test_at_a_rate_the_answer_is_that_rate() -> None:
    assert bytes_at_drop(POINTS, 0.02) == (pytest.approx(2000.0), False)


def test_the_coarsest_rate_that_still_holds_is_only_a_bound() -> None:
    assert bytes_at_drop(POINTS, 0.1) == (1000.0, True)


def test_a_curve_whose_finest_rate_fails_has_no_answer() -> None:
    assert bytes_at_drop(POINTS, -0.01) is None
    assert bytes_at_drop([], 0.5) is None


def test_a_lucky_coarse_rate_does_not_count() -> None:
    lucky = [(4000.0, 0.0), (2000.0, 0.05), (500.0, 0.005)]
    size, is_bound = bytes_at_drop(lucky, 0.01) or (0.0, True)
    assert 2000 < size < 4000
    assert not is_bound


@given(
    st.lists(
        st.tuples(st.floats(1, 1e6), st.floats(-0.05, 0.9)),
        min_size=1,
        max_size=8,
        unique_by=lambda p: p[0],
    ),
    st.floats(-0.05, 0.5),
    st.floats(0, 0.3),
)
def test_a_looser_bound_never_needs_more(
    points: list[tuple[float, float]], drop: float, more: float
) -> None:
    tight, loose = bytes_at_drop(points, drop), bytes_at_drop(points, drop + more)
    if tight is not None:
        assert loose is not None
        assert loose[0] <= tight[0] * (1 + 1e-9)
        sizes = [size for size, _ in points]
        assert min(sizes) * (1 - 1e-9) <= tight[0] <= max(sizes) * (1 + 1e-9)


def test_every_planned_cut_has_a_need_for_both_coders_and_the_picture_is_the_best_one() -> None:
    scene = gather([make_plan()])
    network = scene.networks[0]
    found = curves(network)
    planned = [cut.index for cut in network.variant.cuts if cut.planned]
    (_, one), (_, three) = drops(scene, network)
    assert (one, three) == (0.01, 0.03)
    for family in ("ans", "huffman"):
        at_one = dict(needs_by_cut(found, family, one))
        at_three = dict(needs_by_cut(found, family, three))
        assert sorted(at_one) == planned
        assert all(at_three[cut].size_bytes < at_one[cut].size_bytes for cut in planned)
    ratio = [
        dict(needs_by_cut(found, "huffman", one))[cut].size_bytes
        / dict(needs_by_cut(found, "ans", one))[cut].size_bytes
        for cut in planned
        if cut not in (5, 7)  # these have a rate that counts for one coder only
    ]
    assert ratio == pytest.approx([1.12] * 4)
    picture = best_picture(found, one)
    assert picture is not None
    assert picture.codec == "avif"


def test_a_rate_judged_on_a_part_counts_only_where_it_fails() -> None:
    plan = make_plan(rates=3)
    network = gather([plan]).networks[0]
    curve = next(c for c in curves(network) if c.cut == 4 and c.family == "ans")
    coarse = curve.candidates[-1]
    middle = curve.candidates[-2]

    def part(candidate: Candidate, loss: float) -> Candidate:
        drop = replace(candidate.choose_drop, value=loss)
        return replace(candidate, choose=replace(candidate.choose, n=16), choose_drop=drop)

    lucky = replace(curve, candidates=(*curve.candidates[:-1], part(coarse, 0.0)))
    answer = need([lucky], 0.01)
    assert answer is not None
    assert (answer.size_bytes, answer.is_bound) == (middle.payload_bytes, True)
    failing = replace(curve, candidates=(*curve.candidates[:-1], part(coarse, 0.5)))
    answer = need([failing], 0.01)
    assert answer is not None
    assert not answer.is_bound
    assert coarse.payload_bytes < answer.size_bytes < middle.payload_bytes


def test_a_metric_that_is_no_share_is_read_off_at_one_and_three_per_cent() -> None:
    scene = gather([make_plan(classes=None)])
    assert not scene.is_share
    names = [name for name, _ in drops(scene, scene.networks[0])]
    assert names == ["−1 %", "−3 %"]
    accuracy = scene.networks[0].variant.choose.accuracy
    assert math.isclose(drops(scene, scene.networks[0])[0][1], 0.01 * abs(accuracy))
