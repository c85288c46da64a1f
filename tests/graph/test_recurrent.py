"""Which recurrent layers are computed in integers, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from recurrent_nets import STEPS, network, samples

from narrows.errors import ModelError
from narrows.graph.flow import trace
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.graph.quantized import weight_bearing
from narrows.graph.recurrent import least_hidden, recurrent_layers


def with_lengths(kind: str) -> onnx.ModelProto:
    """Sequences of STEPS steps each, told as an input of the layer."""
    proto = network(kind)
    proto.graph.node[0].input[4] = "lengths"
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["batch"]),
        helper.make_node("Expand", ["most", "batch"], ["lengths"]),
        *proto.graph.node,
    ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([STEPS], np.int32), "most"))
    return proto


def with_peepholes() -> onnx.ModelProto:
    proto = network("LSTM")
    proto.graph.node[0].input.extend(["", "", "P"])
    values = np.ones((1, 3 * 24), np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(values, "P"))
    return proto


def with_computed_weights() -> onnx.ModelProto:
    proto = network("GRU")
    proto.graph.node[0].input[2] = "computed"
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Mul", ["R", "most"], ["computed"]),
        *proto.graph.node,
    ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def vanilla() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[6, N, 10] x) => (float[6, 1, N, 4] y) {[cell] y = RNN<hidden_size = 4>(x, W, R)}"""
    proto = onnx.parser.parse_model(text)
    for name, shape in (("W", (1, 4, 10)), ("R", (1, 4, 4))):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return proto


def and_a_product(proto: onnx.ModelProto, units: int) -> onnx.ModelProto:
    """A product called "after" behind the layer."""
    proto.graph.node.append(helper.make_node("MatMul", ["y", "M"], ["z"], name="after"))
    square = numpy_helper.from_array(np.eye(units, dtype=np.float32), "M")
    proto.graph.initializer.append(square)
    proto.graph.output[0].name = "z"
    return proto


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (with_lengths("GRU"), "reads sequence_lens .'lengths'.*: give sequences of one length"),
        (with_lengths("LSTM"), "reads sequence_lens"),
        (with_peepholes(), "peepholes"),
        (with_computed_weights(), "its R .'computed'. is computed and not stored"),
        (network("GRU", clip=3.0), "clips what it activates .clip = 3"),
        (network("LSTM", clip=3.0), "clips"),
        (network("LSTM", input_forget=1), "input and forget gates are coupled"),
        (network("GRU", activations=["HardSigmoid", "Tanh"]), "activations are HardSigmoid, Tanh"),
        (network("LSTM", activations=["Sigmoid", "Relu", "Tanh"]), "activations are Sigmoid, Relu"),
        (vanilla(), "no integer form of this operator"),
    ],
    ids=lambda given: given[:20] if isinstance(given, str) else "",
)
def test_what_has_no_integer_form_is_told_and_stays(proto: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(
        ModelError, match=rf"nothing with weights is left.*floating point.*{reason}"
    ):
        quantize_static(proto, [samples()], recurrent="all")
    and_a_product(proto, load(proto).outputs[0].shape[-1])
    made = quantize_static(proto, [samples()], recurrent="all")
    held = weight_bearing(made)
    assert (held.int8, held.floating) == (("after",), ("cell",))


def test_the_usual_activations_may_be_told() -> None:
    told = network("GRU", direction="bidirectional", activations=["sigmoid", "Tanh"] * 2)
    assert weight_bearing(quantize_static(told, [samples()], recurrent="all")).floating == ()


def test_a_batch_first_layer_is_refused_though_the_runtime_does_so_too() -> None:
    model = load(network("GRU"))
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    (layer,) = recurrent_layers(replace(model, proto=proto, flow=trace(proto.graph)))
    assert layer.reason == "its layout is 1, batch first: export it with layout 0"


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("steps", [2, 20])
def test_small_layers_stay_in_float_unless_asked(kind: str, steps: int) -> None:
    least = least_hidden(kind, inputs=40, steps=steps)
    for units, taken in ((least - 1, False), (least, True)):
        proto = network(kind, units=units, inputs=40, steps=steps)
        (layer,) = recurrent_layers(load(proto))
        assert (layer.kind, layer.hidden_size, layer.reason == "") == (kind, units, taken)
        given = samples(2, inputs=40, steps=steps)
        if taken:
            assert "cell" in weight_bearing(quantize_static(proto, [given])).int8
            continue
        told = (
            rf"cell .{kind}. stays.*{units} units over 40 inputs; below {least} integers are slower"
        )
        with pytest.raises(ModelError, match=told):
            quantize_static(proto, [given])
        made = quantize_static(proto, [given], recurrent="all")
        assert "cell" in weight_bearing(made).int8


def test_larger_inputs_and_longer_sequences_ask_for_fewer_units() -> None:
    for kind in ("GRU", "LSTM"):
        sizes = [least_hidden(kind, inputs=inputs, steps=20) for inputs in (1, 100, 1000, 10000)]
        assert sizes == sorted(sizes, reverse=True)
        assert least_hidden(kind, inputs=100, steps=2) > sizes[1]
    assert least_hidden("GRU", inputs=512, steps=32) < 512


@pytest.mark.parametrize("exclude", [["cell"], ["GRU"], ["first"]], ids=str)
def test_what_is_excluded_stays(exclude: list[str]) -> None:
    proto = and_a_product(network("GRU"), 24)
    held = weight_bearing(quantize_static(proto, [samples()], recurrent="all", exclude=exclude))
    assert (held.int8, held.floating) == (("after",), ("cell",))
    held = weight_bearing(quantize_static(proto, [samples()], recurrent="all", exclude=["after"]))
    assert (held.int8, held.floating) == (("cell input", "cell"), ("after",))
