"""ONNX file → checked model: one data input, a symbolic batch axis, every shape known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph import checks
from narrows.graph.batch import answers, check_opened, open_batch, open_reshapes
from narrows.graph.flow import Flow, needed, reads_of, trace
from narrows.graph.ort import session
from narrows.graph.probe import TensorInfo, declare, probe

__all__ = ["Model", "TensorInfo", "load", "session"]

_CONSTANT_TYPES: Mapping[str, type[np.generic]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}

# Constants of masks and clips may be infinite; a weight may not.
_MAY_BE_INFINITE = frozenset({"Add", "Where", "Pad", "Clip", "Min", "Max", "Expand", "Cast"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked model. Read it; do not change `proto`.

    Args:
        proto: The graph: functions inlined, constants as initializers, dead nodes gone.
        input: The one data input.
        outputs: The outputs in the model's order.
        tensors: Every value that a node makes, and the input, by name.
        flow: Who makes and reads which value.
        digest: SHA-256 of `proto`, in hexadecimal.
    """

    proto: onnx.ModelProto
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    tensors: Mapping[str, TensorInfo]
    flow: Flow
    digest: str


def load(
    source: str | Path | onnx.ModelProto, *, input_shape: tuple[int, ...] | None = None
) -> Model:
    """Read, check and run a model until all its shapes are known.

    A fixed batch size is made symbolic where the graph allows it, and that this changes nothing is
    checked by running it.

    Args:
        source: Path of an ONNX file, or a model in memory (not changed).
        input_shape: Shape of one sample, where the model leaves more axes open than the batch. It
            must agree with what the model declares.

    Raises:
        ModelError: The model cannot be read, has not exactly one data input, holds weights that are
            not finite, or does not run at more than one batch size.

    Example:
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y)
        ... <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {h = Relu(x) y = MatMul(h, w)}'''
        >>> model = load(onnx.parser.parse_model(text))
        >>> model.input.shape, model.outputs[0].shape, model.tensors["h"].size_bytes
        ((4,), (2,), 16)
    """
    if isinstance(source, onnx.ModelProto):
        proto, where = onnx.ModelProto(), "the model"
        proto.CopyFrom(source)
        checks.check(proto, where=where)
    else:
        where = str(source)
        proto = checks.read(Path(source))
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    _constants_to_initializers(proto.graph)
    given, fixed_batch = open_batch(proto, input_shape, where)
    if fixed_batch is not None:
        before = answers(proto, given, fixed_batch)
        open_reshapes(proto.graph, fixed_batch)
    _prune(proto.graph)
    flow = trace(proto.graph)
    _check_finite(proto, where)
    if not any(name in flow.data for name in flow.outputs):
        raise ModelError(f"{where}: no output depends on the input {given.name!r}")
    tensors = probe(proto, flow, given)
    _check_outputs(flow, tensors, where)
    _declare_all(proto.graph, tensors)
    if fixed_batch is not None:
        check_opened(proto, given, where, before, fixed_batch)
    return Model(
        proto=proto,
        input=given,
        outputs=tuple(tensors[name] for name in flow.outputs),
        tensors=tensors,
        flow=flow,
        digest=hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest(),
    )


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.op_type != "Constant" or not node.attribute:
            continue
        attribute = node.attribute[0]
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
        elif attribute.name in _CONSTANT_TYPES:
            values = onnx.helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.asarray(values, _CONSTANT_TYPES[attribute.name]))
        else:
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        del graph.node[position]


def _prune(graph: onnx.GraphProto) -> None:
    """Drop what no output needs, and name the nodes that have no name."""
    outputs = [value.name for value in graph.output]
    nodes = needed(graph, outputs)
    made = {name for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in reads_of(node)}.union(outputs)
    for position in reversed(range(len(graph.node))):
        if made.isdisjoint(graph.node[position].output):
            del graph.node[position]
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name not in read:
            del graph.initializer[position]
    for position, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{position}"


def _check_outputs(flow: Flow, tensors: Mapping[str, TensorInfo], where: str) -> None:
    for name in flow.outputs:
        if name not in tensors:
            raise ModelError(f"{where}: output {name!r} is a constant or not an array: drop it")
        if np.dtype(tensors[name].dtype).kind == "O":
            raise ModelError(f"{where}: output {name!r} holds text, not numbers: drop it")
        if name in flow.data and tensors[name].batch_axis is None:
            raise ModelError(
                f"{where}: output {name!r} has the shape {tensors[name].at(2)} for two samples; "
                "one axis must hold one entry per sample: export it without post-processing"
            )


def _declare_all(graph: onnx.GraphProto, tensors: Mapping[str, TensorInfo]) -> None:
    """Write every shape that was found into the graph."""
    names = [value.name for value in graph.output]
    del graph.output[:]
    graph.output.extend(declare(tensors[name]) for name in names)
    ends = {*names, graph.input[0].name}
    graph.value_info.extend(declare(info) for name, info in tensors.items() if name not in ends)


def _check_finite(proto: onnx.ModelProto, where: str) -> None:
    readers: dict[str, set[str]] = {}
    for node in proto.graph.node:
        for name in reads_of(node):
            readers.setdefault(name, set()).add(node.op_type)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind not in "fV":
            continue
        values = values.astype(np.float32) if values.dtype.kind == "V" else values
        if np.isfinite(values).all():
            continue
        bad = int(values.size - np.isfinite(values).sum())
        if np.isnan(values).any() or not readers.get(tensor.name, set()) <= _MAY_BE_INFINITE:
            raise ModelError(
                f"{where}: {bad} of {values.size} values of {tensor.name!r} are NaN or infinite: "
                "the training diverged or the file is damaged"
            )
