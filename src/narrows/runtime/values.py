"""How many bytes the values of a graph take, found without running it.

A graph of a few hundred bytes can ask for terabytes (ConstantOfShape, Expand, Range, Tile), and a
runtime allocates before it thinks, some of it while it merely loads. So a part of a bundle states
how many bytes its values take for one sample, and is loaded only if shape inference agrees that it
is no more. Where the inference cannot tell, the part is refused, with two exceptions: the bounds of
a Range are computed here as far as they follow from shapes, and operators that are not ONNX's own
are taken at the shape that the file declares for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph import checks
from narrows.graph.ort import run, session
from narrows.runtime.manifest import Tensor

_STANDARD: Final = ("", "ai.onnx")
_MAX_ROUNDS: Final = 32
_SMALL_ELEMENTS: Final = 4096

Shapes = dict[str, tuple[int, ...]]


def values_bytes(proto: onnx.ModelProto, input: Tensor) -> int:
    """Bytes of everything the nodes of a part make for one sample, added up.

    The runtime frees values as it goes and needs less; this bound holds in any order.

    Args:
        proto: A part that has passed `narrows.graph.checks`.
        input: What it will be given.

    Raises:
        ModelError: The input has another shape, or the size of a value cannot be told beforehand.

    Example:
        >>> graph = "g (float[N, 4] x) => (float[N, 4] y) { h = Relu(x) y = Neg(h) }"
        >>> proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + graph)
        >>> values_bytes(proto, Tensor(name="x", shape=(4,), dtype="float32"))
        32
    """
    bare = checks.without_weights(proto)
    declared = {value.name: value for value in bare.graph.value_info}
    del bare.graph.value_info[:]
    _set_input(bare, input)
    shapes, kinds = _inferred(bare)
    for _ in range(_MAX_ROUNDS):
        ranges = [n for n in bare.graph.node if n.op_type == "Range" and n.output[0] not in shapes]
        settled = [node for node in ranges if all(name in shapes for name in node.input)]
        if not settled:
            break
        for node in settled:
            _settle(bare, node, shapes)
        shapes, kinds = _inferred(bare)
    total = 0
    for node in proto.graph.node:
        for name in filter(None, node.output):
            if name not in shapes and node.domain not in _STANDARD and name in declared:
                _note(declared[name], shapes, kinds)
            if name not in shapes:
                msg = (
                    f"how large {name!r} ({node.op_type}) becomes does not follow from the shape "
                    "of the input: such a graph is not deployed"
                )
                raise ModelError(msg)
            total += math.prod(shapes[name]) * kinds[name]
    return total


def _set_input(bare: onnx.ModelProto, input: Tensor) -> None:
    """Give the data input the shape of one sample; refuse a graph that declares another."""
    wanted = list(input.shape)
    if input.batch_axis is not None:
        wanted.insert(input.batch_axis, 1)
    value = next((value for value in bare.graph.input if value.name == input.name), None)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(input.dtype))
    dims = [] if value is None else list(value.type.tensor_type.shape.dim)
    fits = len(dims) == len(wanted) and all(
        not dim.HasField("dim_value") or dim.dim_value == size
        for dim, size in zip(dims, wanted, strict=False)
    )
    if value is None or not fits or value.type.tensor_type.elem_type != kind:
        msg = f"the graph has no input {input.name!r} of {input.dtype} {input.shape}"
        raise ModelError(msg)
    for dim, size in zip(dims, wanted, strict=True):
        dim.dim_value = size


def _inferred(bare: onnx.ModelProto) -> tuple[Shapes, dict[str, int]]:
    """Shapes that follow from the input's, and the bytes of an element of each."""
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        found = onnx.shape_inference.infer_shapes(
            bare, check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        msg = f"the shapes in the graph do not fit together: {first[:200]}"
        raise ModelError(msg) from None
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in bare.graph.initializer}
    kinds: dict[str, int] = {}
    for value in (*found.graph.value_info, *found.graph.output, *found.graph.input):
        _note(value, shapes, kinds)
    return shapes, kinds


def _note(value: onnx.ValueInfoProto, shapes: Shapes, kinds: dict[str, int]) -> None:
    """Write down a value's shape, unless an axis of it is open or it holds no numbers."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    closed = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
    if tensor.HasField("shape") and closed and tensor.elem_type not in (0, onnx.TensorProto.STRING):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shapes[value.name] = tuple(dim.dim_value for dim in dims)
        kinds[value.name] = dtype.itemsize


def _settle(bare: onnx.ModelProto, node: onnx.NodeProto, shapes: Shapes) -> None:
    """Replace the bounds of a Range by numbers, so that inference knows its length."""
    part = _shape_chain(bare, tuple(node.input), shapes)
    bounds = run(session(part, optimise=False), {}, list(node.input))
    for place, bound in enumerate(bounds):
        if bound.size != 1 or not np.isfinite(bound).all():
            msg = f"a Range with the bounds {bounds}: it has no end"
            raise ModelError(msg)
        name = f"{node.output[0]}.bound{place}"
        bare.graph.initializer.append(numpy_helper.from_array(bound.reshape(()), name))
        node.input[place] = name


def _shape_chain(
    bare: onnx.ModelProto, names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """A graph that computes `names` from known shapes and small constants alone."""
    nodes = list(bare.graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    weights = {tensor.name: tensor for tensor in bare.graph.initializer}
    part = onnx.ModelProto(ir_version=bare.ir_version, opset_import=bare.opset_import)
    part.graph.name = "bounds"
    waiting, seen, places = list(names), set(), set()
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in waiting)
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        node = nodes[makers[name]] if name in makers else None
        if name in weights:
            part.graph.initializer.append(weights[name])
        elif node is not None and node.op_type == "Shape" and node.input[0] in shapes:
            array = _sliced(np.array(shapes[node.input[0]], np.int64), node)
            part.graph.initializer.append(numpy_helper.from_array(array, name))
        elif node is None or math.prod(shapes.get(name, (1 << 62,))) > _SMALL_ELEMENTS:
            msg = f"the bounds of a Range depend on the values of {name!r}: it is not deployed"
            raise ModelError(msg)
        else:
            places.add(makers[name])
            waiting += node.input
    part.graph.node.extend(nodes[place] for place in sorted(places))
    return part


def _sliced(shape: NDArray[np.int64], node: onnx.NodeProto) -> NDArray[np.int64]:
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    return shape[ends.get("start", 0) : ends.get("end", len(shape))]
