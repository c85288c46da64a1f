"""Put a fitted transform and quantizer into the two halves of a model.

    head: … ─► feature ─► transform ─► dead-zone rounding ─► symbols (int32)
                              └──────► sum of magnitudes ──► check
    tail: symbols ─► inverse transform ─► feature ─► …

A basis for blocks of b × b positions is a convolution with kernel and stride b; step, mean, gain
and offset are in weights and biases. Only the entropy coder is left to do at run time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from narrows.coding.base import FittedCodec, Table
from narrows.coding.quantizers.uniform import LARGEST_SYMBOL, Uniform
from narrows.coding.transforms.blocked_pca import BlockedPCA, Geometry
from narrows.coding.transforms.separable_klt import SeparableKLT
from narrows.errors import CodecError
from narrows.graph.cuts import Cut
from narrows.graph.editor import GraphEditor
from narrows.graph.lower import Steps, klt_backward, klt_forward, pca_backward, pca_forward

SYMBOLS = "symbols"
CHECK = "check"
_STEEP = np.array(1e6)

_Forward = Callable[[GraphEditor, str, Geometry, Table, Steps], tuple[str, int]]
_Backward = Callable[[GraphEditor, str, Geometry, Table, Steps], str]
_LOWERINGS: dict[type, tuple[_Forward, _Backward]] = {
    BlockedPCA: (pca_forward, pca_backward),
    SeparableKLT: (klt_forward, klt_backward),
}


def fuse_head(head: onnx.ModelProto, cut: Cut, codec: FittedCodec) -> onnx.ModelProto:
    """The head with the codec's transform and quantizer at its end.

    Args:
        head: As `split` gives it; not changed.
        cut: Where it ends.
        codec: Fitted to the feature: a blocked PCA or separable KLT, and a uniform quantizer.

    Returns:
        A model from the input to `symbols`, int32 (n, components, blocks...), and `check`, float32
        (n,): the sum of |component| / step of each sample. A check that is not finite means that
        the feature was not, which the symbols cannot show.

    Raises:
        CodecError: The codec has another transform or quantizer, or is for another shape.
        ModelError: The model's operator set is too old, or a name is taken.
    """
    tiles = _geometry(cut, codec)
    graph = GraphEditor(head, {SYMBOLS, CHECK}, drop_outputs=True)
    x = graph.cast(cut.tensor, cut.dtype, "float32")
    x = graph.transpose(x, _to_channels_first(cut, tiles))
    steps = _steps(codec)
    forward, _ = _LOWERINGS[type(codec.codec.transform)]
    x, axes = forward(graph, x, tiles, codec.transform_table, steps)
    # trunc(x + clip(1e6 x, -up, up)) is sign(x) floor(|x| + up), without the slow operator Sign.
    up = np.float32(1) - codec.quantizer_table["threshold"]
    signed = graph.clip(graph.add("Mul", x, graph.floats(_STEEP)), _beside(up, axes - 1))
    raised = graph.clip(graph.add("Add", x, signed), np.array(LARGEST_SYMBOL))
    shape = [0, len(steps), *tiles.blocks]
    if axes + 1 == len(shape):
        graph.add("Cast", raised, name=SYMBOLS, to=TensorProto.INT32)
    else:
        whole = graph.add("Cast", raised, to=TensorProto.INT32)
        graph.add("Reshape", whole, graph.integers(shape), name=SYMBOLS)
    graph.reduce_sum(graph.add("Abs", x), range(1, axes + 1), CHECK)
    check = helper.make_tensor_value_info(CHECK, TensorProto.FLOAT, ["batch"])
    return graph.finish(outputs=[_symbols(len(steps), tiles), check])


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
    graph = GraphEditor(tail, {SYMBOLS}, drop_inputs=True)
    x = graph.add("Cast", SYMBOLS, to=TensorProto.FLOAT)
    shift = codec.quantizer_table["shift"]
    if shift.any():
        # Sign is 0 at 0, so a zero stays zero.
        towards = graph.floats(_beside(shift, len(tiles.positions)))
        size = graph.add("Sub", graph.add("Abs", x), towards)
        x = graph.add("Mul", graph.add("Sign", x), size)
    steps = _steps(codec)
    _, backward = _LOWERINGS[type(codec.codec.transform)]
    x = backward(graph, x, tiles, codec.transform_table, steps)
    order = np.argsort(_to_channels_first(cut, tiles))
    x = graph.transpose(x, tuple(int(axis) for axis in order))
    graph.cast(x, "float32", cut.dtype, name=cut.tensor)
    return graph.finish(inputs=[_symbols(len(steps), tiles)], nodes_first=True)


def _steps(codec: FittedCodec) -> Steps:
    """The quantizer's step of each component."""
    count, step = codec.transform_table["weight"].size, codec.quantizer_table["step"].reshape(-1)
    if step.size not in (1, count):
        msg = f"the quantizer has {step.size} steps and the transform {count} components: fit both"
        raise CodecError(msg)
    return np.broadcast_to(step, count).astype(np.float64)


def _symbols(components: int, tiles: Geometry) -> onnx.ValueInfoProto:
    shape = ["batch", components, *tiles.blocks]
    return helper.make_tensor_value_info(SYMBOLS, TensorProto.INT32, shape)


def _geometry(cut: Cut, codec: FittedCodec) -> Geometry:
    transform, quantizer = codec.codec.transform, codec.codec.quantizer
    if not isinstance(transform, BlockedPCA | SeparableKLT) or not isinstance(quantizer, Uniform):
        msg = (
            f"{transform.name!r} with {quantizer.name!r} cannot be put into a graph: only a "
            "blocked PCA or a separable KLT with a uniform quantizer can"
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


def _beside(values: NDArray[np.float32], axes: int) -> NDArray[np.float32]:
    """A value for each component beside (n, components, positions...); a scalar stays one."""
    return values.reshape(-1, *(1,) * axes) if values.ndim else values
