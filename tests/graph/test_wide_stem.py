from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from quantize_nets import give, network, outputs, samples

from narrows.graph.cuts import find_cuts
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.graph.quantized import weight_bearing
from narrows.graph.wide_stem import with_wide_stems
from narrows.measure.execution import execution
from narrows.plan.halves import int8_halves


def stem(
    *,
    channels: int = 3,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (2, 2),
    pads: Sequence[int] = (1, 1, 1, 1),
    size: tuple[int, int] = (16, 16),
    activation: str = "Relu",
) -> onnx.ModelProto:
    """A convolution with bias of 8 channels, and what follows it."""
    high = (size[0] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
    wide = (size[1] + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, {channels}, {size[0]}, {size[1]}] x) => (float[N, 8, {high}, {wide}] y) {{
      [stem] c = Conv<strides={list(strides)}, pads={list(pads)}>(x, w, b)
      [act] y = {activation}(c)
    }}""")
    rng = np.random.default_rng(0)
    give(proto, "w", rng.normal(size=(8, channels, *kernel)))
    give(proto, "b", rng.normal(size=8))
    return proto


WIDENED = [
    {},
    {"pads": (0, 0, 1, 1), "activation": "Sigmoid"},
    {"kernel": (7, 7), "pads": (3, 3, 3, 3)},
    {"kernel": (5, 5), "pads": (2, 2, 2, 2), "strides": (1, 2)},
    {"kernel": (4, 4), "strides": (4, 4), "pads": (0, 0, 0, 0)},
    {"channels": 1, "strides": (3, 2)},
    {"channels": 2, "pads": (0, 1, 2, 0)},
]
LEFT = [
    {"channels": 4},
    {"strides": (2, 1)},
    {"strides": (2, 3)},
    {"size": (16, 18)},
    {"kernel": (1, 1), "pads": (0, 0, 0, 0)},
]


def inputs(proto: onnx.ModelProto, count: int = 3) -> np.ndarray:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("given", WIDENED)
def test_a_widened_stem_computes_the_same(given: dict) -> None:
    proto = stem(**given)
    made = with_wide_stems(load(proto))
    assert len(made.graph.node) == 8
    conv = next(node for node in made.graph.node if node.op_type == "Conv")
    weights = next(t for t in made.graph.initializer if t.name == conv.input[1])
    assert conv.name == "stem"
    assert list(conv.output) == ["c wide"]  # no name of the original has another shape
    assert weights.dims[1] % 4 == 0
    x = inputs(proto)
    np.testing.assert_allclose(outputs(made, x), outputs(proto, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", LEFT)
def test_what_would_not_fit_or_pay_is_left(given: dict) -> None:
    made = with_wide_stems(load(stem(**given)))
    assert [node.name for node in made.graph.node] == ["stem", "act"]


def test_what_is_left_out_stays() -> None:
    assert len(with_wide_stems(load(stem()), ["stem"]).graph.node) == 2


def test_the_integers_are_those_of_the_narrow_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(8, seed=3)
    wide = quantize_static(network(), [samples()], activation="uint8")
    monkeypatch.setattr("narrows.graph.quantize.with_wide_stems", lambda model, _: model.proto)
    narrow = quantize_static(network(), [samples()], activation="uint8")
    assert len(narrow.graph.node) < len(wide.graph.node)
    assert weight_bearing(wide).int8 == weight_bearing(narrow).int8
    # Ranges may differ in the last digit, as sums of float32 do with their order.
    found, expected = outputs(wide, x), outputs(narrow, x)
    assert np.std(found - expected) < 0.005 * np.std(expected)


def test_an_excluded_stem_and_one_for_other_kernels_stay_narrow() -> None:
    for made in (
        quantize_static(network(), [samples()], activation="uint8", exclude=["stem"]),
        quantize_static(network(), [samples()], activation="int8"),
    ):
        assert not any(node.op_type == "Reshape" for node in made.graph.node)


def test_more_channels_than_before_are_not_said_to_be_removed() -> None:
    made = load(quantize_static(network(), [samples()], activation="uint8"))
    assert "removed" not in execution(made, original=load(network())).text


def test_a_plan_may_cut_behind_a_widened_stem() -> None:
    proto = stem()
    proto.graph.output[0].name = "z"
    proto.graph.node.append(onnx.helper.make_node("Conv", ["y", "v"], ["z"], name="next"))
    give(proto, "v", np.random.default_rng(2).normal(size=(8, 8, 1, 1)))
    original = load(proto)
    made = load(quantize_static(proto, [inputs(proto)], activation="uint8"))
    cuts = tuple(find_cuts(original))
    behind = next(cut for cut in cuts if cut.tensor == "y")
    assert behind.index in int8_halves(original, cuts, made).heads
