from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy
from sklearn import metrics

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.measure.divergence import divergences, scale_of
from narrows.measure.quality import (
    Quality,
    QualityRecord,
    paired_drop,
    paired_drop_by_metric,
)

Array = NDArray[Any]


def judged(outputs: Array, labels: Array, reference: Array | None = None) -> QualityRecord:
    quality = Quality(classes=outputs.shape[1])
    quality.add(outputs, labels, reference)
    return quality.result()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 200),
    classes=st.integers(6, 30),
    skill=st.floats(0, 5),
)
def test_scores_equal_scikit_learn(seed: int, n: int, classes: int, skill: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    outputs = rng.standard_normal((n, classes))
    outputs[np.arange(n), labels] += skill
    found = judged(outputs, labels)
    answers = outputs.argmax(1)
    expected = metrics.precision_recall_fscore_support(
        labels, answers, average="macro", zero_division=0
    )[:3]
    assert (found.precision_macro, found.recall_macro, found.f1_macro) == pytest.approx(expected)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
    assert found.top5 == pytest.approx(
        metrics.top_k_accuracy_score(labels, outputs, k=5, labels=np.arange(classes))
    )
    assert found.correct.tolist() == (answers == labels).tolist()


def test_agreement_and_divergence_follow_their_definitions() -> None:
    rng = np.random.default_rng(0)
    reference = 30 * rng.standard_normal((50, 10))
    outputs = reference + rng.standard_normal((50, 10))
    found = judged(outputs, rng.integers(0, 10, 50), reference)
    expected = entropy(softmax(reference, axis=1), softmax(outputs, axis=1), axis=1).mean()
    assert found.logit_divergence == pytest.approx(expected)
    assert found.agreement == (reference.argmax(1) == outputs.argmax(1)).mean()


def test_divergence_of_equal_outputs_is_zero_even_for_huge_logits() -> None:
    outputs = np.array([[1e4, -1e4, 0.0], [700.0, 710.0, -50.0]])
    found = judged(outputs, np.array([0, 1]), outputs.copy())
    assert found.logit_divergence == 0
    assert found.agreement == 1


def test_batches_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    outputs, reference = rng.standard_normal((2, 64, 7))
    labels = rng.integers(0, 7, 64)
    quality = Quality(classes=7)
    for rows in np.split(np.arange(64), [1, 10, 40]):
        quality.add(outputs[rows], labels[rows], reference[rows])
    found, whole = quality.result(), judged(outputs, labels, reference)
    assert found.correct_bits == whole.correct_bits
    assert found.logit_divergence == pytest.approx(whole.logit_divergence)
    assert (found.n, found.f1_macro, found.top5) == (64, whole.f1_macro, whole.top5)


def test_a_constant_output_gets_no_credit_from_ties() -> None:
    found = judged(np.zeros((10, 10)), np.arange(10))
    assert found.accuracy == pytest.approx(0.1)
    assert found.top5 == pytest.approx(0.5)


def test_top5_needs_five_outputs() -> None:
    assert judged(np.eye(3), np.arange(3)).top5 is None


def test_own_metric_sees_everything_at_once() -> None:
    seen: list[tuple[int, ...]] = []

    def negated_rmse(outputs: Array, targets: Array) -> float:
        seen.append(outputs.shape)
        return -float(np.sqrt(((outputs[:, 0] - targets) ** 2).mean()))

    quality = Quality(classes=None, metric=negated_rmse)
    quality.add(np.array([[1.0], [2.0]]), np.array([1.0, 4.0]))
    quality.add(np.array([[3.0]]), np.array([3.0]))
    found = quality.result()
    assert found.metric == pytest.approx(-np.sqrt(4 / 3))
    assert seen == [(3, 1)]
    assert (found.accuracy, found.f1_macro, found.correct.size) == (None, None, 0)


def record_of(correct: Array) -> QualityRecord:
    outputs = np.stack([correct, ~correct], axis=1).astype(float)
    return judged(outputs, np.zeros(len(correct), int))


def test_paired_drop_counts_only_where_the_two_differ() -> None:
    a = np.array([True] * 90 + [False] * 10)
    b = a.copy()
    b[:6], b[95:97] = False, True
    drop, low, high = paired_drop(record_of(a), record_of(b))
    assert drop == pytest.approx(0.04)
    # Agresti and Min's interval, by hand: b' = 6.5, c' = 2.5, n' = 102.
    half = 1.959964 * np.sqrt(9 - 16 / 102) / 102
    assert (low, high) == pytest.approx((4 / 102 - half, 4 / 102 + half))


def test_paired_drop_of_equal_answers_still_has_width() -> None:
    a = record_of(np.ones(50, bool))
    drop, low, high = paired_drop(a, a)
    assert drop == 0
    assert low < 0 < high < 0.05


def test_paired_drop_covers_the_truth() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        kind = rng.choice(4, size=200, p=[0.80, 0.03, 0.06, 0.11])
        a, b = np.isin(kind, (0, 2)), np.isin(kind, (0, 1))
        _, low, high = paired_drop(record_of(a), record_of(b))
        hits += low <= 0.03 <= high
    assert 0.92 < hits / 400 < 0.99


def test_bootstrap_of_accuracy_agrees_with_the_formula() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 5, 400)
    reference = rng.standard_normal((400, 5))
    reference[np.arange(400), labels] += 2
    outputs = reference + rng.standard_normal((400, 5))

    def accuracy(values: Array, truth: Array) -> float:
        return float((values.argmax(1) == truth).mean())

    by_formula = paired_drop(judged(reference, labels), judged(outputs, labels))
    by_draws = paired_drop_by_metric(accuracy, labels, reference, outputs)
    assert by_draws == pytest.approx(by_formula, abs=0.012)
    assert by_draws == paired_drop_by_metric(accuracy, labels, reference, outputs)


