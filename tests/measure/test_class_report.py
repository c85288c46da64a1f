from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics

from narrows.config import read_json, write_json
from narrows.errors import MeasureError
from narrows.measure.calibration import calibration
from narrows.measure.class_averages import averages, cells_of, mean_scores
from narrows.measure.class_report import ClassReport, paired_averages
from narrows.measure.intervals import wilson
from narrows.measure.quality import Quality

Array = NDArray[Any]


def report(
    outputs: Array, labels: Array, top: tuple[int, ...] = (1, 5), reference: Array | None = None
) -> ClassReport:
    quality = Quality(classes=outputs.shape[1], details=True)
    for rows in np.array_split(np.arange(len(labels)), min(3, len(labels))):
        quality.add(outputs[rows], labels[rows], None if reference is None else reference[rows])
    return quality.report(top=top)


def values(averages: Any) -> tuple[float, float, float]:
    return averages.precision.value, averages.recall.value, averages.f1.value


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 150),
    classes=st.integers(1, 25),
    present=st.integers(1, 25),
    skill=st.floats(0, 6),
    k=st.integers(1, 6),
)
def test_everything_equals_scikit_learn(
    seed: int, n: int, classes: int, present: int, skill: float, k: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, min(present, classes), n)  # the other classes are absent
    outputs = rng.standard_normal((n, classes))
    outputs[np.arange(n), labels] += skill
    found, answers = report(outputs, labels, (k,)), outputs.argmax(1)
    every = np.arange(classes)
    expected = metrics.precision_recall_fscore_support
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(labels, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is one class
        matrix = metrics.confusion_matrix(labels, answers, labels=every)
    assert (found.confusion == matrix).all()
    for average in ("macro", "weighted"):
        wanted = expected(labels, answers, average=average, zero_division=0)[:3]
        assert values(getattr(found, average)) == pytest.approx(wanted)
    columns = expected(labels, answers, labels=every, zero_division=0)
    for score, *wanted in zip(found.per_class, *columns, strict=True):
        ours = (score.precision, score.recall, score.f1, score.support)
        assert ours == pytest.approx(tuple(wanted))
    if k > classes:
        assert str(k) not in found.top
    elif classes > 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where k = classes
            wanted = metrics.top_k_accuracy_score(labels, outputs, k=k, labels=every)
        assert found.top[str(k)].value == pytest.approx(wanted)


def test_one_class_and_all_wrong() -> None:
    alone = report(np.zeros((4, 1)), np.zeros(4, int), (1,))
    assert (alone.accuracy.value, *values(alone.macro)) == (1, 1, 1, 1)
    wrong = report(np.eye(2)[[1, 1, 1]], np.zeros(3, int), (1, 2))
    assert (wrong.accuracy.value, *values(wrong.macro)) == (0, 0, 0, 0)
    assert wrong.top["2"].value == 1
    assert wrong.per_class[0].precision_interval is None
    assert wrong.per_class[1].recall_interval is None
    assert wrong.macro.f1.high > 0.2


@given(hits=st.integers(0, 80), more=st.integers(0, 80))
def test_wilson_is_scipys(hits: int, more: int) -> None:
    n = hits + more
    if n == 0:
        return
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits / n, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_gradients_are_those_of_the_means() -> None:
    rng = np.random.default_rng(3)
    labels, answers = rng.integers(0, 5, (2, 400))
    cells = cells_of(labels, np.where(rng.random(400) < 0.6, labels, answers), 5)
    for by_support in (False, True):
        base = mean_scores(cells, by_support=by_support)
        for place in range(0, len(cells.counts), 3):
            # Many copies of everything and one sample more: a small step along one cell's share.
            counts = 10**6 * cells.counts
            counts[place] += 10**4
            moved = dataclasses.replace(cells, counts=counts)
            step = 10**4 / counts.sum()
            shares = cells.counts / cells.counts.sum()
            for (value, gradient), (after, _) in zip(
                base, mean_scores(moved, by_support=by_support), strict=True
            ):
                slope = gradient[place] - (shares * gradient).sum()
                assert (after - value) / step == pytest.approx(slope, rel=1e-3, abs=1e-4)


def drawn(rng: np.random.Generator, n: int, classes: int, skill: float) -> tuple[Array, Array]:
    shares = 1.0 / (1 + np.arange(classes))
    labels = rng.choice(classes, n, p=shares / shares.sum())
    outputs = rng.standard_normal((n, classes))
    outputs[np.arange(n), labels] += skill * (1 + labels / classes)
    return labels, outputs


@pytest.mark.parametrize("skill", [1.0, 3.0])
def test_intervals_of_f1_cover_the_truth(skill: float) -> None:
    rng = np.random.default_rng(8)
    labels, outputs = drawn(rng, 400_000, 6, skill)
    truth = {
        name: metrics.f1_score(labels, outputs.argmax(1), average=name)
        for name in ("macro", "weighted")
    }
    hits = {"macro": 0, "weighted": 0}
    for _ in range(400):
        labels, outputs = drawn(rng, 300, 6, skill)
        cells = cells_of(labels, outputs.argmax(1), 6)
        for name in hits:
            f1 = averages(cells, by_support=name == "weighted").f1
            hits[name] += f1.low <= truth[name] <= f1.high
    assert all(0.92 <= count / 400 <= 0.985 for count in hits.values()), hits


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.1, 1.0, 0.62, 0.65, 1 / 15, 0.0])
    right = np.array([False, True, True, False, False, False])
    found = calibration(confidence, right)
    # Bins (m-1)/15 to m/15: 0.1 alone; 1.0 alone; 0.62 and 0.65 together; 1/15 and 0 in the first.
    assert [b.samples for b in found.bins] == [2, 1] + [0] * 7 + [2] + [0] * 4 + [1]
    expected = (0.1 + 0 + abs(1 - 1.27) + abs(0 - 1 / 15)) / 6
    assert found.ece.value == pytest.approx(expected)
    assert found.ece.low <= expected <= found.ece.high


