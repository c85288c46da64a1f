from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from narrows.errors import InputError, MeasureError, ModelError
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.backends import BACKENDS, backend_of
from narrows.measure.backends.base import Input
from narrows.measure.backends.feeds import random_feeds
from narrows.measure.graph_builder import Builder
from narrows.measure.worker import About
from narrows.zoo import sources
from narrows.zoo.eager import eager_command, open_eager

RNG = np.random.default_rng(5)
WEIGHT = RNG.standard_normal((6, 12)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)


def convolutional() -> onnx.ModelProto:
    graph = Builder(shape=(3, 16, 16), rng=np.random.default_rng(0))
    weight = graph.weight(16, 3, 3, 3)
    value = graph.op("Relu", graph.op("Conv", "x", weight, kernel_shape=[3, 3], pads=[1] * 4))
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", value))
    return graph.model(graph.op("Gemm", flat, graph.weight(16, 6)))


def gathering() -> onnx.ModelProto:
    """Flattened with indices from the input's shape, as torch writes it for channels last."""
    rng = np.random.default_rng(0)
    graph = Builder(shape=(3, 16, 16), rng=rng)
    value = "x"
    for given, made in ((3, 16), (16, 32)):
        weight = graph.weight(made, given, 3, 3)
        bias = graph.constant(rng.standard_normal(made, np.float32))
        value = graph.op("Conv", value, weight, bias, kernel_shape=[3, 3], pads=[1] * 4)
        value = graph.op("Relu", value)
    pooled = graph.op("ReduceMean", value, graph.constant([-1, -2]), keepdims=1)
    batch = graph.op("Squeeze", graph.op("Shape", "x", start=0, end=1))
    samples = graph.op("Range", graph.constant(0), batch, graph.constant(1))
    starts = graph.op("Mul", samples, graph.constant(32))
    starts = graph.op("Unsqueeze", starts, graph.constant([1, 2, 3]))
    places = graph.op("Add", starts, graph.constant(np.arange(32).reshape(1, 32, 1, 1)))
    flat = graph.op("Gather", graph.op("Reshape", pooled, graph.constant([-1])), places)
    flat = graph.op("Reshape", flat, graph.constant([-1, 32]))
    return graph.model(graph.op("Gemm", flat, graph.weight(32, 6)))


def dense() -> onnx.ModelProto:
    """relu(x @ WEIGHT.T + BIAS), as `lite_dense` is."""
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        net (float[N, 12] x) => (float[N, 6] y) { h = Gemm <transB = 1> (x, w, b) y = Relu (h) }"""
    )
    for name, value in (("w", WEIGHT), ("b", BIAS)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return proto


def lite_dense() -> bytes:
    """The same network as a .tflite file, made by LiteRT's own schema."""
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = pytest.importorskip("flatbuffers")
    contents = [b"", WEIGHT.tobytes(), BIAS.tobytes()]
    buffers = [schema.BufferT(data=np.frombuffer(data, np.uint8)) for data in contents]
    shapes = {"x": ((1, 12), 0), "w": ((6, 12), 1), "b": ((6,), 2), "y": ((1, 6), 0)}
    tensors = [
        schema.TensorT(name=name.encode(), shape=list(shape), type=0, buffer=place)
        for name, (shape, place) in shapes.items()
    ]
    for tensor in (tensors[0], tensors[3]):
        tensor.shapeSignature = [-1, tensor.shape[1]]
    activation = schema.ActivationFunctionType.RELU
    operator = schema.OperatorT(
        opcodeIndex=0,
        inputs=[0, 1, 2],
        outputs=[3],
        builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
        builtinOptions=schema.FullyConnectedOptionsT(fusedActivationFunction=activation),
    )
    graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[3], operators=[operator])
    code = schema.OperatorCodeT(
        builtinCode=schema.BuiltinOperator.FULLY_CONNECTED,
        deprecatedBuiltinCode=schema.BuiltinOperator.FULLY_CONNECTED,
        version=1,
    )
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def int8(folder: Path, *, activation: Literal["uint8", "int8"] = "uint8") -> Path:
    """The convolutional network with its convolution in int8 and its Gemm in float."""
    samples = [RNG.standard_normal((4, 3, 16, 16)).astype(np.float32) for _ in range(2)]
    proto = quantize_static(convolutional(), samples, exclude=["Gemm"], activation=activation)
    onnx.save(proto, folder / "int8.onnx")
    return folder / "int8.onnx"


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def save(proto: onnx.ModelProto) -> Path:
        onnx.save(proto, tmp_path / "net.onnx")
        return tmp_path / "net.onnx"

    return save


