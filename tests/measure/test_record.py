from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.measure.environment import environment
from narrows.measure.record import Measurement, check_comparable, order_interval

HERE = environment()


def measurement(samples: list[float], **more: object) -> Measurement:
    return Measurement(name="latency_s", unit="s", samples=tuple(samples), environment=HERE, **more)


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (8, 1), (9, 2), (10, 2), (11, 2), (20, 6)])
def test_interval_is_made_of_the_tabled_order_statistics(count: int, rank: int) -> None:
    values = tuple(float(v) for v in np.random.default_rng(0).permutation(count))
    assert order_interval(values) == (rank - 1, count - rank)


def test_interval_covers_the_median_of_a_skewed_law_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = np.log(2.0)
    intervals = [order_interval(tuple(rng.exponential(size=10))) for _ in range(2000)]
    hit = np.mean([low <= truth <= high for low, high in intervals])
    assert abs(hit - measurement(list(range(10))).coverage) < 0.015


def test_coverage_says_when_there_are_too_few_rounds() -> None:
    assert measurement([1, 2, 3]).coverage == pytest.approx(0.75)
    assert measurement([1]).interval == (1, 1)
    assert measurement([1]).coverage == 0


def test_estimate_is_the_median_of_round_medians() -> None:
    taken = measurement([1, 1, 9, 2, 2, 2, 2, 7], round_sizes=(3, 4, 1))
    assert taken.round_medians == (1, 2, 7)
    assert taken.median == 2
    assert taken.mean == pytest.approx(3.25)


def test_p99_needs_a_thousand_samples() -> None:
    assert measurement([1.0] * 999).p99 is None
    assert measurement([float(i) for i in range(1000)]).p99 == pytest.approx(989.01)
    assert measurement([float(i) for i in range(11)]).p90 == pytest.approx(9)


def test_most_rounds_decide_whether_it_was_contended() -> None:
    assert measurement([1, 2, 3], contended_rounds=(True, True, False)).contended
    assert not measurement([1, 2, 3], contended_rounds=(True, False, False)).contended
    assert not measurement([1, 2]).contended


def test_cpu_times_are_a_measurement_of_their_own() -> None:
    taken = measurement([5, 6, 7], cpu_samples=(1, 2, 3))
    assert taken.cpu.median == 2
    assert taken.cpu.name == "cpu_latency_s"
    with pytest.raises(MeasureError, match="no CPU times"):
        _ = taken.cpu.cpu


def test_records_of_two_environments_are_not_compared() -> None:
    one = measurement([1, 2])
    other = dataclasses.replace(HERE, governor="powersave")
    two = dataclasses.replace(one, environment=other)
    check_comparable(one, dataclasses.replace(one, samples=(9.0,)))
    with pytest.raises(MeasureError, match="one environment"):
        check_comparable(one, two)
    with pytest.raises(MeasureError, match="same quantity"):
        check_comparable(one, dataclasses.replace(one, unit="B"))


@pytest.mark.parametrize(
    "more", [{"samples": ()}, {"round_sizes": (1, 1)}, {"cpu_samples": (1.0,)}]
)
def test_records_that_do_not_hold_together_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(MeasureError):
        dataclasses.replace(measurement([1, 2, 3]), **more)


def test_record_survives_json() -> None:
    taken = measurement([1.5, 2.5], round_sizes=(1, 1), contended_rounds=(True, False))
    assert from_dict(Measurement, to_dict(taken)) == taken
