import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from narrows.plan.frontier import pareto


def brute_force(points: np.ndarray) -> list[bool]:
    def dominated(i: int) -> bool:
        return any((p <= points[i]).all() and (p < points[i]).any() for p in points)

    return [not dominated(i) for i in range(len(points))]


@settings(max_examples=300, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 30), st.integers(1, 5)),
        elements=st.integers(0, 6).map(float),
    )
)
def test_frontier_equals_brute_force_with_many_ties(points: np.ndarray) -> None:
    assert pareto(points).tolist() == brute_force(points)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_frontier_equals_brute_force_on_continuous_points(seed: int, columns: int) -> None:
    points = np.random.default_rng(seed).normal(size=(60, columns))
    assert pareto(points).tolist() == brute_force(points)


def test_three_columns_do_not_take_quadratic_time() -> None:
    """A frontier of 20 000 points would take 400 million comparisons pairwise."""
    t = np.random.default_rng(0).random((20_000, 2))
    sphere = np.column_stack([t, -t.sum(axis=1)])
    assert pareto(sphere).all()


def test_equal_rows_stay_together_and_infinity_is_a_number() -> None:
    assert pareto([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]]).tolist() == [True, True, False]
    assert pareto([[np.inf, 0.0], [0.0, np.inf], [np.inf, np.inf]]).tolist() == [True, True, False]
