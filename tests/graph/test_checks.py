import itertools
import os
import random
import resource
from pathlib import Path

import handmade
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from narrows.errors import ModelError, NarrowsError
from narrows.graph import checks, load, session


def test_missing_file_folder_and_other_bytes(tmp_path: Path):
    with pytest.raises(ModelError, match=r"cannot read the model .*none\.onnx: No such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        load(tmp_path)
    path = tmp_path / "photo.onnx"
    for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(100), os.urandom(1000), b"hello"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"photo\.onnx"):
            load(path)


def test_truncated_file(tmp_path: Path):
    data = handmade.sequential().SerializeToString()
    for size in range(0, len(data) - 1, 97):
        with pytest.raises(ModelError):
            checks.parse(data[:size])


def external(folder: Path, location: str, *, size: int | None = None, **more: int):
    """A model whose weights lie in another file."""
    proto = handmade.sequential()
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "length": size or len(data), **more}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_in_the_folder_is_read(tmp_path: Path):
    assert load(external(tmp_path, "weights.bin")).digest == load(handmade.sequential()).digest


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "link.bin", "", "a/../../x"]
)
def test_external_data_outside_the_folder(tmp_path: Path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(432))
    (folder / "link.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="points outside the model's folder"):
        load(external(folder, location))


def test_external_data_that_is_missing_short_or_unwanted(tmp_path: Path):
    with pytest.raises(ModelError, match="missing"):
        load(external(tmp_path, "other.bin"))
    with pytest.raises(ModelError, match="does not hold"):
        load(external(tmp_path, "weights.bin", offset=8))
    with pytest.raises(ModelError, match="does not hold"):
        load(external(tmp_path, "weights.bin", offset=-8))
    with pytest.raises(ModelError, match="does not hold"):
        load(external(tmp_path, "weights.bin", size=2**40))
    path = external(tmp_path, "weights.bin")
    with pytest.raises(ModelError, match="store the model in one file"):
        checks.parse(path.read_bytes())
    with pytest.raises(ModelError, match="store the model in one file"):
        load(onnx.load(path, load_external_data=False))


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([2**40, 2**40], "more than 2 GiB"),
        ([2**30], "more than 2 GiB"),
        ([4, 3, 3, 2], "declares 288 bytes and holds 432"),
        ([-1], "impossible shape"),
        ([1] * 40, "impossible shape"),
    ],
)
def test_declared_dimensions_are_compared_before_anything_is_allocated(dims, message):
    proto = handmade.sequential()
    proto.graph.initializer[0].dims[:] = dims
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=message):
        load(proto)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


def test_tensors_stored_as_values_are_counted():
    proto = handmade.sequential()
    tensor = proto.graph.initializer[3]
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(helper.make_tensor("bias", TensorProto.FLOAT, [5], values))
    assert load(proto)
    del tensor.float_data[-1:]
    with pytest.raises(ModelError, match="declares 5 values and holds 4"):
        load(proto)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N, 3] x) => (float[] y) {h = ConstantOfShape(giant) y = Concat<axis = 0>(x, h)}",
        "g (float[N, 3] x) => (float[] y) {y = Tile(x, giant)}",
        "g (float[N, 3] x) => (float[] y) {y = Pad(x, wide)}",
        "g (float[N, 1099511627776] x) => (float[] y) {y = Relu(x)}",
    ],
)
def test_values_that_would_be_giant_are_refused_before_running(text):
    proto = handmade.build(text, giant=np.array([2**34, 3]), wide=np.array([0, 0, 2**40, 0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="too large"):
        load(proto)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_limit_on_inferred_values_can_be_lowered():
    proto = load(handmade.residual()).proto
    assert checks.infer_types(proto, batch=1)["b"] == TensorProto.FLOAT
    with pytest.raises(ModelError, match="too large"):
        checks.infer_types(proto, batch=1, max_value_bytes=1000)


@pytest.mark.parametrize(
    ("name", "value"), [("strides", 0), ("dilations", 0), ("pads", -3), ("kernel_shape", 2**40)]
)
def test_attributes_that_kernels_divide_by_or_allocate(name, value):
    proto = handmade.sequential()
    node = proto.graph.node[0]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute(name, [value] * 4))
    with pytest.raises(ModelError, match=f"{name} = .* far too large"):
        load(proto)


def calling(*calls):
    """A model with a chain of functions, each calling others so often."""
    proto = handmade.build("g (float[N, 3] x) => (float[N, 3] y) {t = Relu(x) y = Exp(t)}")
    proto.graph.node[1].CopyFrom(helper.make_node("f0", ["t"], ["y"], domain="mine"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    proto.opset_import.append(opsets[1])
    for i, (callee, times) in enumerate(calls):
        names = ["a", *(f"t{j}" for j in range(times - 1)), "b"]
        domain = "mine" if callee.startswith("f") else ""
        nodes = [
            helper.make_node(callee, [one], [two], domain=domain)
            for one, two in itertools.pairwise(names)
        ]
        proto.functions.append(helper.make_function("mine", f"f{i}", ["a"], ["b"], nodes, opsets))
    return proto


def test_functions_that_call_themselves_or_grow_without_end():
    assert len(load(calling(("f1", 3), ("Tanh", 2))).proto.graph.node) == 7
    hidden = calling(("Tanh", 1))
    branch = helper.make_graph([helper.make_node("f0", ["a"], ["c"], domain="mine")], "c", [], [])
    node = helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    hidden.functions[0].node[0].CopyFrom(node)
    for proto in (calling(("f0", 1)), calling(("f1", 2), ("f0", 1)), hidden):
        with pytest.raises(ModelError, match="calls itself"):
            load(proto)
    with pytest.raises(ModelError, match="nodes once its functions are written out"):
        load(calling(*((f"f{i}", 10) for i in range(1, 12)), ("Tanh", 1)))


def test_loops_sparse_tensors_and_names_that_are_not_text():
    body = onnx.parser.parse_graph("b (int64 i, bool c) => (bool d) {d = Identity(c)}")
    proto = handmade.build("g (float[N, 3] x) => (float[N, 3] y) {y = Relu(x)}")
    proto.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))
    with pytest.raises(ModelError, match="loops inside a graph"):
        load(proto)
    proto = handmade.sequential()
    proto.graph.sparse_initializer.add()
    with pytest.raises(ModelError, match="sparse"):
        load(proto)
    data = handmade.sequential().SerializeToString().replace(b"\x0a\x01b", b"\x0a\x01\xff")
    with pytest.raises(ModelError):
        checks.parse(data)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed))
        kind = rng.random()
        if kind < 0.7:
            changed[at] = rng.randrange(256)
        elif kind < 0.85:
            del changed[at : at + rng.randrange(1, 8)]
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(changed)


def test_mutated_models_load_or_raise_a_model_error():
    models = [make().SerializeToString() for make in handmade.ALL.values()]
    rng = random.Random(8)
    loaded = 0
    for i in range(1500):
        data = mutated(models[i % len(models)], rng)
        try:
            proto = checks.parse(data)
            load(proto)
            session(proto)
            loaded += 1
        except NarrowsError as error:
            assert str(error)  # noqa: PT017
    assert loaded > 50
