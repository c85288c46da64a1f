"""The weights of a graph as matrices: which inputs each output is a sum of.

A convolution is a product of its kernel, as rows (outputs) of columns (input channel and place),
with windows of its input. Grouped convolutions are one such product for each group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph.load import Model
from narrows.graph.quantized import excluded

LEAST_VALUES: Final = 64
"""Smaller weights stay in floating point."""

Array = NDArray[Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMatrix:
    """A weight that is multiplied with data.

    Args:
        name: Of the initializer.
        node: Of the operator.
        data: The tensor it is multiplied with, or None where the sums are not followed (recurrent
            layers, transposed convolutions).
        bias: Name of the initializer added to its outputs, or None.
        shape: Of the initializer.
        groups: Products side by side.
        transposed: Whether outputs run along the last axis.
        kernel: Places of a convolution, empty for a product.
        strides: Of a convolution.
        dilations: Of a convolution.
        pads: Before and after each place axis.
        automatic: "SAME_UPPER" or "SAME_LOWER" where pads follow from the input.
    """

    name: str
    node: str
    data: str | None
    bias: str | None
    shape: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    automatic: str = ""

    def matrix(self, values: Array) -> Array:
        """The initializer as (groups, rows, columns)."""
        rows = values.reshape(-1, values.shape[-1]).T if self.transposed else values
        return rows.reshape(self.groups, rows.shape[0] // self.groups, -1)

    def values(self, matrix: Array) -> Array:
        """A matrix (groups, rows, columns) as the initializer."""
        rows = matrix.reshape(-1, matrix.shape[-1])
        return np.ascontiguousarray(rows.T if self.transposed else rows).reshape(self.shape)

    def windows(self, x: Array, most: int) -> Array:
        """Inputs of the sums, as (groups, samples, columns).

        Args:
            x: The data, of one batch.
            most: So many samples at most; they are spread over all.
        """
        if not self.kernel:
            rows = x.reshape(-1, x.shape[-1])
            return rows[:: max(1, len(rows) // most)][None]
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        pads = self._pads(x.shape[2:], spans)
        padded = np.pad(x, ((0, 0), (0, 0), *pads))
        axes = tuple(range(2, x.ndim))
        seen = sliding_window_view(padded, spans, axis=axes)
        every = [slice(None, None, step) for step in self.strides]
        inner = [slice(None, None, step) for step in self.dilations]
        seen = seen[(slice(None), slice(None), *every, *inner)]
        # (n, channels, places, kernel) with places taken far enough apart.
        apart = max(
            1, round((seen.shape[0] * prod(seen.shape[2 : x.ndim]) / most) ** (1 / len(spans)))
        )
        seen = seen[(slice(None), slice(None), *[slice(None, None, apart)] * len(spans))]
        grouped = seen.reshape(len(seen), self.groups, -1, *seen.shape[2:])
        rank = len(spans)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        columns = prod(self.shape[1:])
        return grouped.transpose(order).reshape(self.groups, -1, columns)

    def _pads(self, size: Sequence[int], spans: Sequence[int]) -> list[tuple[int, int]]:
        if not self.automatic:
            return list(self.pads)
        found = []
        for places, span, step in zip(size, spans, self.strides, strict=True):
            missing = max((-(-places // step) - 1) * step + span - places, 0)
            less, more = missing // 2, missing - missing // 2
            found.append((less, more) if self.automatic == "SAME_UPPER" else (more, less))
        return found


def weight_matrices(model: Model, exclude: Sequence[str] = ()) -> list[WeightMatrix]:
    """Every weight in float32 that is multiplied with data, in the order of the graph.

    Args:
        model: In floating point.
        exclude: What to leave out: names of nodes, types of operators, "first" and "last".

    Raises:
        ModelError: There is none.
    """
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    readers = Counter(name for node in model.proto.graph.node for name in node.input)
    left_out = excluded(model, exclude)
    found: list[WeightMatrix] = []
    for position, node in enumerate(model.flow.nodes):
        if node.name in left_out or not model.flow.is_data(position):
            continue
        for place in _PLACES.get(node.op_type, ()):
            tensor = stored.get(node.input[place]) if place < len(node.input) else None
            if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            if prod(tensor.dims) >= LEAST_VALUES and readers[tensor.name] == 1:
                found.append(_matrix(model, node, tensor, stored, readers))
    if not found:
        types = ", ".join(sorted({node.op_type for node in model.flow.nodes})[:12])
        msg = f"there are no weights to round: the model has {types}; excluded are "
        raise ModelError(msg + (", ".join(exclude) or "none"))
    return found


def initial_values(model: Model) -> dict[str, Array]:
    """The initializers of a model."""
    return {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer}


_PLACES: Final = {
    "Conv": (1,),
    "Gemm": (1,),
    "MatMul": (1,),
    "ConvTranspose": (1,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}


def _matrix(
    model: Model,
    node: onnx.NodeProto,
    tensor: onnx.TensorProto,
    stored: dict[str, onnx.TensorProto],
    readers: Counter[str],
) -> WeightMatrix:
    shape = tuple(tensor.dims)
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    bias = node.input[2] if len(node.input) > 2 and node.op_type in ("Conv", "Gemm") else ""
    plain = bias in stored and readers[bias] == 1 and given.get("beta", 1.0) == 1.0
    named = {"name": tensor.name, "node": node.name, "shape": shape}
    named |= {"bias": bias if plain else None}
    if node.op_type == "Conv":
        rank = len(shape) - 2
        automatic = given.get("auto_pad", b"NOTSET").decode()
        pads = given.get("pads", [0] * 2 * rank)
        return WeightMatrix(
            **named,
            data=node.input[0],
            groups=given.get("group", 1),
            kernel=shape[2:],
            strides=tuple(given.get("strides", [1] * rank)),
            dilations=tuple(given.get("dilations", [1] * rank)),
            pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
            automatic=automatic if automatic.startswith("SAME") else "",
        )
    straight = given.get("transA", 0) == 0 and given.get("alpha", 1.0) == 1.0
    if node.op_type == "Gemm" and straight:
        return WeightMatrix(**named, data=node.input[0], transposed=not given.get("transB", 0))
    if node.op_type == "MatMul" and len(shape) == 2:
        return WeightMatrix(**named, data=node.input[0], transposed=True)
    return WeightMatrix(**{**named, "bias": None}, data=None)
