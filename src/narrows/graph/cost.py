"""Bytes and multiply-accumulates of every node of a model, for one sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from narrows.graph.cost_rules import Call, rule_for
from narrows.graph.load import Model
from narrows.graph.stored import element_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """What one node costs for one sample.

    Args:
        name: The node's name.
        op_type: Its operator.
        macs: Multiply-accumulates; 0 where no rule is known.
        weight_bytes: Weights it reads, as stored; those it gets through DequantizeLinear and other
            constant nodes included. Weights that several nodes share count at each.
        in_bytes: Data it reads.
        out_bytes: Data it makes.
        rule_known: Whether the operator is in the tables of cost_rules.
        is_data: Whether it works on data; False: on constants or shapes, done once at load.
        kernel: Kernel size of a convolution or pooling, else ().
        stride: Its strides, else ().
        group: Groups of a convolution, else 1.
        in_shape: Shape of its first data input at batch 1.
        out_shape: Shape of its first output at batch 1.
        reads: The data it reads, by name.
        makes: What it makes, by name.
        decoded: Elements of each constant that reaches it through DequantizeLinear: weights that
            an integer kernel reads as they are stored and any other has made floats in every call.
    """

    name: str
    op_type: str
    macs: int
    weight_bytes: int
    in_bytes: int
    out_bytes: int
    rule_known: bool
    is_data: bool
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    group: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    decoded: tuple[int, ...] = ()


def node_costs(model: Model) -> tuple[NodeCost, ...]:
    """Cost of every node, in execution order."""
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    weights = weights_of_nodes(model)
    return tuple(
        _node_cost(model, position, stored, sum(size_bytes(stored[n]) for n in weights[position]))
        for position in range(len(model.flow.nodes))
    )


def total_macs(model: Model) -> int:
    """Multiply-accumulates of the whole model for one sample."""
    return sum(cost.macs for cost in node_costs(model))


def unknown_operators(model: Model) -> Mapping[str, int]:
    """Operators without a rule, and how often they are called; their MACs are missing."""
    counts: dict[str, int] = {}
    for position, node in enumerate(model.flow.nodes):
        if model.flow.is_data(position) and rule_for(node.op_type, node.domain) is None:
            title = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            counts[title] = counts.get(title, 0) + 1
    return counts


def size_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initializer as a raw array."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    return int(-(-math.prod(tensor.dims) * element_bits(tensor.data_type) // 8))


def weights_of_nodes(model: Model) -> tuple[frozenset[str], ...]:
    """For each node the initializers it reads, directly or through nodes that are not data."""
    flow = model.flow
    stored = {tensor.name for tensor in model.proto.graph.initializer}
    found: list[frozenset[str]] = []
    for reads in flow.reads:
        names = {name for name in reads if name in stored}
        for name in reads:
            if name in flow.producer and name not in flow.data:
                names |= found[flow.producer[name]]
        found.append(frozenset(names))
    return tuple(found)


def _node_cost(
    model: Model, position: int, stored: Mapping[str, onnx.TensorProto], weight_bytes: int
) -> NodeCost:
    flow, node = model.flow, model.flow.nodes[position]
    is_data = flow.is_data(position)
    rule = rule_for(node.op_type, node.domain)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = tuple(_shape(name, model, stored) for name in node.input)
    outputs = tuple(_shape(name, model, stored) for name in node.output)
    data_inputs = [name for name in flow.reads[position] if name in flow.data]
    kernel = tuple(attributes.get("kernel_shape", ()))
    if not kernel and "Conv" in node.op_type and rule:
        kernel = inputs[3 if node.op_type == "QLinearConv" else 1][2:]
    elif not kernel and node.op_type == "QLinearConv":
        kernel = inputs[3][2:]
    call = Call(attributes=attributes, inputs=inputs, outputs=outputs)
    return NodeCost(
        name=node.name,
        op_type=node.op_type,
        macs=rule(call) if rule and is_data else 0,
        weight_bytes=weight_bytes,
        in_bytes=_sum_bytes(model, data_inputs),
        out_bytes=_sum_bytes(model, node.output),
        rule_known=rule is not None or not is_data,
        is_data=is_data,
        kernel=kernel,
        stride=tuple(attributes.get("strides", ())) or (1,) * len(kernel),
        group=int(attributes.get("group", 1)),
        in_shape=_shape(data_inputs[0], model, stored) if data_inputs else (),
        out_shape=outputs[0] if outputs else (),
        reads=tuple(data_inputs),
        makes=tuple(name for name in node.output if name),
        decoded=tuple(_decoded(model, position)),
    )


def _decoded(model: Model, position: int) -> Iterable[int]:
    flow = model.flow
    for name in flow.reads[position]:
        if name in flow.data or name not in flow.producer:
            continue
        if flow.nodes[flow.producer[name]].op_type == "DequantizeLinear":
            yield math.prod(model.tensors[name].at(1))


def _shape(name: str, model: Model, stored: Mapping[str, onnx.TensorProto]) -> tuple[int, ...]:
    if name in model.tensors:
        return model.tensors[name].at(1)
    return tuple(stored[name].dims) if name in stored else ()


def _sum_bytes(model: Model, names: Iterable[str]) -> int:
    return sum(model.tensors[name].size_bytes for name in names if name in model.tensors)
