"""ONNX bytes from anywhere → a ModelProto that holds what it declares, or a ModelError.

Nothing here is sized by a number in the file before that number has been compared with the bytes
that are really there: declared dimensions, external data, attributes that kernels divide by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from narrows.errors import ModelError
from narrows.graph.recurrent_cell import is_gru_cell
from narrows.graph.stored import MAX_TENSOR_BYTES, check_tensor, element_bits
from narrows.units import bytes_text

MAX_MODEL_BYTES = 2**31 - 1
"""One protobuf message holds no more; larger models are refused."""

_POSITIVE = frozenset({"strides", "dilations", "kernel_shape", "group", "hidden_size", "blocksize"})
_COUNTED = frozenset({"pads", "output_padding"})
_MAX_NODES = 1_000_000
_MAX_DEPTH = 50
_LOOPS = frozenset({"Loop", "Scan"})


def read(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with its external data where it has any, and check it.

    Raises:
        ModelError: The file is missing, is not ONNX, is too large, or does not hold what it says.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is not a file: give the path of an .onnx file")
        if size > MAX_MODEL_BYTES:
            raise ModelError(
                f"{path} holds {bytes_text(size)}; models above 2 GB are not supported"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    return parse(data, where=str(path), folder=path.parent)


def parse(data: bytes, *, where: str = "the model", folder: Path | None = None) -> onnx.ModelProto:
    """Check ONNX bytes.

    Args:
        data: A serialised ModelProto.
        where: What to call it in messages.
        folder: Where external data may lie; None refuses external data.

    Raises:
        ModelError: The bytes are not ONNX, or do not hold what they say.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX model ({len(data)} bytes): {error}") from None
    check(proto, where=where, folder=folder)
    return proto


def check(proto: onnx.ModelProto, *, where: str = "the model", folder: Path | None = None) -> None:
    """Check a parsed model, and put its external data, if any, into `proto` itself.

    Raises:
        ModelError: It does not hold what it says.
    """
    if not all(isinstance(text, str) for graph in _graphs(proto) for text in _texts(graph)):
        raise ModelError(f"{where} is not a valid ONNX model: a name in it is not text")
    if not proto.graph.node:
        raise ModelError(f"{where} has no nodes: it is not an ONNX model, or an empty one")
    for tensor in _tensors(proto):
        check_tensor(tensor, where, folder)
    if any(graph.sparse_initializer for graph in _graphs(proto)):
        raise ModelError(f"{where} has sparse initializers: store them densely")
    for node in _nodes(proto):
        _check_node(node, where)
    _check_loops(proto, where)
    _check_functions(proto, where)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        _check_declared(value, where)
    if proto.ByteSize() > MAX_MODEL_BYTES:
        raise ModelError(f"{where} is above 2 GB with its weights; that is not supported")
    bare = without_weights(proto)
    for value in bare.graph.output:  # exporters leave out shapes they do not know
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(bare)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"{where} is not a valid ONNX model: {_first_line(error)}") from None


def without_weights(proto: onnx.ModelProto, *, keep: int = 1024) -> onnx.ModelProto:
    """A copy whose initializers of more than `keep` elements are inputs of the same type.

    Checking and inferring shapes then cost the same for a large model as for a small one.
    """
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph, source = bare.graph, proto.graph
    graph.name = "graph"
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    known = {value.name for value in source.input}
    for tensor in source.initializer:
        if math.prod(tensor.dims) <= keep:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return bare


def infer_types(
    proto: onnx.ModelProto, *, batch: int, max_value_bytes: int = MAX_TENSOR_BYTES
) -> dict[str, int]:
    """Infer element types without running anything, and refuse values that would be too large.

    Args:
        proto: A checked model.
        batch: What to put for open axes of its inputs.
        max_value_bytes: No value may have more.

    Returns:
        Value to ONNX's element type, 0 where it is not a tensor; only what could be inferred.

    Raises:
        ModelError: Shapes do not fit together, or a value would be too large.
    """
    bare = without_weights(proto)
    del bare.graph.value_info[:]
    for value in bare.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value if dim.HasField("dim_value") else batch
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"the model's shapes do not fit together: {_first_line(error)}") from None
    types = {}
    for value in (*inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            types[value.name] = 0
        elif tensor.elem_type:
            types[value.name] = tensor.elem_type
            sizes = [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
            if math.prod(sizes) * element_bits(tensor.elem_type) > 8 * max_value_bytes:
                raise ModelError(f"value {value.name!r} would have the shape {sizes}: too large")
    return types


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and every subgraph, those inside functions too."""
    yield proto.graph
    waiting = [*proto.graph.node]
    for function in proto.functions:
        waiting += function.node
    while waiting:
        for attribute in waiting.pop().attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield graph
                waiting += graph.node


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _texts(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name; protobuf gives bytes for what is not UTF-8."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (tensor.name for tensor in graph.initializer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(proto):
        yield from graph.initializer
    for attribute in (a for node in _nodes(proto) for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise ModelError(f"attribute {attribute.name!r} is sparse: store it densely")


def _check_node(node: onnx.NodeProto, where: str) -> None:
    title = f"{where}: {node.op_type} {node.name!r}"
    for attribute in node.attribute:
        values = [*attribute.ints, attribute.i] if attribute.type == 2 else list(attribute.ints)
        low = 1 if attribute.name in _POSITIVE else 0
        if attribute.name in _POSITIVE | _COUNTED and any(
            not low <= value < 2**31 for value in values
        ):
            raise ModelError(
                f"{title} has {attribute.name} = {values}: below {low} or far too large"
            )


def _check_loops(proto: onnx.ModelProto, where: str) -> None:
    """Refuse loops, whose work nothing bounds, but those that narrows writes for integer GRUs."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    outermost = [n for n in proto.graph.node if n.op_type in _LOOPS and not is_gru_cell(n, stored)]
    graphs = list(_graphs(proto))[1:]
    inner = [node for owner in (*graphs, *proto.functions) for node in owner.node]
    for node in (*outermost, *inner):
        if node.op_type in _LOOPS:
            raise ModelError(
                f"{where}: {node.op_type} {node.name!r}: loops inside a graph are not supported; "
                "unroll it on export"
            )


def _check_functions(proto: onnx.ModelProto, where: str) -> None:
    """Refuse functions that call themselves, or that grow without end once they are written out."""
    bodies = {(function.domain, function.name): function for function in proto.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in inside or len(inside) > _MAX_DEPTH:
                raise ModelError(f"{where}: function {key[1]!r} calls itself, or too deeply")
            if key in bodies and key not in counts:
                counts[key] = count(bodies[key].node, (*inside, key))
            total += counts.get(key, 1)
            for attribute in node.attribute:
                total += sum(
                    count(graph.node, inside) for graph in (attribute.g, *attribute.graphs)
                )
        return total

    if bodies and (total := count(proto.graph.node, ())) > _MAX_NODES:
        raise ModelError(f"{where} has {total} nodes once its functions are written out: too many")


def _check_declared(value: onnx.ValueInfoProto, where: str) -> None:
    """Names that are text, and shapes that are not giant."""
    if not value.type.HasField("tensor_type"):
        return
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
    if any(dim < 0 for dim in dims) or math.prod(dims) > MAX_TENSOR_BYTES:
        raise ModelError(f"{where}: value {value.name!r} declares the shape {dims}: too large")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
