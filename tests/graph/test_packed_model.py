"""ONNX models in packed files: the same graph comes back, and runs the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.coding.quantizers import Scaled
from narrows.errors import CodecError, CorruptData, ModelError
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.graph.packed_model import pack_model, unpack_model
from narrows.graph.quantize import quantize_static
from narrows.packed import Grid, PackedFile, pack
from narrows.zoo.export import export
from narrows.zoo.lenet import lenet5


@pytest.fixture(scope="module")
def lenet() -> onnx.ModelProto:
    return export(lenet5(), (1, 28, 28), name="lenet5")


def same_answers(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    x = np.random.default_rng(0).normal(size=(3, 1, 28, 28)).astype(np.float32)
    found = [run(session(proto), {"input": x})[0] for proto in (one, other)]
    return np.array_equal(*found)


def test_a_model_comes_back_and_answers_the_same(lenet: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "lenet.narrows"
    path.write_bytes(pack_model(lenet))
    found = unpack_model(path)
    assert same_answers(lenet, found)
    before = {t.name: numpy_helper.to_array(t) for t in lenet.graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in found.graph.initializer}
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert found.graph.node == lenet.graph.node
    assert load(found).outputs[0].shape == (10,)


def test_an_int8_model_takes_less_than_its_own_bytes(lenet: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 28, 28)).astype(np.float32)
    quantized = quantize_static(load(lenet), [x])
    data = pack_model(quantized)
    assert len(data) < 0.99 * quantized.ByteSize()
    assert same_answers(quantized, unpack_model(data))


def test_what_does_not_belong_to_a_model_is_refused(lenet: onnx.ModelProto) -> None:
    name = next(t.name for t in lenet.graph.initializer if len(t.dims) == 4)
    shape = next(tuple(t.dims) for t in lenet.graph.initializer if t.name == name)
    quantizer = Scaled(step=0.1)
    grid = Grid(quantizer=quantizer, table=quantizer.fitter(shape).table())
    with pytest.raises(CodecError, match="does not lie on"):
        pack_model(lenet, grids={name: grid})
    with pytest.raises(ModelError, match="nowhere"):
        pack_model(lenet, grids={"nowhere": grid})
    with pytest.raises(CorruptData, match="holds tensors, no ONNX model"):
        unpack_model(pack({"w": np.zeros(4)}))
    outside = onnx.ModelProto()
    outside.CopyFrom(lenet)
    outside.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="files beside it"):
        pack_model(outside)


def test_a_graph_of_other_tensors_is_refused(lenet: onnx.ModelProto) -> None:
    file = PackedFile.open(pack_model(lenet))
    tensors = {name: file.tensor(name) for name in file.names}
    first = file.names[0]
    graph, size = file.more(0), file.container.header["graph_bytes"]

    def packed(tensors: dict[str, np.ndarray], graph: bytes = graph, size: object = size) -> bytes:
        return pack(tensors, kind="onnx", extra={"graph_bytes": size}, more=[graph])

    assert same_answers(lenet, unpack_model(packed(tensors)))
    bad = {
        "another shape": packed({**tensors, first: tensors[first][..., :1]}),
        "do not belong together": packed({**tensors, "other": np.zeros(20)}),
        "cannot be read": packed(tensors, size=0),
        "incomplete|cannot be read|do not belong": packed(tensors, graph[:-9]),
        "its onnx is missing": pack(tensors, kind="onnx", extra={"graph_bytes": size}),
        "holds more than 50 bytes": packed(tensors, size=50),
    }
    for reason, data in bad.items():
        with pytest.raises(CorruptData, match=reason):
            unpack_model(data)
