from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from narrows.graph import calibrate
from narrows.graph.calibrate import Histogram, activation_ranges
from narrows.graph.load import load

_FLOATS = arrays.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
)


@given(st.lists(_FLOATS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_histogram_does_not_depend_on_how_values_came(parts: list, random: object) -> None:
    together, apart = Histogram(bins=64), Histogram(bins=64)
    whole = np.concatenate(parts)
    together.add(whole)
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for part in shuffled:
        apart.add(part)
    assert together.width == apart.width
    assert together.counts.tolist() == apart.counts.tolist()
    assert together.counts.sum() == np.count_nonzero(whole)
    if len(together.counts):
        assert together.centres.tolist() == apart.centres.tolist()
        values = np.sort(whole[whole != 0].astype(np.float64))
        centres = np.repeat(together.centres, together.counts)
        assert np.abs(values - centres).max() <= together.width / 2 * (1 + 1e-6)
        assert len(together.counts) <= 64


def ranges(x: np.ndarray, method: str) -> tuple[float, float]:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 1000] x) => (float[N, 1000] y) {h = Mul(x, x) y = Sub(h, x)}"""
    model = load(onnx.parser.parse_model(text))
    return activation_ranges(model, ["x"], [x], method=method)["x"]  # type: ignore[arg-type]


def test_minmax_sees_all_values() -> None:
    x = np.random.default_rng(0).normal(size=(7, 1000)).astype(np.float32)
    assert ranges(x, "minmax") == (x.min(), x.max())


def test_a_percentile_leaves_one_in_ten_thousand_out_at_either_end() -> None:
    x = np.random.default_rng(0).normal(size=(200, 1000)).astype(np.float32)
    x.flat[:5] = (50, -50, 60, -40, 70)
    low, high = ranges(x, "percentile")
    assert (low, high) == pytest.approx(np.quantile(x, (1e-4, 1 - 1e-4)), abs=0.1)


def test_the_least_squared_error_is_that_of_a_search_over_the_values() -> None:
    x = np.random.default_rng(0).laplace(size=(40, 1000)).astype(np.float32)
    low, high = ranges(x, "mse")

    def error(share: float) -> float:
        start, end = share * x.min(), share * x.max()
        step = (end - start) / 255
        levels = np.clip(np.rint((x - start) / step), 0, 255)
        return float(((start + levels * step - x) ** 2).mean())

    shares = np.linspace(0.2, 1, 161)
    best = min(error(share) for share in shares)
    assert error(high / float(x.max())) <= 1.03 * best
    assert low / x.min() == pytest.approx(high / x.max(), rel=1e-5)
    assert high < 0.99 * x.max()


def test_the_least_divergence_clips_a_long_tail() -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(60, 1000))).astype(np.float32)
    x.flat[:10] = 40
    low, high = ranges(x, "entropy")
    assert low >= 0
    assert 2 < high < 20


def test_a_constant_activation_has_a_range() -> None:
    for method in ("minmax", "percentile", "mse", "entropy"):
        assert ranges(np.zeros((2, 1000), np.float32), method) == (0, 0)
        low, high = ranges(np.full((2, 1000), 3, np.float32), method)
        assert low <= 3 <= 1.01 * high


def test_samples_are_read_one_after_the_other_and_let_go() -> None:
    held: list[weakref.ref[np.ndarray]] = []
    most = 0

    def samples() -> Iterator[np.ndarray]:
        nonlocal most
        for _ in range(20):
            most = max(most, sum(one() is not None for one in held))
            made = np.ones((1, 1000), np.float32)
            held.append(weakref.ref(made))
            yield made
            del made

    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 1000] x) => (float[N, 1000] y) {y = Relu(x)}"""
    model = load(onnx.parser.parse_model(text))
    found = activation_ranges(model, ["x", "y"], samples(), method="percentile")
    assert set(found) == {"x", "y"}
    assert most <= 2


def test_a_large_batch_is_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations of one part at a time are in memory, and the ranges are those of all."""
    monkeypatch.setattr(calibrate, "_RUN_BYTES", 3 * 2 * 4000)
    sizes = []
    whole = calibrate.run

    def counted(running: object, feeds: dict[str, np.ndarray], names: list[str]) -> list:
        sizes.append(len(feeds["x"]))
        return whole(running, feeds, names)

    monkeypatch.setattr(calibrate, "run", counted)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 1000] x) => (float[N, 1000] y) {h = Neg(x) y = Relu(h)}"""
    model = load(onnx.parser.parse_model(text))
    x = np.random.default_rng(0).normal(size=(8, 1000)).astype(np.float32)
    found = activation_ranges(model, ["x", "h", "y"], [x])
    assert sizes == [3, 3, 2]
    assert found["h"] == (-x.max(), -x.min())
