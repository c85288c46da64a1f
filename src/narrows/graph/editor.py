"""Add nodes before or after those of a copied model."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from narrows.errors import ModelError

PREFIX = "narrows/"
_OLDEST_OPSET = 11
_AXES_ARE_INPUTS = 13  # of ReduceSum


@final
class GraphEditor:
    """A copy of a model, and nodes to be put before or after its own.

    Args:
        proto: Not changed.
        reserved: Names that the new nodes will use.
        drop_inputs: Whether new inputs replace the model's.
        drop_outputs: Whether new outputs replace the model's.

    Raises:
        ModelError: The operator set is too old, or a reserved name is taken.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        reserved: set[str],
        *,
        drop_inputs: bool = False,
        drop_outputs: bool = False,
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
        clash = taken & reserved | {name for name in taken if name.startswith(PREFIX)}
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
            operator, inputs, [output], name=PREFIX + output.removeprefix(PREFIX), **attributes
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

    def clip(self, x: str, most: NDArray[Any]) -> str:
        """To -most … most; the operator Clip takes scalars only, and is faster than the two."""
        if not most.ndim:
            return self.add("Clip", x, self.floats(-most), self.floats(most))
        return self.add("Max", self.add("Min", x, self.floats(most)), self.floats(-most))

    def reduce_sum(self, x: str, axes: range, name: str) -> None:
        """Sum over axes, which an operator set takes in one of two ways."""
        if self._opset >= _AXES_ARE_INPUTS:
            self.add("ReduceSum", x, self.integers(list(axes)), name=name, keepdims=0)
        else:
            self.add("ReduceSum", x, name=name, axes=list(axes), keepdims=0)

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
        return f"{PREFIX}{what}{self._count}"
