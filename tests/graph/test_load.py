from pathlib import Path

import handmade
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from narrows.errors import ModelError
from narrows.graph import find_cuts, load, run, session


def test_file_bytes_and_proto_give_the_same_model(tmp_path: Path):
    proto = handmade.residual()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    from_file, from_memory = load(path), load(proto)
    assert from_file.digest == from_memory.digest == load(str(path)).digest
    assert len(from_file.digest) == 64
    assert load(handmade.sequential()).digest != from_file.digest


def test_source_is_not_changed():
    proto = handmade.shape_chain()
    before = proto.SerializeToString(deterministic=True)
    load(proto)
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", handmade.ALL)
def test_loaded_model_is_valid_and_declares_every_shape(name):
    model = load(handmade.ALL[name]())
    onnx.checker.check_model(model.proto, full_check=True)
    declared = {value.name for value in (*model.proto.graph.value_info, *model.proto.graph.output)}
    assert declared | {model.input.name} == set(model.tensors)
    x = handmade.samples(model, 5)
    names = [n for n in model.tensors if n != model.input.name]
    found = run(session(model.proto, outputs=names, optimise=False), {model.input.name: x})
    for tensor, value in zip(names, found, strict=True):
        assert model.tensors[tensor].at(5) == value.shape
        assert np.dtype(model.tensors[tensor].dtype) == value.dtype


def test_loading_twice_is_the_same():
    model = load(handmade.lstm())
    assert load(model.proto).digest == model.digest


@pytest.mark.parametrize(
    ("declared", "axis", "sample"),
    [(["N", 7, 3], 0, (7, 3)), ([7, "N", 3], 1, (7, 3)), ([1, 7, 3], 0, (7, 3))],
)
def test_batch_axis_of_the_input(declared, axis, sample):
    proto = handmade.build("g (float[N, 7, 3] x) => (float[] y) {y = Relu(x)}")
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, declared))
    model = load(proto)
    assert (model.input.batch_axis, model.input.shape) == (axis, sample)
    assert model.outputs[0].batch_axis == axis
    assert model.proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param == "N"


def test_open_axes_need_the_shape_of_a_sample():
    proto = handmade.build("g (float[N, C, T] x) => (float[] y) {y = Relu(x)}")
    with pytest.raises(ModelError, match=r"leaves axes \[0, 1, 2\] open: give the shape"):
        load(proto)
    assert load(proto, input_shape=(4, 9)).outputs[0].shape == (4, 9)
    with pytest.raises(ModelError, match="has 3 axes"):
        load(proto, input_shape=(4,))
    with pytest.raises(ModelError, match="positive"):
        load(proto, input_shape=(4, 0))


def test_shape_of_a_sample_must_agree_with_the_model():
    proto = handmade.build("g (float[N, 3, 8, W] x) => (float[] y) {y = Relu(x)}")
    assert load(proto, input_shape=(3, 8, 5)).input.at(2) == (2, 3, 8, 5)
    with pytest.raises(ModelError, match=r"\[0, 3, 8, 0\] \(0: open\); a sample \(3, 9, 5\)"):
        load(proto, input_shape=(3, 9, 5))
    series = handmade.build("g (float[1, T, 6] x) => (float[] y) {y = Relu(x)}")
    assert load(series).input.batch_axis == 1
    model = load(series, input_shape=(20, 6))
    assert (model.input.batch_axis, model.input.shape) == (0, (20, 6))


def test_fixed_batch_is_opened_where_reshapes_hold_it():
    fixed = handmade.build(
        """g (float[1, 3, 8, 8] x) => (float[1, 5] y) {
        a = Conv(x, w1)
        b = Reshape(a, whole)
        c = Relu(b)
        d = Reshape(c, rest)
        y = MatMul(d, w2)
        }""",
        whole=np.array([1, 4, 36]),
        rest=np.array([1, -1]),
        w1=(4, 3, 3, 3),
        w2=(144, 5),
    )
    model = load(fixed)
    x = handmade.samples(model)
    (found,) = run(session(model.proto), {"x": x})
    original = session(fixed)
    for sample in range(3):
        (alone,) = run(original, {"x": x[sample : sample + 1]})
        np.testing.assert_allclose(found[sample : sample + 1], alone, rtol=1e-5, atol=1e-5)
    assert [cut.tensor for cut in find_cuts(model)] == ["x", "a", "b", "c", "d", "y"]


