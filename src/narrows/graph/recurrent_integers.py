"""Recurrent layers in 8-bit integers: the GRU and LSTM nodes of a model and what replaces them.

GRU     MatMulInteger for all steps at once, then a Scan of integer steps (`recurrent_gru`)
LSTM    DynamicQuantizeLSTM of com.microsoft: weights in int8 with a step for each row of a gate;
        x and, at every step, the state get their step from the values that are there, those of
        all samples of a batch together
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import onnx
from onnx import helper

from narrows.graph.calibrate import Range
from narrows.graph.flow import reads_of
from narrows.graph.load import Model
from narrows.graph.recurrent import optional_input
from narrows.graph.recurrent_gru import integer_gru
from narrows.graph.recurrent_parts import Levels, Replacement, Surroundings

GruRange = tuple[Range, float]
"""Range of the input, and largest magnitude of a state."""

_INITIAL: Final = 5
_LSTM_INPUTS: Final = 8
_MICROSOFT: Final = "com.microsoft"


def watched(model: Model, names: Collection[str]) -> list[str]:
    """The data whose ranges the integer forms of layers need: what GRUs read.

    Args:
        model: In floating point.
        names: Of the layers' nodes.
    """
    found = [
        name
        for node in _grus(model, names)
        for name in (node.input[0], optional_input(node, _INITIAL))
        if name in model.tensors
    ]
    return list(dict.fromkeys(found))


def gru_ranges(
    model: Model, names: Collection[str], ranges: Mapping[str, Range]
) -> dict[str, GruRange]:
    """For each GRU the range of its input and the largest magnitude that its states can have.

    A state is a mean of the state before and of a tanh: it is in -1 … 1, or where the first ones
    are larger, no larger than these.

    Args:
        model: In floating point.
        names: Of the layers' nodes.
        ranges: Of what `watched` names.
    """
    around = Surroundings.of(model.proto.graph)
    found = {}
    for node in _grus(model, names):
        initial, largest = optional_input(node, _INITIAL), 1.0
        if initial in ranges:
            largest = max(largest, -ranges[initial][0], ranges[initial][1])
        elif initial:
            largest = max(largest, float(np.abs(around.array(initial)).max(initial=0.0)))
        found[node.name] = (ranges[node.input[0]], largest)
    return found


def with_integer_layers(
    proto: onnx.ModelProto,
    names: Collection[str],
    grus: Mapping[str, GruRange],
    levels: Levels,
) -> onnx.ModelProto:
    """A copy in which recurrent layers are computed in integers.

    A GRU becomes two operators with weights: a MatMulInteger, called as the layer with " input"
    behind it, and a Scan, called as the layer.

    Args:
        proto: With the layers as they were.
        names: Of the nodes of the layers, all of which can be rewritten (`recurrent_layers`).
        grus: For each GRU among them what `gru_ranges` found.
        levels: How levels are chosen.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph, around = made.graph, Surroundings.of(made.graph)
    nodes: list[onnx.NodeProto] = []
    constants = list(graph.initializer)
    for node in graph.node:
        if node.name not in names:
            nodes.append(node)
            continue
        if node.op_type == "GRU":
            found = integer_gru(node, around, levels, *grus[node.name])
        else:
            found = _integer_lstm(node, around, levels)
        nodes += found.nodes
        constants += found.constants
    outputs = {value.name for value in graph.output}
    nodes = _read(nodes, outputs)
    read = outputs.union(*(reads_of(node) for node in nodes))
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [tensor for tensor in constants if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if _MICROSOFT in {n.domain for n in nodes} - {entry.domain for entry in made.opset_import}:
        made.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return made


def _grus(model: Model, names: Collection[str]) -> list[onnx.NodeProto]:
    return [node for node in model.flow.nodes if node.op_type == "GRU" and node.name in names]


def _integer_lstm(node: onnx.NodeProto, around: Surroundings, levels: Levels) -> Replacement:
    made = Replacement(name=node.name)
    inputs = [*node.input, *[""] * (_LSTM_INPUTS - len(node.input))]
    for place, what in ((1, "W"), (2, "R")):
        values = around.array(node.input[place])
        ways, rows, columns = values.shape
        whole, steps = levels.weights(values.reshape(-1, columns))
        moved = whole.reshape(values.shape).transpose(0, 2, 1)
        inputs[place] = made.store(moved, what)
        inputs.append(made.store(steps.reshape(ways, rows), f"{what} steps"))
        inputs.append(made.store(np.zeros((ways, rows), np.int8), f"{what} zeros"))
    kernel = helper.make_node(
        "DynamicQuantizeLSTM", inputs, node.output, name=node.name, domain=_MICROSOFT
    )
    kernel.attribute.extend(a for a in node.attribute if a.name in ("hidden_size", "direction"))
    made.nodes.append(kernel)
    return made


def _read(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that somebody reads: a rewritten layer may leave a DequantizeLinear behind."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(reads_of(node))
    return kept[::-1]
