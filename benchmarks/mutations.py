"""Ways to spoil bytes, JSON and ONNX, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import onnx

_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HOSTILE = (
    *(-1, 0, 1, 7, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 10**300),
    *(-0.5, 1e308, "nan", "inf", None, True, "", "x" * 5000, "../../etc/passwd", "/dev/zero"),
    *([], {}, [[]], [-1], [2**40, 2**40], [0], [1] * 64, {"a": {"a": {}}}),
    *("split", "image", "raw", "local", "raw", "huffman", "ans", "float32", "int64", "bool"),
)
_OPERATORS = (
    *("Relu", "Conv", "Gemm", "Reshape", "Expand", "Tile", "ConstantOfShape", "Resize", "Loop"),
    *("Flatten", "Cast", "Pad", "Range", "Gather", "NonZero", "If", "Scan", "Mul", "Nonsense"),
)
_SIZES = (-1, 0, 1, 2, 3, 5, 1 << 16, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))


def spoiled(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """One to four small or large changes to `data`; `other` is spliced in sometimes."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _spoil(found, rng, other or data)
    return bytes(found)


def _spoil(found: bytearray, rng: random.Random, other: bytes) -> None:
    if not found:
        found += rng.randbytes(rng.randrange(64))
        return
    at = rng.randrange(len(found))
    kind = rng.randrange(9)
    if kind == 0:
        found[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        found[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == 2:
        del found[at:]
    elif kind == 3:
        del found[at : at + rng.randrange(1, 16)]
    elif kind == 4:
        found[at:at] = rng.randbytes(rng.randrange(1, 16))
    elif kind == 5:
        size = rng.choice((2, 4, 8))
        found[at : at + size] = rng.choice(_WORDS).to_bytes(8, "little")[:size]
    elif kind == 6:
        found[at:at] = bytes(found[at : at + rng.randrange(1, 64)]) * rng.choice((1, 8, 200))
    elif kind == 7:
        start = rng.randrange(len(other))
        found[at : at + rng.randrange(64)] = other[start : start + rng.randrange(64)]
    else:
        found[:] = rng.randbytes(len(found) if rng.random() < 0.5 else rng.randrange(4096))


def spoiled_json(text: bytes, rng: random.Random, *, sparing: tuple[str, ...] = ()) -> bytes:
    """A JSON object with a value changed, a key gone or a key too many.

    Args:
        text: The object.
        rng: Draws what.
        sparing: Keys that are left alone, with what is below them.
    """
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        places = [place for place in _places(data) if place[1] not in sparing]
        holder, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0 and isinstance(holder, dict):
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[f"{key}x"] = holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(_HOSTILE))
    return json.dumps(data).encode()


def _places(data: Any) -> list[tuple[Any, Any]]:
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    found = [(data, key) for key in keys]
    for key in keys:
        if isinstance(data[key], dict | list):
            found += _places(data[key])
    return found


def spoiled_onnx(data: bytes, rng: random.Random) -> bytes:
    """An ONNX file that still parses, with hostile numbers, operators or tensors in it."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_ATTACKS)(model, rng)
    return bytes(model.SerializeToString())


def _dims(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_SIZES)


def _giant(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = rng.choice((b"", tensor.raw_data[:4]))
    del tensor.dims[:]
    tensor.dims.extend(rng.choice(([1 << 40], [1 << 20, 1 << 20], [1 << 62, 4], [0])))


def _external(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = rng.choice(("/etc/passwd", "../../../etc/passwd", "model.onnx", "/dev/zero", "", "\0"))
    tensor.external_data.add(key="location", value=place)
    tensor.external_data.add(key="length", value=str(rng.choice(_SIZES)))


def _kind(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.choice((*range(26), 99, -1))


def _values(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = rng.randbytes(len(tensor.raw_data))


def _shape(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice((*model.graph.input, *model.graph.output))
    dims = value.type.tensor_type.shape.dim
    if dims:
        rng.choice(dims).dim_value = rng.choice(_SIZES)
    if rng.random() < 0.3:
        value.type.tensor_type.elem_type = rng.randrange(24)


def _node(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(_OPERATORS)
    if rng.random() < 0.2:
        node.domain = rng.choice(("com.microsoft", "evil", "ai.onnx.ml"))


def _wires(model: onnx.ModelProto, rng: random.Random) -> None:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    node = rng.choice(model.graph.node)
    wires = rng.choice((node.input, node.output))
    if wires:
        wires[rng.randrange(len(wires))] = rng.choice(names)


def _attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if not attributes:
        return
    attribute = rng.choice(attributes)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_SIZES)
    attribute.i = rng.choice(_SIZES)


def _blow_up(model: onnx.ModelProto, rng: random.Random) -> None:
    """An operator that makes a large value out of nothing, before the first node."""
    size = rng.choice((1 << 28, 1 << 34, 1 << 40))
    first = model.graph.node[0]
    numbers = onnx.helper.make_tensor("blow", onnx.TensorProto.INT64, [1], [size])
    model.graph.initializer.append(numbers)
    kind = rng.choice(("ConstantOfShape", "Expand", "Tile", "Range"))
    if kind == "ConstantOfShape":
        made = onnx.helper.make_node(kind, ["blow"], ["blown"])
    elif kind == "Range":
        for name, value in (("zero", 0), ("limit", size), ("one", 1)):
            scalar = onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [], [value])
            model.graph.initializer.append(scalar)
        made = onnx.helper.make_node(kind, ["zero", "limit", "one"], ["blown"])
    else:
        flat = onnx.helper.make_node("Flatten", [first.input[0]], ["flat"], axis=0)
        count = onnx.helper.make_tensor("times", onnx.TensorProto.INT64, [2], [size, 1])
        model.graph.initializer.append(count)
        model.graph.node.insert(0, flat)
        made = onnx.helper.make_node(kind, ["flat", "times"], ["blown"])
    summed = onnx.helper.make_node("ReduceMax", ["blown"], ["sum"], keepdims=0)
    after = [onnx.helper.make_node("Cast", ["sum"], ["cast"], to=1)]
    kind_in = model.graph.input[0].type.tensor_type.elem_type
    after.append(onnx.helper.make_node("CastLike", ["cast", first.input[0]], ["like"]))
    del kind_in
    after.append(onnx.helper.make_node("Add", [first.input[0], "like"], ["fed"]))
    for place, node in enumerate((made, summed, *after), 1 if kind in ("Expand", "Tile") else 0):
        model.graph.node.insert(place, node)
    first.input[0] = "fed"


_ATTACKS = (
    _dims, _giant, _external, _kind, _values, _shape, _node, _wires, _attribute, _blow_up,
)  # fmt: skip
