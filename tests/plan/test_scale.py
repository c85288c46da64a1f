from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_nets import inputs_of, network, pictures

from narrows.coding import fit
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.errors import PlanError
from narrows.graph.cuts import find_cuts
from narrows.graph.load import load
from narrows.measure.divergence import divergences
from narrows.plan.features import FeatureReader, Tail
from narrows.plan.fitted import quantizer
from narrows.plan.scale import TARGET_NATS, find_scale, middle_share, transforms_of
from narrows.plan.select_cuts import select_cuts
from narrows.plan.settings import Settings, codec_settings


@given(st.floats(0.02, 50.0))
def test_the_middle_step_does_the_harm_asked_for_by_the_square_law(scale: float) -> None:
    share = middle_share(lambda s: scale * s**2, 0.04)
    assert scale * share**2 == pytest.approx(0.04, rel=0.3)


def test_a_harm_without_limit_still_gives_a_step() -> None:
    assert 0 < middle_share(lambda _: np.inf, 0.04) < 1
    assert middle_share(lambda _: 0.0, 0.04) > 1


def test_the_steps_lie_around_the_one_where_answers_begin_to_change() -> None:
    model = load(network())
    cut = find_cuts(model)[4]
    pixels, _ = pictures(48, seed=1)
    features, reference = FeatureReader(model, [cut], threads=1).read(inputs_of(pixels))
    feature, tail = features[cut.index], Tail(model, cut, threads=1)
    settings = Settings(rates=5)
    tables = {t: fit(t, [feature]) for t in transforms_of(cut, settings, 48)}
    scale = find_scale(cut, feature, reference, tail, tables, settings, classed=True)
    assert len(scale.step_shares) == 5
    ratios = np.diff(np.log2(scale.step_shares))
    assert ratios == pytest.approx(np.full(4, 0.5))
    transform, table = scale.transform, tables[scale.transform]
    member = quantizer(scale.rms * scale.step_shares[2], settings.threshold)
    levels = member.fitter((1,)).table()
    y = transform.forward(feature, table)
    restored = transform.inverse(member.dequantize(member.quantize(y, levels), levels), table)
    harm = float(divergences(reference, tail.run(restored), "logits").mean())
    assert TARGET_NATS / 3 < harm < TARGET_NATS * 3


def test_a_feature_that_never_varies_is_refused_by_name() -> None:
    cut: Any = SimpleNamespace(index=1, tensor="dead", shape=(2, 4, 4))
    feature = np.zeros((3, 2, 4, 4), np.float32)
    transform = BlockedPCA(block=1)
    tables = {transform: fit(transform, [feature])}
    tail: Any = SimpleNamespace(run=lambda x: x.reshape(3, -1))
    with pytest.raises(PlanError, match="'dead'"):
        find_scale(cut, feature, feature, tail, tables, Settings(), classed=True)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64,), [(1, False)]),
        ((32, 14, 14), [(1, False), (2, False), (14, False)]),
        ((14, 14, 32), [(1, True), (2, True), (14, True)]),
        ((320, 14, 14), [(1, False), (14, False)]),
        ((24, 56, 56), [(1, False), (2, False), (8, False)]),
        ((197, 768), [(1, False), (1, True)]),
    ],
)
def test_transforms_follow_the_shape(
    shape: tuple[int, ...], expected: list[tuple[int, bool]]
) -> None:
    cut: Any = SimpleNamespace(shape=shape)
    found = transforms_of(cut, Settings(), 500)
    assert [(t.block, t.channels_last) for t in found] == expected


def test_a_basis_is_no_longer_than_what_the_examples_can_tell() -> None:
    pooled: Any = SimpleNamespace(shape=(1280,))
    (few,) = transforms_of(pooled, Settings(), 250)
    assert few.geometry((1280,)).dimension <= 62
    (many,) = transforms_of(pooled, Settings(), 5000)
    assert many.geometry((1280,)).dimension == 640


def test_auto_takes_what_nothing_dominates_and_fills_up_with_the_smallest() -> None:
    cuts = find_cuts(load(network()))
    inner = [c for c in cuts if 0 < c.index < len(cuts) - 1]
    useful = {c.index for c in inner if c.dominated_by is None}
    assert {c.index for c in select_cuts(cuts, "auto")} == useful
    more = select_cuts(cuts, f"auto:{len(useful) + 1}")
    assert len(more) == len(useful) + 1
    (added,) = [c for c in more if c.index not in useful]
    assert added.size_bytes == min(c.size_bytes for c in inner if c.index not in useful)
    assert [c.index for c in select_cuts(cuts, "r2, 2")] == [2, 4]


def test_a_model_without_cuts_says_what_can_still_be_planned() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[N, 4] y) {y = Exp(x)}"""
    cuts = find_cuts(load(onnx.parser.parse_model(text)))
    with pytest.raises(PlanError, match="--cuts none"):
        select_cuts(cuts, "auto")
    assert select_cuts(cuts, "none") == ()


@pytest.mark.parametrize("names", ["pca", "pca2", "pcaX-ans", "dct-ans", "pca2-zip", ""])
def test_codecs_that_are_not_there_are_refused(names: str) -> None:
    with pytest.raises(PlanError, match="no codec"):
        codec_settings(names)


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": 0},
        {"transforms": ()},
        {"step_ratio": 1.0},
        {"screen_share": 0.0},
        {"pictures": ("bmp",)},
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(changes))):
        Settings(**changes)
