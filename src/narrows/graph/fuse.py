"""Put a fitted transform and quantizer into the two halves of a model.

    head: … ─► feature ─► (pad) ─► Conv ─► dead-zone rounding ─► symbols (int32)
                                    └────► ReduceL1 ───────────► check
    tail: symbols ─► Conv ─► blocks to positions ─► (crop) ─► feature ─► …

A basis for blocks of b × b positions is a convolution with kernel and stride b; step, mean, gain
and offset are in its weights and its bias. Only the entropy coder is left to do at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from narrows.coding.base import FittedCodec, Table
from narrows.coding.quantizers.uniform import LARGEST_SYMBOL, Uniform
from narrows.coding.transforms.blocked_pca import BlockedPCA, Geometry
from narrows.errors import CodecError, ModelError
from narrows.graph.cuts import Cut

SYMBOLS = "symbols"
CHECK = "check"
_PREFIX = "narrows/"
_OLDEST_OPSET = 11
_AXES_ARE_INPUTS = 18


def fuse_head(head: onnx.ModelProto, cut: Cut, codec: FittedCodec) -> onnx.ModelProto:
    """The head with the codec's transform and quantizer at its end.

    Args:
        head: As `split` gives it; not changed.
        cut: Where it ends.
        codec: Fitted to the feature: a blocked PCA and a uniform quantizer.

    Returns:
        A model from the input to `symbols`, int32 (n, components, blocks...), and `check`, float32
        (n,): the sum of |component| / step of each sample. A check that is not finite means that
        the feature was not, which the symbols cannot show.

    Raises:
        CodecError: The codec has another transform or quantizer, or is for another shape.
        ModelError: The model's operator set is too old, or a name is taken.
    """
    tiles = _geometry(cut, codec)
    table, levels = codec.transform_table, _levels(codec.quantizer_table)
    graph = _Graph(head, drop_outputs=True)
    x = graph.cast(cut.tensor, cut.dtype, "float32")
    x = graph.transpose(x, _to_channels_first(cut, tiles))
    axes = len(tiles.positions)
    if not axes:
        x = graph.add("Reshape", x, graph.integers([0, tiles.channels, 1]))
    elif any(tiles.padding):
        pads = [0, 0, *(0,) * axes, 0, 0, *tiles.padding]
        x = graph.add("Pad", x, graph.integers(pads), mode="edge")
    basis = table["basis"] * table["weight"][..., None]
    bias = -np.einsum("gkd,gd->gk", basis.astype(np.float64), table["mean"])
    step = np.broadcast_to(levels.step.reshape(-1), (basis.shape[0] * basis.shape[1],))
    kernel = (tiles.block,) * axes or (1,)
    weight = basis.reshape(len(step), tiles.channels // tiles.groups, *kernel)
    x = graph.add(
        "Conv",
        x,
        graph.floats(weight / step.reshape(-1, *(1,) * (weight.ndim - 1))),
        graph.floats(bias.reshape(-1) / step),
        strides=kernel,
        kernel_shape=kernel,
        group=tiles.groups,
    )
    if not axes:
        x = graph.add("Reshape", x, graph.integers([0, len(step)]))
    beside = (-1, *(1,) * axes)
    # trunc(x + sign(x) (1 - threshold)) is sign(x) floor(|x| + 1 - threshold) in fewer operators.
    up = graph.floats(_beside(np.float32(1) - levels.threshold, beside))
    raised = graph.add("Add", x, graph.add("Mul", graph.add("Sign", x), up))
    least, most = (graph.floats(np.array(end)) for end in (-LARGEST_SYMBOL, LARGEST_SYMBOL))
    raised = graph.add("Clip", raised, least, most)
    graph.add("Cast", raised, name=SYMBOLS, to=TensorProto.INT32)
    graph.reduce_l1(x, range(1, axes + 2), CHECK)
    shape = ["batch", len(step), *tiles.blocks]
    return graph.finish(
        outputs=[
            helper.make_tensor_value_info(SYMBOLS, TensorProto.INT32, shape),
            helper.make_tensor_value_info(CHECK, TensorProto.FLOAT, ["batch"]),
        ]
    )


def fuse_tail(tail: onnx.ModelProto, cut: Cut, codec: FittedCodec) -> onnx.ModelProto:
    """The tail with the inverse quantizer and transform at its beginning.

    Args:
        tail: As `split` gives it; not changed.
        cut: Where it begins.
        codec: The one of `fuse_head`.

    Returns:
        A model from `symbols`, int32 (n, components, blocks...), to the outputs.

    Raises:
        CodecError: The codec has another transform or quantizer, or is for another shape.
        ModelError: The model's operator set is too old, or a name is taken.
    """
    tiles = _geometry(cut, codec)
    table, levels = codec.transform_table, _levels(codec.quantizer_table)
    axes = len(tiles.positions)
    graph = _Graph(tail, drop_inputs=True)
    x = graph.add("Cast", SYMBOLS, to=TensorProto.FLOAT)
    if levels.shift.any():
        shift = graph.floats(_beside(levels.shift, (-1, *(1,) * axes)))
        # Sign is 0 at 0, so a zero stays zero.
        size = graph.add("Sub", graph.add("Abs", x), shift)
        x = graph.add("Mul", graph.add("Sign", x), size)
    groups, kept, dimension = table["basis"].shape
    back = np.swapaxes(table["basis"].astype(np.float64) / table["weight"][..., None], 1, 2)
    step = np.broadcast_to(levels.step.reshape(-1), (groups * kept,)).reshape(groups, 1, kept)
    area = dimension * groups // tiles.channels
    gain = np.repeat(table["gain"].astype(np.float64), area)
    offset = np.repeat(table["offset"].astype(np.float64), area)
    weight = (back * step).reshape(groups * dimension, kept, 1) * gain[:, None, None]
    if not axes:
        x = graph.add("Reshape", x, graph.integers([0, groups * kept, 1]))
    ones = (1,) * max(axes, 1)
    x = graph.add(
        "Conv",
        x,
        graph.floats(weight.reshape(groups * dimension, kept, *ones)),
        graph.floats(table["mean"].reshape(-1) * gain + offset),
        kernel_shape=ones,
        group=groups,
    )
    x = _to_positions(graph, x, tiles)
    forward = _to_channels_first(cut, tiles)
    x = graph.transpose(x, tuple(int(axis) for axis in np.argsort(forward)))
    graph.cast(x, "float32", cut.dtype, name=cut.tensor)
    shape = ["batch", groups * kept, *tiles.blocks]
    symbols = helper.make_tensor_value_info(SYMBOLS, TensorProto.INT32, shape)
    return graph.finish(inputs=[symbols], nodes_first=True)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """The uniform quantizer's table: each () or (components,)."""

    step: NDArray[np.float32]
    threshold: NDArray[np.float32]
    shift: NDArray[np.float32]