@pytest.mark.parametrize("make", [convolutional, dense])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_outputs_agree_with_the_reference(
    name: str, make: Callable[[], onnx.ModelProto], saved: Callable[[onnx.ModelProto], Path]
) -> None:
    proto = make()
    backend = backend_of(name)
    backend.check()
    loaded = backend.load(saved(proto), threads=1)
    assert [given.shape[0] for given in loaded.inputs] == [None]
    feeds = random_feeds(loaded.inputs, batch=3)
    wanted = ReferenceEvaluator(proto).run(None, feeds)
    found = loaded.run(feeds)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)
    assert found[0] is not loaded.run(feeds)[0]  # a later call does not change what was given
    assert loaded.precision() == "f32"


def test_litert_agrees_with_onnx_runtime(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(lite_dense())
    onnx.save(dense(), tmp_path / "net.onnx")
    reference = backend_of("onnxruntime").load(tmp_path / "net.onnx", threads=1)
    for name in ("litert", "openvino"):
        backend_of(name).check_file(tmp_path / "net.tflite")
        loaded = backend_of(name).load(tmp_path / "net.tflite", threads=1)
        assert loaded.inputs == (Input(name="x", shape=(None, 12), dtype="float32"),)
        for batch in (1, 3):
            feeds = random_feeds(loaded.inputs, batch=batch)
            found, wanted = loaded.run(feeds)[0], reference.run(feeds)[0]
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert loaded.precision() == "f32"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_really_ran_in_int8_is_told(name: str, tmp_path: Path) -> None:
    loaded = backend_of(name).load(int8(tmp_path), threads=1)
    feeds = random_feeds(loaded.inputs)
    loaded.run(feeds)
    assert loaded.precision() == "mixed: 1 of 2 i8"


def test_int8_that_really_runs_in_float_is_told(tmp_path: Path) -> None:
    """OpenVINO multiplies no signed activations with a zero point in int8."""
    path = int8(tmp_path, activation="int8")
    assert backend_of("openvino").load(path, threads=1).precision() == "f32"


def test_int8_networks_with_a_gathered_flatten_agree(tmp_path: Path) -> None:
    """Compiled with an open batch OpenVINO 2026.4 is wrong by a third of the largest output."""
    samples = [RNG.standard_normal((8, 3, 16, 16)).astype(np.float32) for _ in range(4)]
    onnx.save(quantize_static(gathering(), samples, activation="uint8"), tmp_path / "net.onnx")
    one, other = (
        backend_of(name).load(tmp_path / "net.onnx", threads=1)
        for name in ("onnxruntime", "openvino")
    )
    for batch in (1, 3):
        feeds = {"x": samples[0][:batch]}
        wanted = one.run(feeds)[0]
        np.testing.assert_allclose(other.run(feeds)[0], wanted, atol=0.02 * np.abs(wanted).max())


def test_arithmetic_that_was_float_in_the_file_is_so_or_told(tmp_path: Path) -> None:
    """With weights alone in 8 bits ONNX Runtime rounds the data of products; OpenVINO is kept."""
    graph = Builder(shape=(512,), rng=np.random.default_rng(0))
    value = graph.op("Gemm", "x", graph.weight(512, 512))
    proto = quantize_weights(graph.model(graph.op("Gemm", value, graph.weight(512, 64))))
    onnx.save(proto, tmp_path / "weights8.onnx")
    for name in ("onnxruntime", "openvino"):
        loaded = backend_of(name).load(tmp_path / "weights8.onnx", threads=1)
        feeds = random_feeds(loaded.inputs)
        wanted = run(session(proto, optimise=False), feeds)[0]
        error = np.abs(loaded.run(feeds)[0] - wanted).max() / np.abs(wanted).max()
        assert (error < 1e-4) == (loaded.precision() == "f32")
        assert name == "onnxruntime" or loaded.precision() == "f32"


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_file_that_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    backend = backend_of(name)
    for suffix in backend.suffixes:
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(b"\x08garbage")
        with pytest.raises(ModelError, match="does not take the file"):
            backend.load(path, threads=1)
    (tmp_path / "net.txt").write_text("")
    with pytest.raises(MeasureError, match=f"{name} does not read"):
        backend.check_file(tmp_path / "net.txt")


def test_the_version_of_every_runtime_is_known() -> None:
    for backend in BACKENDS.values():
        assert backend.version()[0].isdigit()


def test_eager_torch_is_a_worker_of_its_own() -> None:
    with open_eager("timm:lcnet_035?pretrained=0&size=32", threads=1, batch=2) as worker:
        assert worker.about == About(precision="f32", inputs={"input": (2, 3, 32, 32)})
        assert len(worker.call(min_calls=3, seconds=0)[0]) == 3
    assert eager_command("timm:x", 2)[-3:] == ("2", "--batch", "1")
    with pytest.raises(InputError, match="names no torch network"):
        sources.network("net.onnx")
