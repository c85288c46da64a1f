from __future__ import annotations

import dataclasses
import json

import pytest
from scipy import stats

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.measure.environment import environment
from narrows.measure.record import Measurement, check_comparable
from narrows.measure.student import student_t

HERE = environment()


def measurement(samples: list[float], **more: object) -> Measurement:
    return Measurement(name="latency_s", unit="s", samples=tuple(samples), environment=HERE, **more)


def test_coverage_says_when_there_are_too_few_rounds() -> None:
    assert measurement([1, 2, 3]).coverage == pytest.approx(0.75)
    assert measurement([1]).interval == (1, 1)
    assert measurement([1]).coverage == 0


def test_estimate_is_the_median_of_all_calls_with_rounds_of_equal_weight() -> None:
    taken = measurement([1, 1, 9, 2, 2, 2, 2, 7], round_sizes=(3, 4, 1))
    assert taken.round_medians == (1, 2, 7)
    assert taken.rounds == ((1, 1, 9), (2, 2, 2, 2), (7,))
    assert taken.median == taken.estimate == 2
    assert taken.mean == pytest.approx(3.25)


def test_half_width_is_a_share_of_the_estimate() -> None:
    taken = measurement([float(value) for value in range(96, 106)])
    assert taken.interval == (97, 104)
    assert taken.half_width == pytest.approx(3.5 / 100.5)


def test_by_the_paper_s_rule_the_interval_is_student_s_of_the_mean() -> None:
    samples = [1.0, 2.0, 3.0, 4.0, 9.0, 1.0, 2.0, 3.0, 4.0, 9.0]
    taken = measurement(samples, rule="paper")
    low, high = stats.t.interval(0.95, 9, loc=3.8, scale=stats.sem(samples))
    assert taken.estimate == pytest.approx(3.8)
    assert taken.interval == pytest.approx((low, high), rel=1e-4)
    assert taken.median == 3


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 30, 1000])
def test_student_s_quantile(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


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
    "more",
    [{"samples": ()}, {"round_sizes": (1, 1)}, {"cpu_samples": (1.0,)}, {"round_processes": (1,)}],
)
def test_records_that_do_not_hold_together_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(MeasureError):
        dataclasses.replace(measurement([1, 2, 3]), **more)


def test_record_survives_json() -> None:
    taken = measurement(
        [1.5, 2.5],
        round_sizes=(1, 1),
        contended_rounds=(True, False),
        round_reasons=(("wall/CPU 1.4", "steal 2 %"), ()),
        round_starts_s=(0.1, 0.4),
        round_processes=(0, 1),
        settled=(True, False),
        session_s=0.5,
        target=0.02,
        reached=False,
        rule="rounds",
    )
    assert from_dict(Measurement, json.loads(json.dumps(to_dict(taken)))) == taken
