"""Allocations against all there are: they fit, and lose no more than any of their size."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.compress.allocation import Choice, greedy, lagrangian
from narrows.errors import ConfigError

TABLES = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=4).map(
        lambda rows: [
            Choice(size=float(sum(r[0] for r in rows[: i + 1])), loss=float(loss))
            for i, loss in enumerate(sorted((r[1] for r in rows), reverse=True))
        ]
    ),
    min_size=1,
    max_size=4,
)


def total(tables: list[list[Choice]], taken: tuple[int, ...]) -> tuple[float, float]:
    chosen = [table[place] for table, place in zip(tables, taken, strict=True)]
    return sum(c.size for c in chosen), sum(c.loss for c in chosen)


@given(tables=TABLES, share=st.floats(0, 1.2))
@settings(max_examples=300, deadline=None)
def test_allocations_fit_and_the_lagrangian_is_the_best_of_its_size(
    tables: list[list[Choice]], share: float
) -> None:
    least = sum(table[0].size for table in tables)
    most = sum(table[-1].size for table in tables)
    budget = least + share * (most - least)
    every = list(itertools.product(*(range(len(table)) for table in tables)))
    best = min(total(tables, taken)[1] for taken in every if total(tables, taken)[0] <= budget)
    worst = total(tables, tuple(0 for _ in tables))[1]
    for rule in (greedy, lagrangian):
        size, loss = total(tables, rule(tables, budget))
        assert size <= budget
        assert best <= loss <= worst
    if budget >= most:
        assert total(tables, lagrangian(tables, budget))[1] == best
    # No allocation of the size reached, or of less, loses less on the hull: before what is left is
    # spent, which only lowers the loss, the sum is a minimum of loss + λ · size.
    size, loss = total(tables, lagrangian(tables, budget))
    steps = max((a.loss - b.loss) for t in tables for a in t for b in t)
    assert loss <= best + max(0.0, steps)


def test_on_convex_tables_both_are_the_best_there_is_where_a_step_ends() -> None:
    tables = [
        [Choice(size=b, loss=weight * 4.0**-b) for b in range(1, 7)] for weight in (1, 7, 50, 900)
    ]
    every = list(itertools.product(range(6), repeat=4))
    for budget in range(4, 25):
        best = min(total(tables, t)[1] for t in every if total(tables, t)[0] <= budget)
        for rule in (greedy, lagrangian):
            assert total(tables, rule(tables, budget))[1] == pytest.approx(best)


def test_a_budget_below_the_smallest_is_told() -> None:
    tables = [[Choice(size=10, loss=1.0)], [Choice(size=5, loss=1.0)]]
    for rule in (greedy, lagrangian):
        assert rule(tables, 15) == (0, 0)
        with pytest.raises(ConfigError, match="a budget of 14 is below the 15 that"):
            rule(tables, 14)
