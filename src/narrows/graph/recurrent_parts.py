"""What the integer forms of recurrent layers are made with: levels, and the nodes of one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from narrows.graph.calibrate import Range
from narrows.graph.quantize_weights import MAX_LEVEL, weight_levels

Array = NDArray[Any]

_SEVEN_BITS: Final = 64  # so that two products with uint8 add up within 16 bits


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How levels are chosen.

    Args:
        activation: Type of data.
        per_channel: Whether each output channel of a weight has its own step.
        reduce_range: Weights of seven bits.

    Example:
        >>> step, zero = Levels().data((-1.0, 1.55))
        >>> step.item(), zero.item()
        (0.01, 100)
        >>> [part.tolist() for part in Levels(per_channel=False).weights(np.eye(2) * 127)]
        [[[127, 0], [0, 127]], [1.0, 1.0]]
    """

    activation: Literal["uint8", "int8"] = "uint8"
    per_channel: bool = True
    reduce_range: bool = False

    def weights(self, values: Array) -> tuple[Array, Array]:
        """Levels and steps of weights (outputs, inputs)."""
        most = _SEVEN_BITS if self.reduce_range else MAX_LEVEL
        if self.per_channel:
            return weight_levels(values, 0, most=most)
        levels, steps = weight_levels(values.reshape(1, -1), 0, most=most)
        return levels.reshape(values.shape), np.repeat(steps, len(values))

    def data(self, found: Range) -> tuple[Array, Array]:
        """Step and zero point of data in a range, which is made to hold zero."""
        limits = np.iinfo(self.activation)
        low, high = min(found[0], 0.0), max(found[1], 0.0)
        step = np.float32((high - low) / (limits.max - limits.min))
        if step < np.finfo(np.float32).tiny:
            step = np.float32(1.0)
        zero = np.clip(np.rint(limits.min - low / step), limits.min, limits.max)
        return np.asarray(step), np.asarray(zero, self.activation)

    def state(self, largest: float) -> tuple[Array, Array]:
        """Step and zero point of a state whose values are in -largest … largest."""
        zero = 0 if self.activation == "int8" else 128
        return np.asarray(largest / MAX_LEVEL, np.float32), np.asarray(zero, self.activation)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The graph that a layer lies in.

    Args:
        stored: Its initializers by name.
        makers: Who makes each value.
    """

    stored: Mapping[str, onnx.TensorProto]
    makers: Mapping[str, onnx.NodeProto]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Surroundings:
        """Those of a graph's layers."""
        return cls(
            stored={tensor.name: tensor for tensor in graph.initializer},
            makers={name: node for node in graph.node for name in node.output},
        )

    def array(self, name: str) -> Array:
        """The values of an initializer."""
        found: Array = numpy_helper.to_array(self.stored[name])
        return found

    def quantized(self, name: str) -> tuple[str, Array, str] | None:
        """Levels, step and name of the zero point of a value that is dequantized data."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear" or len(maker.input) < 3:
            return None
        levels, step, zero = maker.input
        if step not in self.stored or self.array(step).size != 1 or levels in self.stored:
            return None
        return levels, self.array(step).reshape(()), zero


@final
@dataclass(slots=True, kw_only=True)
class Replacement:
    """The nodes and constants that take a layer's place, named after it.

    Args:
        name: Of the layer.
        nodes: In execution order.
        constants: What they read.
    """

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(
        self, operator: str, inputs: Sequence[str], what: str, *, output: str = "", **settings: Any
    ) -> str:
        """Add a node of one output, called as `what` it is; gives the output's name."""
        name = f"{self.name} {what}"
        made = helper.make_node(operator, inputs, [output or name], name=name, **settings)
        self.nodes.append(made)
        return output or name

    def split(
        self, value: str, sizes: Sequence[int], whats: Sequence[str], *, axis: int
    ) -> list[str]:
        """Add a Split; a single part is given back as it is."""
        if len(sizes) == 1:
            return [value]
        names = [f"{self.name} {what}" for what in whats]
        sizes_name = self.store(np.array(sizes, np.int64), f"sizes of {whats[0]}")
        node = helper.make_node("Split", [value, sizes_name], names, name=names[0], axis=axis)
        self.nodes.append(node)
        return names

    def store(self, values: Array, what: str) -> str:
        """Add a constant; gives its name."""
        name = f"{self.name} {what}"
        self.constants.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name
