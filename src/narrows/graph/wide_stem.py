"""First convolutions over one to three channels, widened to what the integer kernels take at once.

ONNX Runtime's fast 8-bit convolution on x86 takes input channels by fours; what has fewer is copied
out patch by patch. With channels last, four pixels of three channels are twelve channels of one:

    (H, W, 3) ─► (H, W/4, 12) ─► convolution whose kernel covers whole groups ─► (H', W'/2, 2·32)
              the same bytes                                    the same bytes ─► (H', W', 32)

The products that are added are the same, and zeros: the same steps give the same integers.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from narrows.graph.load import Model

_CHANNELS: Final = 4  # that a kernel takes at once
_MOST_WORK: Final = 3.0  # times the multiplications, of which the rest are with zeros
_ACTIVATIONS: Final = ("Relu", "Clip")
_EXPLICIT: Final = (None, b"", b"NOTSET")
_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Widening:
    """How a convolution (O, C, kh, kw) becomes one over groups of pixels of a row.

    Args:
        pixels: In a group, side by side.
        outputs: Of the convolution in a row that one place of the new one makes.
        shift: Pixels from the start of the new kernel to that of the old one's first output.
        width: Of the new kernel, in groups.
        pads: At the left and at the right, in groups.
    """

    pixels: int
    outputs: int
    shift: int
    width: int
    pads: tuple[int, int]

    def weights(self, given: NDArray[Any], stride: int) -> NDArray[Any]:
        """(O, C, kh, kw) as (outputs · O, pixels · C, kh, width)."""
        count, channels, height, columns = given.shape
        made = np.zeros(
            (self.outputs, count, self.pixels, channels, height, self.width), given.dtype
        )
        for output in range(self.outputs):
            for column in range(columns):
                group, pixel = divmod(self.shift + output * stride + column, self.pixels)
                made[output, :, pixel, :, :, group] = given[..., column]
        return made.reshape(self.outputs * count, self.pixels * channels, height, self.width)


def with_wide_stems(model: Model, left_out: Collection[str] = ()) -> onnx.ModelProto:
    """A copy in which strided convolutions over fewer than four channels are widened.

    Args:
        model: In floating point, batch normalisation folded.
        left_out: Names of nodes to leave as they are.

    Example:
        >>> from narrows.graph.load import load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 1, 4, 8] x) => (float[N, 1, 4, 4] y) <float[1, 1, 1, 2] w = {1, 2}>
        ... {[stem] y = Conv<strides = [1, 2]>(x, w)}'''
        >>> made = with_wide_stems(load(onnx.parser.parse_model(text)))
        >>> [node.op_type for node in made.graph.node]
        ['Transpose', 'Reshape', 'Transpose', 'Conv', 'Transpose', 'Reshape', 'Transpose']
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    following: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        wide = None if node.name in left_out else _widening(model, node, stored)
        if wide is not None:
            before, after = _widened(model, graph, node, stored, wide)
            nodes += before
            # An activation stays beside the convolution, into whose range it is folded.
            end = _activation(graph, node) or node
            if end is not node:  # no reader of the old shape may find the new one by its name
                end.input[0] = node.output[0] = f"{node.output[0]} wide"
            following[f"{end.output[0]} wide"] = after
            after[-1].output[0] = end.output[0]
            end.output[0] = after[0].input[0] = f"{end.output[0]} wide"
        nodes += [node, *following.pop(node.output[0], [])]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    read = {name for node in nodes for name in node.input} | {v.name for v in graph.output}
    for name in stored.keys() - read:
        graph.initializer.remove(stored[name])
    return proto


def _widening(
    model: Model, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]
) -> _Widening | None:
    """How a node can be widened; None where it cannot, or it would not pay."""
    if node.op_type != "Conv" or any(name not in stored for name in node.input[1:]):
        return None
    given, made = (model.tensors.get(name) for name in (node.input[0], node.output[0]))
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    dims = stored[node.input[1]].dims
    plain = found.get("group", 1) == 1 and set(found.get("dilations", [1])) == {1}
    if given is None or made is None or len(dims) != 4 or not plain:
        return None
    if given.batch_axis != 0 or given.dtype != "float32" or found.get("auto_pad") not in _EXPLICIT:
        return None
    left, right = (found.get("pads", [0, 0, 0, 0])[i] for i in (1, 3))
    stride = found.get("strides", [1, 1])[1]
    pixels = _CHANNELS // math.gcd(dims[1], _CHANNELS)
    outputs = pixels // stride
    if dims[1] >= _CHANNELS or stride == 1 or pixels % stride or outputs < 1:
        return None
    if given.shape[2] % pixels or made.shape[2] % outputs or min(left, right) < 0:
        return None
    before = -(-left // pixels)
    shift = before * pixels - left
    width = (shift + stride * (outputs - 1) + dims[3] - 1) // pixels + 1
    after = made.shape[2] // outputs - given.shape[2] // pixels - before + width - 1
    if after < 0 or width * pixels > _MOST_WORK * dims[3]:
        return None
    return _Widening(pixels=pixels, outputs=outputs, shift=shift, width=width, pads=(before, after))


def _activation(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The activation function that alone reads a convolution's output."""
    name = node.output[0]
    readers = [other for other in graph.node if name in other.input]
    if len(readers) != 1 or name in {value.name for value in graph.output}:
        return None
    return readers[0] if readers[0].op_type in _ACTIVATIONS else None


def _widened(
    model: Model,
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    stored: dict[str, onnx.TensorProto],
    wide: _Widening,
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Widens a convolution in place; gives what comes before and after it, not yet named."""
    given, made = model.tensors[node.input[0]], model.tensors[node.output[0]]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    rows, columns = attributes.get("strides", [1, 1])
    pads = attributes.get("pads", [0, 0, 0, 0])
    label = node.name or node.output[0]

    def constant(values: NDArray[Any], name: str) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{label} {name}"))
        return f"{label} {name}"

    weights = wide.weights(numpy_helper.to_array(stored[node.input[1]]), columns)
    channels, height, width = given.shape
    groups = [0, height, width // wide.pixels, channels * wide.pixels]
    before = _regrouped(f"{label} in", node.input[0], constant(np.array(groups), "groups"))
    node.input[0] = before[-1].output[0]
    node.input[1] = constant(weights, "weights")
    if len(node.input) > 2 and node.input[2]:
        bias = numpy_helper.to_array(stored[node.input[2]])
        node.input[2] = constant(np.tile(bias, wide.outputs), "bias")
    del node.attribute[:]
    node.attribute.extend(
        [
            helper.make_attribute("kernel_shape", weights.shape[2:]),
            helper.make_attribute("strides", [rows, 1]),
            helper.make_attribute("pads", [pads[0], wide.pads[0], pads[2], wide.pads[1]]),
        ]
    )
    original = [0, *made.shape[1:], made.shape[0]]
    return before, _regrouped(f"{label} out", "", constant(np.array(original), "original"))


def _regrouped(label: str, given: str, shape: str) -> list[onnx.NodeProto]:
    """A reshape with channels last; the runtime, which computes so, drops the transpositions."""
    names = [f"{label} {i}" for i in range(3)]
    return [
        helper.make_node("Transpose", [given], [names[0]], name=names[0], perm=_LAST),
        helper.make_node("Reshape", [names[0], shape], [names[1]], name=names[1]),
        helper.make_node("Transpose", [names[1]], [names[2]], name=names[2], perm=_FIRST),
    ]
