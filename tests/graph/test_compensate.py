"""Rounding with the error made good: against the rule written out, and against plain rounding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.coding.coders.symbol_costs import symbol_costs
from narrows.errors import ConfigError, InputError, ModelError
from narrows.graph.compensate import Price, round_columns, rounding
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.graph.round_weights import RoundSettings, WeightRounder
from narrows.graph.second_moments import input_moments
from narrows.graph.weight_matrices import initial_values, weight_matrices


def covariance(columns: int, groups: int = 1, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(groups, 4 * columns, columns)) @ random.normal(
        size=(groups, columns, columns)
    )
    return mixed.transpose(0, 2, 1) @ mixed / (4 * columns)


def written_out(
    weights: np.ndarray, covariance: np.ndarray, row_steps: np.ndarray, column_steps: np.ndarray
) -> np.ndarray:
    """One weight after another, with the inverse covariance of the columns that are left."""
    symbols = np.zeros(weights.shape, np.int64)
    for g, r in np.ndindex(*weights.shape[:2]):
        left = weights[g, r].copy()
        for j in range(len(left)):
            inverse = np.linalg.inv(covariance[g][j:, j:])
            step = row_steps[g, r] * column_steps[j]
            symbols[g, r, j] = np.floor(left[j] / step + 0.5) if weights[g, r, j] else 0
            error = left[j] - symbols[g, r, j] * step
            left[j:] -= error * inverse[0] / inverse[0, 0]
    return symbols


@pytest.mark.parametrize("groups", [1, 3])
def test_symbols_are_those_of_the_rule(groups: int) -> None:
    random = np.random.default_rng(1)
    found = rounding(covariance(90, groups), 4, shrinkage=0.2, spread=0.8)
    used = np.linalg.inv(found.factor.transpose(0, 2, 1) @ found.factor)
    weights = random.normal(size=(groups, 4, 90)) * (random.random((groups, 4, 90)) < 0.7)
    steps = random.uniform(0.1, 0.3, (groups, 4)), random.uniform(0.5, 2, 90)
    expected = written_out(weights, used, *steps)
    assert np.array_equal(round_columns(weights, found.factor, *steps), expected)


def test_the_factor_is_of_the_inverse_and_steps_follow_it() -> None:
    given = covariance(40)
    found = rounding(given, 1000, shrinkage=0.0, spread=1.0)
    product = found.factor[0].T @ found.factor[0]
    assert np.allclose(np.tril(found.factor[0], -1), 0)
    loaded = given[0] + 1e-3 * np.trace(given[0]) / 40 * np.eye(40)
    assert np.allclose(product @ loaded, np.eye(40), atol=1e-6)
    own = np.log2(np.diagonal(found.factor[0]))
    steps = np.log2(found.scale) + found.columns / 8
    assert np.abs(steps - own).max() <= 1 / 16
    few = rounding(given, 50, shrinkage=0.0, spread=1.0)  # weights a column: levels are coarser
    assert not (few.columns % 4).any()
    assert np.abs(np.log2(few.scale) + few.columns / 8 - own).max() <= 1 / 4
    flat = rounding(given, 10, shrinkage=0.0, spread=0.0)
    assert not flat.columns.any()
    assert flat.scale == 1.0


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_symbols_are_the_cheapest_of_three(rate: float) -> None:
    random = np.random.default_rng(4)
    found = rounding(covariance(30), 6, shrinkage=0.1, spread=0.5)
    weights = random.normal(size=(1, 6, 30)) * (random.random((1, 6, 30)) < 0.8)
    rows, columns = np.full((1, 6), 0.3), random.uniform(0.5, 2, 30)
    price = Price(
        rate=rate,
        classes=random.integers(0, 2, weights.shape).astype(np.int16),
        bits=random.uniform(0, 9, (2, 5)),  # of the symbols -2 … 2
    )
    own = np.diagonal(found.factor[0])
    importance = (columns / own) ** 2 / np.exp(np.log((columns / own) ** 2).mean())
    left, expected = weights[0].copy(), np.zeros((6, 30), np.int32)
    for r, j in np.ndindex(6, 30):
        step = 0.3 * columns[j]
        x = left[r, j] / step
        near = int(np.floor(x + 0.5))
        kind = price.classes[0, r, j]
        costs = {
            q: importance[j] * (x - q) ** 2 + rate * price.bits[kind, min(max(q, -2), 2) + 2]
            for q in (near, near - np.sign(near), 0)
        }
        expected[r, j] = min(costs, key=lambda q: costs[q]) if weights[0, r, j] else 0
        left[r] -= (left[r, j] - expected[r, j] * step) / own[j] * found.factor[0, j]
    assert np.array_equal(round_columns(weights, found.factor, rows, columns, price)[0], expected)


def test_fewer_bits_at_the_same_loss_where_bits_have_a_price() -> None:
    random, given = np.random.default_rng(3), covariance(120)
    how = rounding(given, 60, shrinkage=0.0, spread=1.0)
    weights = random.laplace(size=(1, 60, 120))
    bits = {}
    for rate in (0.0, 0.1):
        low, high = 1e-4, 10.0
        for _ in range(25):  # to one loss
            step = np.sqrt(low * high)
            columns = step * how.scale * 2.0 ** (how.columns / 8)
            symbols = round_columns(weights, how.factor, np.ones((1, 60)), columns)
            if rate:
                price = Price(
                    rate=rate, classes=(c := symbol_costs(symbols[0]))[0][None], bits=c[1]
                )
                symbols = round_columns(weights, how.factor, np.ones((1, 60)), columns, price)
            error = weights - symbols * columns
            lost = np.einsum("grc,gcd,grd->", error, given, error)
            low, high = (step, high) if lost < 0.2 * lost_without(weights, given) else (low, step)
        bits[rate] = symbol_costs(symbols[0])[1][symbol_costs(symbols[0])[0], symbols[0] + 60].sum()
    assert bits[0.1] < 0.97 * bits[0.0]


def lost_without(weights: np.ndarray, given: np.ndarray) -> float:
    return float(np.einsum("grc,gcd,grd->", weights, given, weights))


def test_outputs_lose_less_at_the_same_bits() -> None:
    random, given = np.random.default_rng(2), covariance(120)
    weights = random.normal(size=(1, 60, 120))
    lost = {}
    for name, spread, share in (("plain", 0.0, 1.0), ("compensated", 1.0, 0.0)):
        how = rounding(given, 60, shrinkage=share, spread=spread)
        low, high = 1e-4, 10.0
        for _ in range(40):  # to 3 bits a weight
            step = np.sqrt(low * high)
            columns = step * how.scale * 2.0 ** (how.columns / 8)
            symbols = round_columns(weights, how.factor, np.ones((1, 60)), columns)
            low, high = (step, high) if entropy(symbols) > 3 else (low, step)
        error = weights - symbols * columns
        lost[name] = np.einsum("grc,gcd,grd->", error, given, error)
        assert entropy(symbols) == pytest.approx(3, abs=0.01)
    assert lost["compensated"] < 0.5 * lost["plain"]


def entropy(symbols: np.ndarray) -> float:
    """Bits a weight, each column with a table of its own."""
    bits = 0.0
    for column in symbols.reshape(-1, symbols.shape[-1]).T:
        _, counts = np.unique(column, return_counts=True)
        bits -= (counts * np.log2(counts / counts.sum())).sum()
    return float(bits / symbols.size)


CONVOLUTIONS = [
    {"kernel_shape": [1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [2, 2, 2, 2], "group": 2},
    {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "group": 6},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [4, 4], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
]


@pytest.mark.parametrize("attributes", CONVOLUTIONS, ids=str)
def test_windows_times_the_kernel_are_the_convolution(attributes: dict[str, object]) -> None:
    random = np.random.default_rng(0)
    group = int(attributes.get("group", 1))
    kernel = random.normal(size=(12, 6 // group, *attributes["kernel_shape"])).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)
    model = load(built([node], {"w": kernel}, (6, 11, 9), None))
    (weight,) = weight_matrices(model)
    x = random.normal(size=(2, 6, 11, 9)).astype(np.float32)
    windows = weight.windows(x, 10**9)
    found = np.einsum("gsc,grc->gsr", windows, weight.matrix(kernel))
    y = run(session(model.proto), {"x": x})[0]
    by_group = y.reshape(2, group, 12 // group, -1).transpose(1, 0, 3, 2)
    assert np.allclose(found, by_group.reshape(found.shape), atol=1e-4)
    assert np.array_equal(weight.values(weight.matrix(kernel)), kernel)
    few = weight.windows(x, 5)
    assert few.shape[1] < windows.shape[1]


@pytest.mark.parametrize("transposed", [0, 1])
def test_moments_are_those_of_the_inputs_and_biases_take_the_mean_error(transposed: int) -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(20, 30)).astype(np.float32)
    bias = random.normal(size=20).astype(np.float32)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="g", transB=transposed)
    stored = matrix if transposed else np.ascontiguousarray(matrix.T)
    model = load(built([node], {"w": stored, "b": bias}, (30,), 20))
    x = (random.normal(size=(400, 30)) @ random.normal(size=(30, 30)) + 3).astype(np.float32)
    weights = weight_matrices(model)
    moments = input_moments(model, weights, [x[:100], x[100:]])
    assert np.allclose(moments["w"].mean[0], x.mean(0), atol=1e-3)
    assert np.allclose(moments["w"].covariance[0], np.cov(x.T, bias=True), rtol=1e-3, atol=0.02)
    assert moments["w"].count == 400
    before = run(session(model.proto), {"x": x})[0]
    made = WeightRounder(model, weights, moments).rounded(0.5)
    after = run(session(made.proto), {"x": x})[0]
    spread = (after - before).std(0)
    assert (np.abs((after - before).mean(0)) < 0.3 * spread).all()
    for name, values in made.grids.items():
        found = {t.name: numpy_helper.to_array(t) for t in made.proto.graph.initializer}[name]
        assert np.array_equal(values.symbols(found), made.symbols[name])
        assert np.array_equal(values.values(made.symbols[name]), found)


@pytest.mark.parametrize(("middle", "spread"), [(10, 0.01), (100, 0.1), (1000, 0.1)])
def test_inputs_far_from_zero_keep_their_covariance(middle: float, spread: float) -> None:
    random = np.random.default_rng(0)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")
    stored = {"w": random.normal(size=(64, 16)), "b": random.normal(size=16)}
    weights_and_bias = {name: value.astype(np.float32) for name, value in stored.items()}
    model = load(built([node], weights_and_bias, (64,), 16))
    x = (middle + spread * random.normal(size=(300, 64))).astype(np.float32)
    weights = weight_matrices(model)
    moments = input_moments(model, weights, [x[:100], x[100:]])
    known = np.cov(x.astype(np.float64).T, bias=True)
    assert np.allclose(moments["w"].covariance[0], known, rtol=0.01, atol=0.001 * spread**2)
    assert np.allclose(moments["w"].mean[0], x.mean(0, dtype=np.float64))
    made = WeightRounder(model, weights, moments).rounded(0.1)
    assert np.isfinite(run(session(made.proto), {"x": x})[0]).all()


def test_covariances_that_are_none_are_made_to_be() -> None:
    damaged = covariance(20)
    damaged[0, 3, 3] *= 0.2  # no longer positive definite
    found = rounding(damaged, 10, shrinkage=0.0, spread=1.0)
    assert np.isfinite(found.factor).all()
    with pytest.raises(ModelError, match="of no data"):
        rounding((10 - 9 * np.eye(4))[None], 10, shrinkage=0.0, spread=1.0)


def test_finer_steps_change_less_and_single_weights_can_be_rounded() -> None:
    model, x = small_network()
    weights = weight_matrices(model)
    rounder = WeightRounder(model, weights, input_moments(model, weights, [x]))
    before = run(session(model.proto), {"x": x})[0]
    lost = [
        float(np.abs(run(session(rounder.rounded(step).proto), {"x": x})[0] - before).mean())
        for step in (0.02, 0.1, 0.5)
    ]
    assert 0 < lost[0] < lost[1] < lost[2]
    assert lost[0] < 0.02 * np.abs(before).mean()
    only = rounder.rounded(0.1, only=["w2"])
    assert set(only.grids) == {"w2"}
    values = {t.name: numpy_helper.to_array(t) for t in only.proto.graph.initializer}
    assert np.array_equal(values["w1"], initial_values(model)["w1"])


def test_what_cannot_be_rounded_is_told() -> None:
    model, x = small_network()
    weights = weight_matrices(model)
    moments = input_moments(model, weights, [x])
    with pytest.raises(ConfigError, match="step is 0"):
        WeightRounder(model, weights, moments).rounded(0.0)
    with pytest.raises(ConfigError, match=r"shrinkage is 1\.5"):
        RoundSettings(shrinkage=1.5)
    with pytest.raises(ConfigError, match=r"a step of .* is too fine"):
        WeightRounder(model, weights, moments).rounded(1e-9)
    with pytest.raises(InputError, match="no samples"):
        input_moments(model, weights, [])
    with pytest.raises(ModelError, match="no weights to round"):
        weight_matrices(model, ["Conv", "MatMul"])


def small_network() -> tuple[object, np.ndarray]:
    random = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["a"], ["r"], name="relu"),
        onnx.helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        onnx.helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        onnx.helper.make_node("MatMul", ["f", "w2"], ["y"], name="last"),
    ]
    stored = {
        "w1": random.normal(size=(16, 3, 3, 3)).astype(np.float32),
        "w2": random.normal(size=(16, 10)).astype(np.float32),
    }
    x = random.normal(size=(50, 3, 12, 12)).astype(np.float32)
    return load(built(nodes, stored, (3, 12, 12), 10)), x


def built(
    nodes: list[onnx.NodeProto],
    stored: dict[str, np.ndarray],
    shape: tuple[int, ...],
    outputs: int | None,
) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    made = ["n", outputs] if outputs else ["n", 12, "h", "w"]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, ["n", *shape])],
        [onnx.helper.make_tensor_value_info("y", kind, made)],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
