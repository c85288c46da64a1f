"""The networks a device is timed on: probes in floats, and in int8 by quantize nodes around them.

The time of an integer kernel depends on sizes, not on values. So nothing is calibrated: every
tensor has the same made-up scale, and quantizing a probe takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from narrows.graph.quantize import Integer, default_activation
from narrows.measure.probes import probe_networks

Floats = NDArray[np.float32]

_SCALE, _ZERO = "scale", "zero"
_STEP = np.float32(0.05)
_MIDDLE = {"uint8": 117, "int8": -11}
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_QUANTIZED = _PRODUCTS | frozenset(
    {"Add", "Mul", "Concat", "Sigmoid", "Softmax", "AveragePool", "GlobalAveragePool"}
    | {"MaxPool", "Reshape", "Transpose", "Flatten", "Split"}
)
_ABSORBED = frozenset({"Relu", "Clip"})


def profile_networks(count: int, *, seed: int = 0) -> Iterator[onnx.ModelProto]:
    """What a device is timed on: of twelve networks seven in floats, four in int8, one in part.

    Each is made when it is asked for.
    """
    for index, proto in enumerate(probe_networks(count, seed=seed)):
        if index % 3 == 2:
            yield in_integers(proto)
        else:
            yield with_integer_weights(proto) if index % 12 == 6 else proto


def in_integers(proto: onnx.ModelProto, *, activation: Integer | None = None) -> onnx.ModelProto:
    """A probe network with int8 weights per channel and activations in 8 bits.

    A Relu or Clip right after a quantized operator is left out: rounding to 8 bits cuts as well.

    Args:
        proto: In float32.
        activation: Type of activations; None for what `quantize_static` takes on this processor.
    """
    kind = np.dtype(activation or default_activation())
    return _Quantizer(source=proto.graph, activation=kind).model(proto)


def with_integer_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A probe network with int8 weights alone, which become floats again in every call."""
    return _Quantizer(source=proto.graph, activation=None).model(proto)


@dataclass(slots=True, kw_only=True)
class _Quantizer:
    """Rewrites one graph.

    Args:
        source: The graph in floats.
        activation: Type of activations; None: they stay floats.
    """

    source: onnx.GraphProto
    activation: np.dtype[Any] | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)

    def model(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """The rewritten network."""
        self._store(_SCALE, _STEP)
        if self.activation is not None:
            self._store(_ZERO, np.asarray(_MIDDLE[self.activation.name], self.activation))
        floats = {tensor.name: tensor for tensor in self.source.initializer}
        neighbours = self._neighbours()
        if self.activation is not None and neighbours["x"] & _QUANTIZED:
            self._round_trip("x")
        maker: dict[str, str] = {}
        for node in _without_functions(self.source.node):
            before = maker.get(node.input[0], "")
            maker.update(dict.fromkeys(node.output, node.op_type))
            if self.activation is not None and node.op_type in _ABSORBED and before in _QUANTIZED:
                self.replaced[node.output[0]] = self.replaced.get(node.input[0], node.input[0])
                continue
            self._add(node, floats)
            for name in node.output:
                if self.activation is not None and neighbours[name] & _QUANTIZED:
                    self._round_trip(name)
        return self._finished(proto)

    def _neighbours(self) -> dict[str, set[str]]:
        """The operators that make or read each value."""
        found: dict[str, set[str]] = {}
        for node in _without_functions(self.source.node):
            for name in (*node.input, *node.output):
                found.setdefault(name, set()).add(node.op_type)
        return found

    def _store(self, name: str, values: Any) -> str:
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _round_trip(self, name: str) -> None:
        """Quantize and dequantize a value; who reads it reads that."""
        whole, back = f"{name}_whole", f"{name}_back"
        self.nodes.append(
            helper.make_node("QuantizeLinear", [name, _SCALE, _ZERO], [whole], name=f"{name}_q")
        )
        self.nodes.append(
            helper.make_node("DequantizeLinear", [whole, _SCALE, _ZERO], [back], name=f"{name}_dq")
        )
        self.replaced[name] = back

    def _add(self, node: onnx.NodeProto, floats: dict[str, onnx.TensorProto]) -> None:
        """Add a node that reads quantized values and constants where it has them."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self.replaced.get(name, name) for name in node.input]
        constants = {
            place: numpy_helper.to_array(floats[name])
            for place, name in enumerate(node.input)
            if name in floats
        }
        if node.op_type in _PRODUCTS and 1 in constants:
            copy.input[1], scale = self._weight(node, constants[1])
            if 2 in constants and self.activation is not None:
                copy.input[2] = self._bias(node.input[2], constants[2], scale)
        elif self.activation is not None and node.op_type in ("Add", "Mul"):
            for place, values in constants.items():
                copy.input[place] = self._decoded(
                    node.input[place], values.astype(self.activation), _SCALE, _ZERO
                )
        self.nodes.append(copy)

    def _weight(self, node: onnx.NodeProto, values: Floats) -> tuple[str, Floats]:
        """Symmetric int8, one scale for each output channel; gives the scales too."""
        rows = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if rows else values.ndim - 1
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True), 1e-6) / np.float32(127)
        name = node.input[1]
        scales = self._store(f"{name}_scale", scale.reshape(-1))
        zeros = self._store(f"{name}_zero", np.zeros(scale.size, np.int8))
        whole = np.rint(values / scale).astype(np.int8)
        return self._decoded(name, whole, scales, zeros, axis=axis), scale.reshape(-1)

    def _bias(self, name: str, values: Floats, scale: Floats) -> str:
        """int32 at the scale of the products, as integer kernels want it."""
        scales = self._store(f"{name}_scale", _STEP * scale)
        zeros = self._store(f"{name}_zero", np.zeros(values.shape, np.int32))
        return self._decoded(name, values.astype(np.int32), scales, zeros, axis=0)

    def _decoded(self, name: str, whole: NDArray[Any], *decoding: str, **attributes: int) -> str:
        """A stored integer tensor made floats by a node."""
        made = f"{name}_float"
        if not any(made in node.output for node in self.nodes):
            reads = [self._store(f"{name}_whole", whole), *decoding]
            self.nodes.append(
                helper.make_node("DequantizeLinear", reads, [made], name=f"{name}_dq", **attributes)
            )
        return made

    def _finished(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        graph = self.source
        outputs = [onnx.ValueInfoProto() for _ in graph.output]
        for made, asked in zip(outputs, graph.output, strict=True):
            made.CopyFrom(asked)
            made.name = self.replaced.get(asked.name, asked.name)
        weights = (*graph.initializer, *self.stored)
        made_graph = helper.make_graph(self.nodes, graph.name, graph.input, outputs, weights)
        return helper.make_model(
            made_graph, opset_imports=proto.opset_import, ir_version=proto.ir_version
        )


def _without_functions(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """HardSwish as the two operators that quantizing tools see in its place."""
    for node in nodes:
        if node.op_type != "HardSwish":
            yield node
            continue
        read, made = node.input[0], node.output[0]
        gate = f"{made}_gate"
        yield helper.make_node(
            "HardSigmoid", [read], [gate], name=f"{node.name}_gate", alpha=1 / 6, beta=0.5
        )
        yield helper.make_node("Mul", [read, gate], [made], name=node.name)