def test_fixed_batch_that_cannot_be_opened_says_so():
    text = "g (float[1, 4] x) => (float[1, 4] y) {t = Concat<axis = 1>(x, k) y = MatMul(t, w)}"
    with pytest.raises(ModelError, match="export it with a symbolic batch"):
        load(handmade.build(text, k=(1, 2), w=(6, 4)))
    mixing = "g (float[1, 4] x) => (float[1, 4] y) {m = ReduceMax<axes = [0]>(x) y = Sub(x, m)}"
    with pytest.raises(ModelError, match="mixes the samples"):
        load(handmade.build(mixing))
    with pytest.raises(ModelError, match="mixes the samples"):
        load(handmade.build(mixing.replace("float", "int32")))
    # Opened, the Reshape keeps the six rows, and what follows sums over other numbers.
    turned = """g (float[1, 6] x) => (float[1, 6] y) {
    t = Transpose<perm = [1, 0]>(x) r = Reshape(t, row) y = ReduceMean<axes = [0]>(r)}"""
    with pytest.raises(ModelError, match="other answers"):
        load(handmade.build(turned, row=np.array([1, -1])))


def test_functions_constants_and_dead_nodes_are_resolved():
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 17, "mine" : 1]>
        g (float[N, 4] x) => (float[N, 4] y) {
        dead = Exp(x)
        k = Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>()
        y = mine.scaled(x, k)
        }
        <domain: "mine", opset_import: ["" : 17]>
        scaled (a, b) => (c) {t = Mul(a, b) c = Tanh(t)}"""
    )
    model = load(proto)
    assert [node.op_type for node in model.proto.graph.node] == ["Mul", "Tanh"]
    assert [tensor.name for tensor in model.proto.graph.initializer] == ["k"]
    assert all(node.name for node in model.proto.graph.node)
    assert len(find_cuts(model)) == 3


def test_two_inputs_and_none():
    text = "g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) {y = Add(x, z)}"
    with pytest.raises(ModelError, match=r"2 data inputs \('x', 'z'\)"):
        load(handmade.build(text))
    with pytest.raises(ModelError, match="0 data inputs"):
        load(handmade.build("g () => (float[4] y) {y = Identity(w)}", w=(4,)))


def test_old_style_weights_among_the_inputs_are_no_inputs():
    proto = handmade.build(
        "g (float[N, 4] x, float[4, 2] w) => (float[N, 2] y) {y = MatMul(x, w)}", w=(4, 2)
    )
    assert load(proto).input.name == "x"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad):
    proto = handmade.residual()
    values = numpy_helper.to_array(proto.graph.initializer[1]).copy()
    values[0, 0, 1, 1] = bad
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(values, "w2"))
    with pytest.raises(ModelError, match="1 of 144 values of 'w2' are NaN or infinite"):
        load(proto)


def test_infinite_mask_is_allowed_but_not_nan():
    text = "g (float[N, 3] x) => (float[N, 3] y) {a = Add(x, mask) y = Softmax(a)}"
    assert load(handmade.build(text, mask=np.float32([0, -np.inf, 0])))
    with pytest.raises(ModelError, match="'mask'"):
        load(handmade.build(text, mask=np.float32([0, np.nan, 0])))


def test_output_that_cannot_be_answered_per_sample():
    with pytest.raises(ModelError, match="one axis must hold one entry per sample"):
        load(handmade.build("g (float[N, 3] x) => (float[] y) {y = ReduceSum(x)}"))
    with pytest.raises(ModelError, match="post-processing"):
        load(handmade.build("g (float[N, 3] x) => (int64[] y) {y = NonZero(x)}"))
    with pytest.raises(ModelError, match="no output depends on the input"):
        load(handmade.build("g (float[N, 3] x) => (int64[2] y) {y = Shape(x)}"))


def test_text_is_no_output():
    text = """g (float[N, 3] x) => (string[N] l, float[N, 3] y) {
    y = Tanh(x) a = ArgMax<axis = 1, keepdims = 0>(y)
    l = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1, 2], values_strings = ["a", "b", "c"]>(a)}"""
    proto = handmade.build(text)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    with pytest.raises(ModelError, match="output 'l' holds text"):
        load(proto)


def test_value_whose_shape_depends_on_numbers_is_refused_as_a_cut():
    text = """g (float[N, 3] x) => (float[N, 3] y) {
    i = NonZero(x)
    c = Shape(i)
    f = Cast<to = 1>(c)
    m = ReduceMax<keepdims = 0>(f)
    y = Mul(x, m)
    }"""
    model = load(handmade.build(text))
    assert [cut.tensor for cut in find_cuts(model)] == ["x", "y"]


def test_runtime_failures_are_model_errors():
    proto = handmade.build("g (float[N, 3] x) => (float[N, 3] y) {y = Relu(x)}")
    model = load(proto)
    with pytest.raises(ModelError, match=r"failed on x \(2, 5\)"):
        run(session(model.proto), {"x": np.zeros((2, 5), np.float32)})
    proto.graph.node[0].op_type = "Whirl"
    with pytest.raises(ModelError, match="does not take the model"):
        session(proto)
    with pytest.raises(ModelError, match="does not take the model"):
        session(b"rubbish")
    for source in (b"\x00rubbish", "none.onnx"):
        with pytest.raises(ModelError, match="cannot be read"):
            session(source, outputs=["y"])
