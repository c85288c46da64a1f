"""Blocked PCA and separable KLT: what their components are, and matched moments."""

import numpy as np
import pytest

from narrows.coding import fit
from narrows.coding.quantizers import Uniform
from narrows.coding.transforms import BlockedPCA, SeparableKLT
from narrows.coding.transforms.blocked_pca import MomentMatcher
from narrows.errors import CodecError


def features(n=300, seed=0):
    """Correlated across channels and along positions; (n, 6, 4, 4)."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 6, 4, 4))
    x = x + 1.5 * x.mean((2, 3), keepdims=True) + 0.7 * np.roll(x, 1, -1)
    mixing = generator.normal(size=(6, 6))
    return (np.einsum("dc,nchw->ndhw", mixing, x) + 3).astype(np.float32)


def rows_of(y):
    return np.moveaxis(y, 1, 0).reshape(y.shape[1], -1).astype(np.float64)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_principal_components_are_uncorrelated_and_weighted(exponent):
    x = features()
    pca = BlockedPCA(block=2, exponent=exponent)
    table = fit(pca, [x[:100], x[100:]])
    covariance = np.cov(rows_of(pca.forward(x, table)), bias=True)
    variance = table["variance"][0].astype(np.float64)
    expected = variance * (variance / variance.mean()) ** exponent
    np.testing.assert_allclose(np.diag(covariance), expected, rtol=1e-2)
    apart = covariance / np.sqrt(np.outer(expected, expected)) - np.eye(24)
    assert np.abs(apart).max() < 1e-2
    assert (np.diff(variance) <= 0).all()


def test_variance_is_that_of_blocks_of_the_samples():
    x = features()
    table = fit(BlockedPCA(block=2), [x])
    blocks = x.reshape(300, 6, 2, 2, 2, 2).transpose(1, 3, 5, 0, 2, 4).reshape(24, -1)
    expected = np.linalg.eigvalsh(np.cov(blocks.astype(np.float64), bias=True))[::-1]
    np.testing.assert_allclose(table["variance"][0], expected, rtol=1e-3)


@pytest.mark.parametrize("transform", [BlockedPCA(block=2), SeparableKLT(block=4)])
def test_few_components_restore_more_than_as_many_features_would(transform):
    x = features()
    table = fit(transform, [x])
    y = transform.forward(x, table)
    largest_first = np.argsort(-table["variance"].reshape(-1))
    y[:, largest_first[y.shape[1] // 4 :]] = 0
    lost = np.square(transform.inverse(y, table) - x).sum()
    assert lost < 0.5 * 0.75 * np.square(x - x.mean(0)).sum()


def test_large_dimensions_are_divided_into_groups_of_channels():
    x = features()
    pca = BlockedPCA(block=2, max_dimension=8)
    table = fit(pca, [x])
    assert table["basis"].shape == (3, 8, 8)
    alone = fit(BlockedPCA(block=2), [x[:, 2:4]])
    np.testing.assert_allclose(table["variance"][1], alone["variance"][0], rtol=1e-3)


@pytest.mark.parametrize("transform", [BlockedPCA(block=2), SeparableKLT(block=4)])
def test_matched_moments_give_channels_their_mean_and_variance_back(transform):
    x = features()
    table = fit(transform, [x])
    y = transform.forward(x, table)
    grid = Uniform(step=3 * float(y.std()), threshold=0.6)
    steps = fit(grid, [y])
    coarse = grid.dequantize(grid.quantize(y, steps), steps)
    before = transform.inverse(coarse, table)
    matcher = MomentMatcher(table)
    matcher.add(before[:200])
    matcher.add(before[200:])
    after = transform.inverse(coarse, {**table, **matcher.matched()})
    axes = (0, 2, 3)
    assert (before.var(axes) < 0.9 * x.var(axes)).all()
    np.testing.assert_allclose(after.mean(axes), x.mean(axes), atol=1e-2)
    np.testing.assert_allclose(after.var(axes), x.var(axes), rtol=2e-2)


def test_gains_are_bounded_and_dead_channels_left_alone():
    x = features()
    table = fit(BlockedPCA(block=1), [x])
    matcher = MomentMatcher(table)
    faint = x.copy()
    faint[:, 0] = x[:, 0].mean() + (x[:, 0] - x[:, 0].mean()) / 50
    faint[:, 1] = 7.0
    matcher.add(faint)
    gain = matcher.matched()["gain"]
    assert gain[0] == 2.0
    assert gain[1] == 1.0
    np.testing.assert_allclose(gain[2:], 1.0, rtol=1e-4)


def test_settings_and_shapes_without_sense_are_refused():
    for wrong in ({"block": 0}, {"block": 17}, {"exponent": 1.5}, {"max_dimension": 0}):
        with pytest.raises(CodecError, match="found"):
            BlockedPCA(**wrong)
    for wrong in ({"block": 1}, {"exponent": -0.1}):
        with pytest.raises(CodecError, match="found"):
            SeparableKLT(**wrong)
    for shape in ((), (0,), (2, 3, 4, 5)):
        with pytest.raises(CodecError, match="found"):
            BlockedPCA().fitter(shape)
        with pytest.raises(CodecError, match="found"):
            SeparableKLT().fitter(shape)
    with pytest.raises(CodecError, match="found"):
        SeparableKLT().fitter((5,))
