"""A fused head gives the codec's symbols, and a fused tail what the tail gives for them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from narrows.coding import Codec
from narrows.coding.coders import Raw
from narrows.coding.quantizers import Affine, Uniform
from narrows.coding.transforms import BlockedPCA, Identity, SeparableKLT
from narrows.coding.transforms.blocked_pca import MomentMatcher
from narrows.errors import CodecError, ModelError
from narrows.graph import find_cuts, load
from narrows.graph.cuts import find
from narrows.graph.fuse import fuse_head, fuse_tail
from narrows.graph.ort import run, session
from narrows.graph.split import split


def model_of(nodes, shape, weights=(), opset=17):
    """A model x -> ... -> y whose interesting tensor is 'feature'."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return load(proto)


def conv_model(channels, size, opset=17):
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(channels, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["feature"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["feature"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    return model_of(nodes, ["N", 3, *size], [("w", weight)], opset)


def channels_last_model():
    nodes = [
        helper.make_node("Transpose", ["x"], ["feature"], perm=[0, 2, 3, 1]),
        helper.make_node("Tanh", ["feature"], ["t"]),
        helper.make_node("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0),
    ]
    return model_of(nodes, ["N", 6, 5, 5])


def recurrent_model():
    rng = np.random.default_rng(4)
    weights = [
        ("w", rng.normal(size=(1, 32, 6)).astype(np.float32)),
        ("r", rng.normal(size=(1, 32, 8)).astype(np.float32) / 3),
        ("v", rng.normal(size=(8, 5)).astype(np.float32)),
        ("direction", np.array([1], np.int64)),
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["all"], hidden_size=8),
        helper.make_node("Squeeze", ["all", "direction"], ["feature"]),
        helper.make_node("MatMul", ["feature", "v"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["y"], axes=[0], keepdims=0),
    ]
    return model_of(nodes, ["N", 11, 6], weights)


def vector_model():
    rng = np.random.default_rng(5)
    weights = [(n, rng.normal(size=(12, 12)).astype(np.float32)) for n in ("a", "b")]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["feature"]),
        helper.make_node("Tanh", ["feature"], ["t"]),
        helper.make_node("MatMul", ["t", "b"], ["y"]),
    ]
    return model_of(nodes, ["N", 12], weights)


def quantized_model():
    scale, zero = np.float32(0.02), np.int8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["feature"]),
        helper.make_node("DequantizeLinear", ["feature", "s", "z"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    return model_of(nodes, ["N", 4, 6, 6], [("s", scale), ("z", zero)])


CASES = {
    "even map": (conv_model(8, (6, 4)), BlockedPCA(block=2)),
    "odd map": (conv_model(5, (7, 5)), BlockedPCA(block=2)),
    "one position a block": (conv_model(8, (5, 5)), BlockedPCA(block=1)),
    "large blocks": (conv_model(4, (7, 7)), BlockedPCA(block=3)),
    "groups of channels": (conv_model(8, (6, 6)), BlockedPCA(block=2, max_dimension=16)),
    "new operator set": (conv_model(8, (6, 4), opset=20), BlockedPCA(block=2)),
    "channels last": (channels_last_model(), BlockedPCA(block=2, channels_last=True)),
    "recurrent": (recurrent_model(), BlockedPCA(block=1, channels_last=True)),
    "recurrent over time": (recurrent_model(), BlockedPCA(block=2)),
    "vector": (vector_model(), BlockedPCA()),
    "vector in groups": (vector_model(), BlockedPCA(max_dimension=4)),
    "8-bit map": (quantized_model(), BlockedPCA(block=2)),
    "separable, one block": (conv_model(8, (7, 7)), SeparableKLT(block=7)),
    "separable, blocks": (conv_model(5, (6, 6), opset=20), SeparableKLT(block=3)),
    "separable, padded": (conv_model(5, (7, 5)), SeparableKLT(block=4)),
    "separable, channels last": (channels_last_model(), SeparableKLT(block=5, channels_last=True)),
    "separable, recurrent": (recurrent_model(), SeparableKLT(block=4, channels_last=True)),
    "separable, over time": (recurrent_model(), SeparableKLT(block=8)),
}


def fitted(model, transform, shift=0.0):
    cut = find(find_cuts(model), "feature")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, *model.input.shape)).astype(np.float32)
    features = run(session(model.proto, outputs=["feature"]), {"x": x}, ["feature"])[0]
    features = np.ascontiguousarray(np.moveaxis(features, cut.batch_axis, 0), np.float32)
    step = float(features.std()) / 2
    quantizer = Uniform(step=step, threshold=0.6, shift=shift)
    codec = Codec(transform=transform, quantizer=quantizer, coder=Raw()).fit(features)
    matcher = MomentMatcher(codec.transform_table)
    restored = np.stack([codec.restored(codec.symbols(f)) for f in features])
    matcher.add(restored, channels_last=transform.channels_last)
    codec.transform_table.update(matcher.matched())
    return cut, codec, x, features


def shortened(codec, kept):
    """The codec with only the first components."""
    table = dict(codec.transform_table)
    for name in ("basis", "weight", "variance"):
        if name in table:
            table[name] = table[name][:, :kept]
    return replace(codec, transform_table=table)


@pytest.mark.parametrize("name", CASES)
def test_fused_halves_do_what_the_codec_does(name):
    model, transform = CASES[name]
    cut, codec, x, features = fitted(model, transform)
    parts = split(model, cut)
    symbols, check = run(session(fuse_head(parts.head, cut, codec)), {"x": x})
    expected = np.stack([codec.symbols(f) for f in features])
    assert symbols.dtype == np.int32
    assert symbols.shape == expected.shape
    assert np.mean(symbols != expected) < 1e-3  # a component on a threshold may round the other way
    assert np.abs(symbols - expected).max() <= 1
    assert len(np.unique(symbols)) > 4
    y = codec.codec.transform.forward(features, codec.transform_table)
    sums = np.abs(y).reshape(len(y), -1).sum(1) / codec.quantizer_table["step"]
    assert check.shape == (40,)
    np.testing.assert_allclose(check, sums, rtol=1e-4)

    restored = np.stack([codec.restored(s) for s in symbols])
    if cut.dtype != "float32":
        restored = np.clip(np.rint(restored), -128, 127)
    feed = np.moveaxis(restored, 0, cut.batch_axis).astype(cut.dtype)
    wanted = run(session(parts.tail), {"feature": np.ascontiguousarray(feed)})[0]
    found = run(session(fuse_tail(parts.tail, cut, codec)), {"symbols": symbols})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    whole = run(session(model.proto), {"x": x})[0]
    assert not np.array_equal(found, whole)
    assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("transform", [BlockedPCA(block=2), SeparableKLT(block=3)])
def test_components_that_were_cut_off_are_zero(transform):
    model, _ = CASES["separable, blocks"]
    cut, whole, x, _ = fitted(model, transform)
    codec = shortened(whole, 9)
    parts = split(model, cut)
    symbols, _ = run(session(fuse_head(parts.head, cut, codec)), {"x": x})
    assert symbols.shape[1] == 9
    everything, _ = run(session(fuse_head(parts.head, cut, whole)), {"x": x})
    assert np.array_equal(symbols, everything[:, :9])
    everything[:, 9:] = 0
    found = run(session(fuse_tail(parts.tail, cut, codec)), {"symbols": symbols})[0]
    wanted = run(session(fuse_tail(parts.tail, cut, whole)), {"symbols": everything})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_parts_given_are_not_changed():
    model, transform = CASES["odd map"]
    cut, codec, _, _ = fitted(model, transform)
    parts = split(model, cut)
    before = parts.head.SerializeToString(), parts.tail.SerializeToString()
    fuse_head(parts.head, cut, codec)
    fuse_tail(parts.tail, cut, codec)
    assert before == (parts.head.SerializeToString(), parts.tail.SerializeToString())
    onnx.checker.check_model(fuse_head(parts.head, cut, codec), full_check=True)
    onnx.checker.check_model(fuse_tail(parts.tail, cut, codec), full_check=True)


def test_shifted_reconstruction_points_are_fused():
    model, transform = CASES["even map"]
    cut, codec, x, _ = fitted(model, transform, shift=0.2)
    parts = split(model, cut)
    symbols, _ = run(session(fuse_head(parts.head, cut, codec)), {"x": x})
    restored = np.stack([codec.restored(s) for s in symbols])
    wanted = run(session(parts.tail), {"feature": restored})[0]
    found = run(session(fuse_tail(parts.tail, cut, codec)), {"symbols": symbols})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_check_tells_of_a_feature_that_is_not_finite(bad):
    model, transform = CASES["odd map"]
    cut, codec, x, _ = fitted(model, transform)
    x[1, 0, 2, 2] = bad
    _, check = run(session(fuse_head(split(model, cut).head, cut, codec)), {"x": x})
    assert not np.isfinite(check[1])
    assert np.isfinite(check[0])


def test_a_codec_for_another_shape_or_kind_is_refused():
    model, transform = CASES["even map"]
    cut, codec, _, features = fitted(model, transform)
    other, _ = CASES["odd map"]
    place = find(find_cuts(other), "feature")
    with pytest.raises(CodecError, match="fit it to this cut"):
        fuse_head(split(other, place).head, place, codec)
    plain = Codec(transform=Identity(), quantizer=Affine(), coder=Raw()).fit(features)
    with pytest.raises(CodecError, match="cannot be put into a graph"):
        fuse_tail(split(model, cut).tail, cut, plain)


def test_taken_names_are_refused():
    model, transform = CASES["even map"]
    cut, codec, _, _ = fitted(model, transform)
    head = split(model, cut).head
    head.graph.node[0].input[0] = "symbols"
    head.graph.input[0].name = "symbols"
    with pytest.raises(ModelError, match="rename"):
        fuse_head(head, cut, codec)
