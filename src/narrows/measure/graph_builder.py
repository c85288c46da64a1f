"""A few lines to write an ONNX graph node by node, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import onnx
from numpy.random import Generator
from onnx import helper, numpy_helper

_OPSET = 18


@final
@dataclass(slots=True, kw_only=True)
class Builder:
    """A graph under construction.

    Args:
        shape: Of one sample.
        rng: Where weights come from.
    """

    shape: tuple[int, ...]
    rng: Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    macs: float = 0.0

    def op(self, kind: str, *reads: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        made = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, list(reads), [made], name=f"{kind}_{made}", **attributes)
        )
        return made

    def weight(self, *shape: int) -> str:
        """Add random weights scaled to keep the size of activations."""
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self.rng.standard_normal(shape, dtype=np.float32) * (2.0 / fan_in) ** 0.5
        return self.constant(values.astype(np.float32))

    def constant(self, values: Any) -> str:
        """Add a constant."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def model(self, output: str, *, rank: int = 2) -> onnx.ModelProto:
        """The finished model, batch axis symbolic."""
        kind = onnx.TensorProto.FLOAT
        given = helper.make_tensor_value_info("x", kind, ["N", *self.shape])
        made = helper.make_tensor_value_info(output, kind, ["N", *[None] * (rank - 1)])
        graph = helper.make_graph(self.nodes, "probe", [given], [made], self.weights)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9)
