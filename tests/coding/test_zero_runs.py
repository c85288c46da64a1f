"""Zero runs and classes of magnitudes: lossless, against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.coding.transforms.zero_runs import (
    CLASSES,
    Runs,
    extra_width,
    join_magnitude,
    places_of,
    split_magnitude,
    to_runs,
)
from narrows.errors import CorruptData

SEGMENTS = st.lists(
    st.lists(st.sampled_from([0, 0, 0, 1, -5, 2**31 - 1, -(2**31)]), max_size=12), max_size=5
)


def from_runs(runs, edges):
    """The sequence that has these runs."""
    symbols = np.zeros(int(edges[-1]), np.int32)
    starts = np.cumsum(runs.counts) - runs.counts
    segments = np.repeat(np.arange(runs.counts.size), runs.counts)
    places = places_of(runs.zeros, starts[segments], edges[segments] - 1, edges[segments + 1])
    symbols[places] = runs.values
    return symbols


@given(SEGMENTS)
@settings(max_examples=200, deadline=None)
def test_runs_are_those_of_a_loop_and_go_back(segments):
    zeros, values, counts = [], [], []
    for segment in segments:
        run, count = 0, 0
        for symbol in segment:
            if symbol:
                zeros.append(run)
                values.append(symbol)
                count, run = count + 1, 0
            else:
                run += 1
        counts.append(count)
    symbols = np.array([symbol for segment in segments for symbol in segment], np.int32)
    edges = np.cumsum([0, *map(len, segments)])
    runs = to_runs(symbols, edges)
    assert runs.zeros.tolist() == zeros
    assert runs.values.tolist() == values
    assert runs.counts.tolist() == counts
    assert np.array_equal(from_runs(runs, edges), symbols)


def test_runs_that_leave_their_segment_are_refused():
    runs = Runs(np.array([1, 2]), np.array([7, 7]), np.array([1, 1]))
    assert from_runs(runs, np.array([0, 2, 5])).tolist() == [0, 7, 0, 0, 7]
    for edges in ([0, 1, 5], [0, 2, 4]):
        with pytest.raises(CorruptData, match="zero runs"):
            from_runs(runs, np.array(edges))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
@settings(max_examples=200, deadline=None)
def test_magnitudes_go_through_classes_and_back(numbers):
    numbers = np.array(numbers + list(range(70)) + [2**32 - 1])
    classes, extra, widths = split_magnitude(numbers)
    assert classes.max() == CLASSES - 1
    assert classes.min() >= 0
    assert np.array_equal(extra_width(classes), widths)
    assert ((extra >= 0) & (extra < 1 << widths)).all()
    assert np.array_equal(join_magnitude(classes, extra), numbers)
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(classes[order]) >= 0).all()


def test_every_class_begins_where_the_one_before_ends():
    classes = np.arange(CLASSES)
    first = join_magnitude(classes, np.zeros(CLASSES, np.int64))
    assert np.array_equal(first[1:], first[:-1] + (1 << extra_width(classes))[:-1])
    assert first[-1] + (1 << int(extra_width(classes)[-1])) == 2**32