def _levels(table: Table) -> _Levels:
    return _Levels(step=table["step"], threshold=table["threshold"], shift=table["shift"])


def _geometry(cut: Cut, codec: FittedCodec) -> Geometry:
    transform, quantizer = codec.codec.transform, codec.codec.quantizer
    if not isinstance(transform, BlockedPCA) or not isinstance(quantizer, Uniform):
        msg = (
            f"{transform.name!r} with {quantizer.name!r} cannot be put into a graph: only a "
            "blocked PCA with a uniform quantizer can"
        )
        raise CodecError(msg)
    fitted = tuple(int(size) for size in codec.transform_table["shape"])
    if fitted != cut.shape:
        msg = (
            f"the codec was fitted to features {fitted}, and {cut.tensor!r} is {cut.shape}: fit it "
            "to this cut"
        )
        raise CodecError(msg)
    return transform.geometry(cut.shape)


def _to_channels_first(cut: Cut, tiles: Geometry) -> tuple[int, ...]:
    """The permutation from the model's axes to (batch, channels, positions...)."""
    batch = cut.batch_axis
    rest = [axis for axis in range(len(cut.shape) + 1) if axis != batch]
    if tiles.channels_last:
        rest = [rest[-1], *rest[:-1]]
    return (batch, *rest)


