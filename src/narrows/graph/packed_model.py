"""An ONNX model as one packed file, and back: the graph deflated, its weights as symbols.

The file is of kind "onnx". Its tensors are the graph's initializers of 16 and more values; the one
part after them is the graph, deflated, whose initializers have kept their names, types and shapes
and lost their values. The header's "graph_bytes" is its size before it was deflated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from narrows.coding import Coder
from narrows.errors import CorruptData, ModelError
from narrows.packed import Grid, PackedFile, pack
from narrows.packed.preset import deflated, inflated

_LEAST_VALUES: Final = 16
_HELD: Final = {"network": "a network of PyTorch (`narrows.store.load_network` reads it)"}
_MOST_GRAPH_BYTES: Final = 1 << 26
_VALUES: Final = (
    *("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"),
)


def pack_model(
    proto: onnx.ModelProto,
    *,
    grids: Mapping[str, Grid] | None = None,
    coder: Coder | None = None,
    like: PackedFile | None = None,
) -> bytes:
    """The bytes of a packed file of a model.

    What names and shapes tell about inner values is left out of the graph: the runtime infers it.

    Args:
        proto: Below 2 GB, with its weights inside.
        grids: Of those initializers whose values lie on one; everything is stored exactly.
        coder: Of symbols; by default `Adaptive`.
        like: A file whose tensors of the same names and values are taken as they lie there: so a
            part of a packed model is packed at once.

    Raises:
        ModelError: Weights lie in other files, a grid is of a weight that is not there, or the
            graph is too large.
        CodecError: A weight does not lie on its grid.

    Example:
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y)
        ... <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {y = MatMul(x, w)}'''
        >>> proto = onnx.parser.parse_model(text)
        >>> unpack_model(pack_model(proto)).graph == proto.graph
        True
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in stored.values()):
        msg = "the model keeps weights in files beside it: load it whole before it is packed"
        raise ModelError(msg)
    if unknown := sorted(set(grids or {}) - set(stored)):
        msg = f"there are grids for {', '.join(unknown[:5])}, which are no weights of the model"
        raise ModelError(msg)
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(proto)
    del skeleton.graph.value_info[:]
    tensors = {}
    for tensor in skeleton.graph.initializer:
        values = numpy_helper.to_array(stored[tensor.name])
        if values.size >= _LEAST_VALUES and values.dtype.kind in "fiub":
            tensors[tensor.name] = values
            for field in _VALUES:
                tensor.ClearField(field)
    graph = skeleton.SerializeToString(deterministic=True)
    if len(graph) > _MOST_GRAPH_BYTES:
        msg = (
            f"the graph without its weights takes {len(graph)} bytes, a packed file holds "
            f"{_MOST_GRAPH_BYTES}: make its large constants initializers"
        )
        raise ModelError(msg)
    chosen = {name: grid for name, grid in (grids or {}).items() if name in tensors}
    return pack(
        tensors,
        grids=chosen,
        coder=coder,
        kind="onnx",
        extra={"graph_bytes": len(graph)},
        more=[deflated(graph)],
        like=like,
    )


def unpack_model(source: bytes | str | Path | PackedFile) -> onnx.ModelProto:
    """The model of a packed file.

    Raises:
        InputError: There is no such file.
        CorruptData: It is damaged, or holds no ONNX model.
    """
    file = source if isinstance(source, PackedFile) else PackedFile.open(source)
    called = file.container.name
    if file.kind != "onnx":
        msg = (
            f"{called} holds {_HELD.get(file.kind, file.kind)}, no ONNX model: pack one with "
            "`narrows pack MODEL.onnx`"
        )
        raise CorruptData(msg)
    size = file.container.header.get("graph_bytes")
    proto = onnx.ModelProto()
    try:
        if type(size) is not int or not 0 < size <= _MOST_GRAPH_BYTES:
            msg = f"a graph of {size} bytes"
            raise ValueError(msg)
        text = inflated(file.more(0), size)
        proto.ParseFromString(text)
    except (DecodeError, ValueError) as error:
        msg = f"{called} is damaged: its graph cannot be read ({error}); copy it again"
        raise CorruptData(msg) from error
    known = {tensor.name: tensor for tensor in proto.graph.initializer}
    if len(text) != size or not set(file.names) <= set(known):
        msg = f"{called} is damaged: its graph and its tensors do not belong together"
        raise CorruptData(msg)
    for name in file.names:
        made = numpy_helper.from_array(file.tensor(name), name)
        if (made.data_type, list(made.dims)) != (known[name].data_type, list(known[name].dims)):
            msg = f"{called} is damaged: tensor {name!r} has another shape than in the graph"
            raise CorruptData(msg)
        known[name].CopyFrom(made)
    return proto
