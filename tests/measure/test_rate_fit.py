from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from narrows.measure.rate_fit import _non_negative, fit_rates


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(3, 40), columns=st.integers(1, 8))
def test_least_squares_equal_scipy(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.random((rows, columns)) * 10.0 ** rng.integers(-3, 9, columns)
    targets = rng.standard_normal(rows)
    found = _non_negative(features, targets)
    assert (found >= 0).all()
    _, expected = nnls(features, targets)
    assert np.linalg.norm(features @ found - targets) == pytest.approx(expected, rel=1e-6)


def test_outliers_hardly_move_the_rates() -> None:
    rng = np.random.default_rng(0)
    features = np.stack([np.ones(200), rng.uniform(1e6, 1e8, 200)], axis=1)
    truth = np.array([5e-6, 1e-11])
    times = features @ truth * rng.uniform(0.97, 1.03, 200)
    times[:20] *= 5
    assert fit_rates(features, times, 1 / times) == pytest.approx(truth, rel=0.08)


def test_a_feature_never_seen_gets_no_rate() -> None:
    features = np.array([[1.0, 0.0], [2.0, 0.0]])
    assert fit_rates(features, np.array([3.0, 6.0]), np.ones(2)).tolist() == [3.0, 0.0]
