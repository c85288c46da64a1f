"""Means over all positions of a map as GlobalAveragePool, for which there is an integer kernel.

Exporters write the pooling before a classifier, and in squeeze-and-excitation blocks, as
ReduceMean, which the runtime computes in floating point alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from narrows.graph.load import Model

_DATA_AXES = 2  # batch and channels


def with_average_pools(model: Model) -> onnx.ModelProto:
    """A copy with GlobalAveragePool for every ReduceMean over all positions that keeps the axes.

    Example:
        >>> from narrows.graph.load import load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4, 8, 8] x) => (float[N, 4, 1, 1] y) {y = ReduceMean<axes = [2, 3]>(x)}'''
        >>> with_average_pools(load(onnx.parser.parse_model(text))).graph.node[0].op_type
        'GlobalAveragePool'
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        info = model.tensors.get(node.input[0]) if node.op_type == "ReduceMean" else None
        if info is None or info.batch_axis != 0 or info.dtype != "float32":
            continue
        rank = len(info.shape) + 1
        axes = _axes(node, stored)
        keeps = all(a.i for a in node.attribute if a.name == "keepdims")
        if keeps and rank > _DATA_AXES and axes is not None:
            if sorted(axis % rank for axis in axes) != list(range(_DATA_AXES, rank)):
                continue
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
            del node.input[1:]
    return proto


def _axes(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> list[int] | None:
    """The axes of a reduction: an input or an attribute; None where they are not known."""
    if len(node.input) > 1:
        tensor = stored.get(node.input[1])
        return None if tensor is None else np.ravel(numpy_helper.to_array(tensor)).tolist()
    return next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
