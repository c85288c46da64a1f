"""GRU and LSTM in integers against floating point, and against naive references of the rule."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from recurrent_nets import integer_gru, integer_lstm, network, samples

from narrows.graph.cost import total_macs, unknown_operators
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantized import is_quantized, weight_bearing

NEAR = 0.02  # of the deviation of the answers
STEPS = 20
WAYS = ("forward", "reverse", "bidirectional")


def quantized(proto: onnx.ModelProto, x: np.ndarray, **settings: Any) -> onnx.ModelProto:
    """As every user gets it: made, and taken by the loader."""
    return load(quantize_static(proto, [x], recurrent="all", **settings)).proto


def answers(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return run(session(proto), {"x": x})


def check_near(proto: onnx.ModelProto, made: onnx.ModelProto, x: np.ndarray) -> None:
    for exact, found in zip(answers(proto, x), answers(made, x), strict=True):
        assert exact.shape == found.shape
        assert 0 < np.std(found - exact) < NEAR * np.std(exact)


@pytest.mark.parametrize(
    ("direction", "after", "initial", "bias"),
    list(product(WAYS, (0, 1), (0.0, 2.5), (True, False))),
)
def test_a_gru_follows_the_rule(direction: str, after: int, initial: float, bias: bool) -> None:
    proto = network(
        "GRU",
        direction=direction,
        linear_before_reset=after,
        initial=initial,
        bias=bias,
        steps=STEPS,
    )
    x, others = samples(4, steps=STEPS), samples(3, steps=STEPS, seed=2)
    made = quantized(proto, x, activation="uint8")
    (found,) = answers(made, others)
    expected = integer_gru(proto, others, (float(x.min()), float(x.max())))
    # Half a level that rounds to the other side would be a hundred times as much.
    assert np.abs(found - expected).max() < 2e-6
    check_near(proto, made, others)
    held = weight_bearing(made)
    assert (held.int8, held.count) == (("cell input", "cell"), 2)


@pytest.mark.parametrize("count", [1, 5])
def test_an_lstm_follows_the_rule_of_the_runtime(count: int) -> None:
    proto, x = network("LSTM", steps=STEPS), samples(count, steps=STEPS)
    made = quantized(proto, x)
    assert np.abs(answers(made, x)[0] - integer_lstm(proto, x)).max() < 2e-6
    assert weight_bearing(made).int8 == ("cell",)


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize(("initial", "bias"), [(0.0, True), (1.5, True), (0.0, False)])
def test_an_lstm_stays_near_floats(direction: str, initial: float, bias: bool) -> None:
    proto = network(
        "LSTM", direction=direction, initial=initial, bias=bias, outputs=("y", "h", "c")
    )
    check_near(proto, quantized(proto, samples()), samples(seed=2))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("outputs", [("y",), ("h",), ("y", "h")], ids="".join)
def test_every_output_may_be_wanted_alone(
    kind: str, direction: str, outputs: tuple[str, ...]
) -> None:
    proto = network(kind, direction=direction, outputs=outputs)
    check_near(proto, quantized(proto, samples()), samples(seed=2))


def test_both_types_of_activations_give_a_gru_the_same_levels() -> None:
    """The state's levels are symmetric; those of an input from -1 to 1 nearly so."""
    proto, x = network("GRU"), samples()
    signed, unsigned = (quantized(proto, x, activation=kind) for kind in ("int8", "uint8"))
    kinds = [
        t.data_type for t in signed.graph.initializer if t.name in ("cell zero", "cell x zero")
    ]
    assert kinds == [onnx.TensorProto.INT8] * 2
    assert np.abs(answers(signed, x)[0] - answers(unsigned, x)[0]).max() < 0.02
    check_near(proto, signed, x)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize(
    ("settings", "most", "steps"),
    [({}, 127, 24), ({"reduce_range": True}, 64, 24), ({"per_channel": False}, 127, 1)],
    ids=str,
)
def test_weights_have_the_levels_and_steps_that_were_asked(
    kind: str, settings: dict[str, Any], most: int, steps: int
) -> None:
    after = {"linear_before_reset": 1} if kind == "GRU" else {}  # one product with the state
    proto = network(kind, **after)
    made = quantized(proto, samples(), **settings)
    levels = [onnx.numpy_helper.to_array(t) for t in made.graph.initializer]
    weights = [each.astype(int) for each in levels if each.dtype == np.int8 and each.any()]
    assert [np.abs(each).max() for each in weights] == [most] * 2
    told = [t for t in made.graph.initializer if t.name.endswith(" steps")]
    assert [min(steps, len(np.unique(onnx.numpy_helper.to_array(t)))) for t in told] == [steps] * 2
    exact, found = answers(proto, samples())[0], answers(made, samples())[0]
    assert np.std(found - exact) < 2 * NEAR * np.std(exact)


def test_a_gru_answers_alike_alone_and_in_a_batch() -> None:
    """Its steps are fixed. An LSTM's follow from the whole batch."""
    x = samples(5)
    made = quantized(network("GRU"), x)
    together = answers(made, x)[0]
    apart = np.concatenate([answers(made, x[:, i : i + 1])[0] for i in range(5)], axis=2)
    assert together.tobytes() == apart.tobytes()


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_the_work_stays_and_the_file_shrinks(kind: str) -> None:
    proto = network(kind, direction="bidirectional", units=160, inputs=96)
    made = load(quantized(proto, samples(inputs=96)))
    assert total_macs(made) == total_macs(load(proto))
    assert not unknown_operators(made)
    assert made.proto.ByteSize() < 0.28 * proto.ByteSize()
    assert is_quantized(made.proto)


def test_a_gru_that_reads_quantized_data_takes_its_levels() -> None:
    """The product before quantizes what it gives; quantizing it again would only cost time."""
    proto = network("GRU")
    proto.graph.node[0].input[0] = "p"
    proto.graph.node.insert(0, onnx.helper.make_node("MatMul", ["x", "M"], ["p"], name="before"))
    square = np.eye(10, dtype=np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(square, "M"))
    made = quantized(proto, samples(), activation="uint8")
    assert weight_bearing(made).int8 == ("before", "cell input", "cell")
    (first,) = (node for node in made.graph.node if node.op_type == "MatMulInteger")
    assert first.input[0] == "p_QuantizeLinear_Output"
    check_near(proto, made, samples(seed=2))
