"""The recurrent layers of a model, and which of them ONNX Runtime computes faster in integers.

GRU     products of all inputs at once, and a loop of integer steps (`recurrent_gru`): a step costs
        some ten small kernels, which only products of a large state outweigh
LSTM    DynamicQuantizeLSTM of com.microsoft, one kernel for the whole layer
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import onnx

from narrows.graph.load import Model

_GATES: Final = {"GRU": 3, "LSTM": 4}
# Where integers and floating point take equally long (benchmarks/recurrent_int8.py, one thread of
# an x86 processor with VNNI): R + share · W values a direction, since W is multiplied for all steps
# at once. Below so many steps what a call costs is spread over few, and it takes twice as many.
_SHARE_OF_W: Final = {"GRU": 0.4, "LSTM": 1.1}
_LEAST_VALUES: Final = {"GRU": 380_000, "LSTM": 120_000}
_FEW_STEPS: Final = 8
_KINDS: Final = ("GRU", "LSTM", "RNN")
_ACTIVATIONS: Final = {"GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}
_PLACES: Final = {1: "W", 2: "R", 3: "B"}
_LENGTHS, _INITIAL, _PEEPHOLES = 4, 5, 7


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentLayer:
    """A recurrent layer of a model.

    Args:
        name: Its node.
        kind: "GRU", "LSTM" or "RNN".
        hidden_size: Units of one direction.
        reason: Why it stays in floating point; "" where it is to be computed in integers.
    """

    name: str
    kind: str
    hidden_size: int
    reason: str

    @property
    def text(self) -> str:
        """One line for a report, of a layer that stays in floating point."""
        return f"{self.name} ({self.kind}) stays in floating point: {self.reason}"


def recurrent_layers(
    model: Model, *, left_out: Collection[str] = (), slower: bool = False
) -> tuple[RecurrentLayer, ...]:
    """The recurrent layers of a float model, in order, and what is to become of them.

    Args:
        model: The model.
        left_out: Names of nodes that are to stay as they are.
        slower: Take layers, too, that are so small that integers are slower.

    Example:
        >>> from narrows.graph.load import load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[5, N, 1] x) => (float[1, N, 1] h)
        ... <float[1, 3, 1] w = {1, 2, 3}, float[1, 3, 1] r = {1, 2, 3}>
        ... {[cell] y, h = GRU<hidden_size = 1>(x, w, r)}'''
        >>> model = load(onnx.parser.parse_model(text))
        >>> recurrent_layers(model)[0].reason
        '1 units over 1 inputs; below 504 integers are slower'
        >>> recurrent_layers(model, slower=True)[0].reason
        ''
    """
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    found = []
    for position, node in enumerate(model.flow.nodes):
        if node.op_type not in _KINDS or node.domain or not model.flow.is_data(position):
            continue
        size = _hidden_size(model, node)
        reason = "it is excluded" if node.name in left_out else _unfit(model, node, stored)
        if not reason and not slower:
            steps, _, inputs = model.tensors[node.input[0]].at(1)
            least = least_hidden(node.op_type, inputs=inputs, steps=steps)
            if size < least:
                reason = f"{size} units over {inputs} inputs; below {least} integers are slower"
        found.append(
            RecurrentLayer(name=node.name, kind=node.op_type, hidden_size=size, reason=reason)
        )
    return tuple(found)


def least_hidden(kind: str, *, inputs: int, steps: int) -> int:
    """Units of a direction from which a layer is computed faster in integers.

    Args:
        kind: "GRU" or "LSTM".
        inputs: Numbers that it reads at a step.
        steps: In time.

    Example:
        >>> least_hidden("GRU", inputs=300, steps=50), least_hidden("LSTM", inputs=112, steps=50)
        (301, 123)
    """
    values = _LEAST_VALUES[kind] * (1 if steps >= _FEW_STEPS else 2) / _GATES[kind]
    half = _SHARE_OF_W[kind] * inputs / 2
    return math.ceil(math.sqrt(half**2 + values) - half)  # h (h + share · inputs) = values


def directions(node: onnx.NodeProto) -> tuple[bool, ...]:
    """For each direction of a layer whether it runs backward in time."""
    told = {a.name: a.s for a in node.attribute}.get("direction", b"forward")
    return {b"reverse": (True,), b"bidirectional": (False, True)}.get(told, (False,))


def optional_input(node: onnx.NodeProto, place: int) -> str:
    """The name of an input that may be absent; "" where it is."""
    return node.input[place] if len(node.input) > place else ""


def _hidden_size(model: Model, node: onnx.NodeProto) -> int:
    made = next(name for name in node.output if name in model.tensors)
    return model.tensors[made].at(1)[-1]


def _unfit(model: Model, node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> str:
    """Why a layer cannot be computed in integers; "" if it can."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "RNN":
        return "there is no integer form of this operator"
    if attributes.get("layout"):
        return "its layout is 1, batch first: export it with layout 0"
    if reason := _other_cell(node, attributes):
        return reason
    if optional_input(node, _LENGTHS):
        return f"it reads sequence_lens ({node.input[_LENGTHS]!r}): give sequences of one length"
    if optional_input(node, _PEEPHOLES):
        return "it has peepholes (input P), which have no integer form"
    for place, what in _PLACES.items():
        name = optional_input(node, place)
        if name and name not in stored:
            return f"its {what} ({name!r}) is computed and not stored: fold it into a constant"
    given = model.tensors.get(node.input[0])
    if given is None or given.dtype != "float32" or node.input[0] not in model.flow.data:
        return f"its input {node.input[0]!r} is not data of float32"
    return ""


def _other_cell(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> str:
    """What sets a cell's equations apart from the usual ones; "" if nothing."""
    usual = _ACTIVATIONS[node.op_type] * len(directions(node))
    told = [name.decode() for name in attributes.get("activations", [])]
    if told and [name.lower() for name in told] != usual:
        return f"its activations are {', '.join(told)}, not sigmoid and tanh"
    if "clip" in attributes:
        return f"it clips what it activates (clip = {attributes['clip']:g})"
    if attributes.get("input_forget"):
        return "its input and forget gates are coupled (input_forget = 1)"
    return ""