def _to_positions(graph: _Graph, x: str, tiles: Geometry) -> str:
    """(n, channels · block…, blocks…) to (n, channels, positions…)."""
    axes = len(tiles.positions)
    if not axes:
        return graph.add("Reshape", x, graph.integers([0, tiles.channels]))
    if tiles.block > 1:
        split = [0, tiles.channels, *(tiles.block,) * axes, *tiles.blocks]
        x = graph.add("Reshape", x, graph.integers(split))
        pairs = [axis for i in range(axes) for axis in (2 + axes + i, 2 + i)]
        x = graph.add("Transpose", x, perm=(0, 1, *pairs))
        joined = [0, tiles.channels, *(count * tiles.block for count in tiles.blocks)]
        x = graph.add("Reshape", x, graph.integers(joined))
    if any(tiles.padding):
        starts, ends = graph.integers([0] * axes), graph.integers(list(tiles.positions))
        x = graph.add("Slice", x, starts, ends, graph.integers(list(range(2, 2 + axes))))
    return x


def _beside(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A value for each component beside (n, components, positions...); a scalar stays one."""
    return values.reshape(shape) if values.ndim else values


@final
class _Graph:
    """A copy of a model, and nodes to be put before or after its own."""

    def __init__(
        self, proto: onnx.ModelProto, *, drop_inputs: bool = False, drop_outputs: bool = False
    ) -> None:
        opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._opset = opsets.get("", opsets.get("ai.onnx", 0))
        if self._opset < _OLDEST_OPSET:
            msg = (
                f"the model is of operator set {self._opset}; fusing a codec needs "
                f"{_OLDEST_OPSET}: convert it with onnx.version_converter"
            )
            raise ModelError(msg)
        taken = {name for node in proto.graph.node for name in (*node.input, *node.output)}
        clash = taken & {SYMBOLS, CHECK} | {name for name in taken if name.startswith(_PREFIX)}
        if clash:
            msg = f"the model has tensors named {sorted(clash)}, which narrows uses: rename them"
            raise ModelError(msg)
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(proto)
        if drop_inputs:
            del self._proto.graph.input[:]
        if drop_outputs:
            del self._proto.graph.output[:]
        self._nodes: list[onnx.NodeProto] = []
        self._count = 0

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node; its output's name is given back."""
        output = name or self._name(operator)
        node = helper.make_node(
            operator, inputs, [output], name=_PREFIX + output.removeprefix(_PREFIX), **attributes
        )
        self._nodes.append(node)
        return output

    def floats(self, values: NDArray[Any]) -> str:
        """A float32 constant."""
        return self._constant(np.asarray(values, np.float32))

    def integers(self, values: list[int]) -> str:
        """An int64 constant."""
        return self._constant(np.array(values, np.int64))

    def cast(self, x: str, found: str, wanted: str, *, name: str | None = None) -> str:
        """To another element type; integers are rounded and clipped to their range."""
        if found == wanted:
            return self.add("Identity", x, name=name) if name else x
        kind = np.dtype(wanted)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            x = self.add("Round", x)
            x = self.add("Max", x, self.floats(np.array(limits.min)))
            x = self.add("Min", x, self.floats(np.array(limits.max)))
        return self.add("Cast", x, name=name, to=helper.np_dtype_to_tensor_dtype(kind))

    def transpose(self, x: str, order: tuple[int, ...]) -> str:
        """Axes in another order; nothing is added where they are in order already."""
        return x if order == tuple(sorted(order)) else self.add("Transpose", x, perm=order)

    def reduce_l1(self, x: str, axes: range, name: str) -> None:
        """Sum of magnitudes over axes, which an operator set takes in one of two ways."""
        if self._opset >= _AXES_ARE_INPUTS:
            self.add("ReduceL1", x, self.integers(list(axes)), name=name, keepdims=0)
        else:
            self.add("ReduceL1", x, name=name, axes=list(axes), keepdims=0)

    def finish(
        self,
        *,
        inputs: list[onnx.ValueInfoProto] | None = None,
        outputs: list[onnx.ValueInfoProto] | None = None,
        nodes_first: bool = False,
    ) -> onnx.ModelProto:
        """The model with the new nodes, inputs and outputs."""
        graph = self._proto.graph
        graph.input.extend(inputs or [])
        graph.output.extend(outputs or [])
        if nodes_first:
            self._nodes.extend(graph.node)
            del graph.node[:]
        graph.node.extend(self._nodes)
        return self._proto

    def _constant(self, array: NDArray[Any]) -> str:
        name = self._name("constant")
        self._proto.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{_PREFIX}{what}{self._count}"