def test_record_survives_json() -> None:
    found = judged(np.eye(9), np.arange(9)[::-1].copy(), np.eye(9))
    again = from_dict(QualityRecord, to_dict(found))
    assert again == found
    assert again.correct.tolist() == found.correct.tolist()


@pytest.mark.parametrize(
    ("outputs", "labels", "match"),
    [
        (np.eye(3), np.array([0, 1]), "do not fit"),
        (np.eye(3), np.array([0, 1, 3]), "class numbers 0 to 2"),
        (np.eye(3), np.array([0.0, 1.0, 2.0]), "class numbers"),
        (np.array([[np.nan, 1, 2]]), np.array([0]), "not finite"),
        (np.ones((2, 4)), np.array([0, 1]), "4 columns"),
    ],
)
def test_what_cannot_be_judged_is_refused(outputs: Array, labels: Array, match: str) -> None:
    with pytest.raises(MeasureError, match=match):
        Quality(classes=3).add(outputs, labels)


def test_incomplete_judging_is_refused() -> None:
    with pytest.raises(MeasureError, match="no samples"):
        Quality(classes=3).result()
    quality = Quality(classes=3)
    quality.add(np.eye(3), np.arange(3), np.eye(3))
    quality.add(np.eye(3), np.arange(3))
    with pytest.raises(MeasureError, match="3 of 6"):
        quality.result()
    with pytest.raises(MeasureError, match="differ in shape"):
        quality.add(np.eye(3), np.arange(3), np.ones((3, 4)))
    with pytest.raises(MeasureError, match="cannot pair"):
        paired_drop(record_of(np.ones(5, bool)), record_of(np.ones(6, bool)))


def test_divergence_of_probabilities_is_that_of_their_logits() -> None:
    generator = np.random.default_rng(5)
    logits = [generator.normal(size=(30, 7)) * 3 for _ in range(2)]
    shares = [softmax(x, axis=1) for x in logits]
    assert (scale_of(logits[0]), scale_of(shares[0])) == ("logits", "probabilities")
    found = divergences(shares[0], shares[1], "probabilities")
    np.testing.assert_allclose(found, divergences(logits[0], logits[1], "logits"), rtol=1e-6)


def test_whether_scores_are_probabilities_is_settled_once() -> None:
    # The first row, a batch of its own, looks like probabilities; the rest are plainly logits.
    outputs = np.array([[0.25, 0.75], [2.0, -1.0], [0.5, 3.0]])
    reference = outputs + np.array([[0, 0], [0.3, 0], [0, -0.4]])
    quality = Quality(classes=2, details=True)
    for row in range(3):
        part = slice(row, row + 1)
        quality.add(outputs[part], np.array([row % 2]), reference[part])
    expected = entropy(softmax(reference, axis=1), softmax(outputs, axis=1), axis=1).mean()
    assert quality.result().logit_divergence == pytest.approx(expected)
    report = quality.report()
    assert report.scale == "logits"
    confidence = sum(b.confidence * b.samples for b in report.calibration.bins) / 3
    assert confidence == pytest.approx(softmax(outputs, axis=1).max(1).mean())


def test_a_reference_that_is_not_finite_is_refused() -> None:
    with pytest.raises(MeasureError, match="reference outputs of 1 of 3 samples are not finite"):
        judged(np.eye(3), np.arange(3), np.diag([1, np.inf, 1]))


@pytest.mark.parametrize("bits", ["ff", "ff00ff", "gg00", "f"])
def test_bits_that_are_not_those_of_the_samples_are_refused(bits: str) -> None:
    right = judged(np.eye(9), np.arange(9))
    with pytest.raises(MeasureError, match="the record is damaged"):
        dataclasses.replace(right, correct_bits=bits)