@pytest.mark.parametrize("power", [1.0, 1.05, 1.5])  # calibrated, nearly, far too sure
def test_interval_of_calibration_error_covers_the_truth(power: float) -> None:
    rng = np.random.default_rng(9)

    def sample(n: int) -> tuple[Array, Array]:
        confidence = rng.beta(6, 2, n)
        return confidence, rng.random(n) < confidence**power

    truth = calibration(*sample(10**6)).ece.value if power > 1 else 0.0
    found = [calibration(*sample(400)).ece for _ in range(300)]
    assert sum(e.low <= truth <= e.high for e in found) / 300 >= 0.93
    assert np.median([e.high - e.low for e in found]) < 0.12


def test_perfectly_calibrated_outputs_reach_zero() -> None:
    rng = np.random.default_rng(1)
    logits = 2 * rng.standard_normal((3000, 4))
    shares = softmax(logits, axis=1)
    labels = np.array([rng.choice(4, p=row) for row in shares])
    of_logits, of_shares = report(logits, labels), report(shares, labels)
    assert (of_logits.scale, of_shares.scale) == ("logits", "probabilities")
    assert of_logits.calibration.ece.value == pytest.approx(of_shares.calibration.ece.value)
    assert of_logits.calibration.ece.value < 0.03
    assert of_logits.calibration.ece.low < 0.005
    assert report(5 * logits, labels).calibration.ece.low > 0.1


def test_paired_differences_are_sharper_and_cover() -> None:
    rng = np.random.default_rng(4)

    def both(n: int) -> tuple[Array, Array, Array]:
        labels, first = drawn(rng, n, 5, 1.5)
        return labels, first, first + 0.2 * rng.standard_normal(first.shape)

    labels, first, second = both(400_000)
    before = mean_scores(cells_of(labels, first.argmax(1), 5), by_support=False)
    after = mean_scores(cells_of(labels, second.argmax(1), 5), by_support=False)
    truth = before[2][0] - after[2][0]
    hits = 0
    for _ in range(80):
        labels, first, second = both(400)
        one, other = report(first, labels), report(second, labels)
        drop = paired_averages(one, other).f1
        hits += drop.low <= truth <= drop.high
        assert drop.high - drop.low < 0.8 * (one.macro.f1.high - one.macro.f1.low)
    assert hits >= 71
    same = paired_averages(one, one).f1
    assert same.value == 0
    assert same.low < 0 < same.high
    assert paired_averages(one, other, by_support=True).recall.value == pytest.approx(
        one.accuracy.value - other.accuracy.value
    )


def test_agreement_has_an_interval_and_the_record_survives_json(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outputs, reference = rng.standard_normal((2, 40, 7))
    found = report(outputs, rng.integers(0, 7, 40), (1, 3), reference)
    assert found.agreement is not None
    assert found.agreement.value == (outputs.argmax(1) == reference.argmax(1)).mean()
    write_json(tmp_path / "report.json", found)
    again = read_json(tmp_path / "report.json", ClassReport)
    assert again == found
    assert (again.confusion == found.confusion).all()


def test_what_cannot_be_reported_is_refused() -> None:
    plain = Quality(classes=3)
    plain.add(np.eye(3), np.arange(3))
    with pytest.raises(MeasureError, match="details=True"):
        plain.report()
    regression = Quality(classes=None, details=True)
    regression.add(np.ones((2, 1)), np.ones(2))
    with pytest.raises(MeasureError, match="by classes"):
        regression.report()
    with pytest.raises(MeasureError, match="no samples"):
        Quality(classes=3, details=True).report()
    found = report(np.eye(3), np.arange(3))
    with pytest.raises(MeasureError, match="damaged"):
        dataclasses.replace(found, answers=found.answers[:-4])
    with pytest.raises(MeasureError, match="damaged"):
        dataclasses.replace(found, classes=2)
    with pytest.raises(MeasureError, match="same samples"):
        paired_averages(found, report(np.eye(3), np.array([0, 1, 1])))
    with pytest.raises(MeasureError, match="at least one sample"):
        wilson(0.5, 0)
