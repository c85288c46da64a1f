"""One time step of a GRU in 8-bit integers, as the body of a Scan over time.

    state ─► levels -127 … 127 ─► MatMulInteger ─► Cast ─► Mul ─┬─► + gates of x ─► sigmoid ─► z, r
    (n, h)                        weights int8             steps └─► + bias, · r, + candidate of x
    next state = n + z · (state - n),  n = tanh(candidate)

Both directions of a layer share one Scan. Its weights are initializers of the graph around it:
they are stored, counted and packed once, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import onnx
from onnx import TensorProto, helper

_EIGHT_BITS: Final = (TensorProto.UINT8, TensorProto.INT8)
_FLOAT: Final = (TensorProto.FLOAT,)
_MOST_UNITS: Final = 2**16  # whose R alone would have 12 GB


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GruCell:
    """What a Scan over the steps of a GRU is made by.

    Args:
        name: Of the Scan; names of everything in it begin so.
        hidden_size: Units of a direction.
        backward: For each direction whether it runs backward in time.
        reset_after: Whether the reset gate acts after the product with the state
            (linear_before_reset, as in PyTorch) or before it, on the state.
        sequence: Whether the states of all steps are wanted, or the last ones alone.

    Example:
        >>> cell = GruCell(name="g", hidden_size=4, backward=(False,), reset_after=True)
        >>> cell.node(["h0", "gates", "candidate"], ["h", "y"]).op_type
        'Scan'
        >>> {name: shape for name, (_, shape) in cell.constants().items() if len(shape) == 2}
        {'g 0 state': (4, 12)}
    """

    name: str
    hidden_size: int
    backward: tuple[bool, ...]
    reset_after: bool
    sequence: bool = True

    def constants(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """The initializers that the body reads: name → (types it may have, shape)."""
        size = self.hidden_size
        found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            f"{self.name} step": (_FLOAT, ()),
            f"{self.name} zero": (_EIGHT_BITS, ()),
            f"{self.name} halves": ((TensorProto.INT64,), (2,)),
        }
        if self.reset_after:
            found[f"{self.name} parts"] = ((TensorProto.INT64,), (2,))
        for way in range(len(self.backward)):
            for product, width in self.products().items():
                found[f"{self.name} {way} {product}"] = ((TensorProto.INT8,), (size, width))
                found[f"{self.name} {way} {product} steps"] = (_FLOAT, (width,))
            if self.reset_after:
                found[f"{self.name} {way} bias"] = (_FLOAT, (size,))
        return found

    def products(self) -> dict[str, int]:
        """The products of a step with the state, or with what is left of it: name → columns."""
        size = self.hidden_size
        return {"state": 3 * size} if self.reset_after else {"state": 2 * size, "reset": size}

    def node(self, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
        """The Scan.

        Args:
            inputs: First states (n, h) of the directions, then for each direction what x adds to
                its gates z and r (steps, n, 2 h) and to its candidate (steps, n, h).
            outputs: Last states of the directions, then their states of all steps.
        """
        ways = range(len(self.backward))
        body = _Body(cell=self)
        made = [body.direction(way) for way in ways]
        size = self.hidden_size
        given = [body.value(way, "before", size) for way in ways]
        for way in ways:
            given += [body.value(way, "gates x", 2 * size), body.value(way, "candidate x", size)]
        ends = [body.value(way, what, size) for what in made[0] for way in ways]
        graph = helper.make_graph(body.nodes, f"{self.name} step", given, ends)
        attributes: dict[str, Any] = {
            "scan_input_directions": [int(back) for back in self.backward for _ in range(2)]
        }
        if self.sequence:
            attributes["scan_output_directions"] = [int(back) for back in self.backward]
        return helper.make_node(
            "Scan",
            inputs,
            outputs,
            name=self.name,
            body=graph,
            num_scan_inputs=2 * len(self.backward),
            **attributes,
        )


@dataclass(slots=True, kw_only=True)
class _Body:
    """The nodes of a step."""

    cell: GruCell
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def value(self, way: int, what: str, width: int) -> onnx.ValueInfoProto:
        """What goes into a step or comes out of it."""
        return helper.make_tensor_value_info(
            self._name(way, what), TensorProto.FLOAT, [None, width]
        )

    def direction(self, way: int) -> tuple[str, ...]:
        """Add a direction; tells what of it comes out."""
        name = self.cell.name
        if self.cell.reset_after:
            self._product(way, "before", "state", "sums")
            self._add(way, "Split", ["sums", f"{name} parts"], ["gates h", "candidate h"])
            self._gates(way)
            self._add(way, "Add", ["candidate h", f"{name} {way} bias"], ["candidate b"])
            self._add(way, "Mul", ["reset gate", "candidate b"], ["candidate r"])
        else:
            self._product(way, "before", "state", "gates h")
            self._gates(way)
            self._add(way, "Mul", ["reset gate", "before"], ["left"])
            self._product(way, "left", "reset", "candidate r")
        self._add(way, "Add", ["candidate x", "candidate r"], ["candidate"])
        self._add(way, "Tanh", ["candidate"], ["new"])
        self._add(way, "Sub", ["before", "new"], ["change"])
        self._add(way, "Mul", ["update gate", "change"], ["kept"])
        self._add(way, "Add", ["new", "kept"], ["after"])
        if not self.cell.sequence:
            return ("after",)
        self._add(way, "Identity", ["after"], ["out"])  # no value may come out twice
        return ("after", "out")

    def _gates(self, way: int) -> None:
        self._add(way, "Add", ["gates x", "gates h"], ["gates"])
        self._add(way, "Sigmoid", ["gates"], ["open"])
        self._add(way, "Split", ["open", f"{self.cell.name} halves"], ["update gate", "reset gate"])

    def _product(self, way: int, given: str, product: str, made: str) -> None:
        """A product in integers, as floats; Cast and Mul beat DequantizeLinear of int32."""
        step, zero = f"{self.cell.name} step", f"{self.cell.name} zero"
        weight = f"{self.cell.name} {way} {product}"
        self._add(way, "QuantizeLinear", [given, step, zero], [f"{product} levels"])
        self._add(way, "MatMulInteger", [f"{product} levels", weight, zero], [f"{product} whole"])
        self._add(way, "Cast", [f"{product} whole"], [f"{product} float"], to=TensorProto.FLOAT)
        self._add(way, "Mul", [f"{product} float", f"{weight} steps"], [made])

    def _add(
        self, way: int, operator: str, given: list[str], made: list[str], **attributes: Any
    ) -> None:
        constants = self.cell.constants()
        inputs = [name if name in constants else self._name(way, name) for name in given]
        outputs = [self._name(way, name) for name in made]
        if operator == "Split":
            attributes["axis"] = -1
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)
        )

    def _name(self, way: int, what: str) -> str:
        return f"{self.cell.name} step {way} {what}"


def is_gru_cell(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a Scan is exactly what `GruCell.node` makes, with constants of the right shapes.

    Other loops are not run: nothing bounds what their bodies do. This one costs what a GRU costs.

    Args:
        node: Of the outermost graph.
        stored: Its initializers by name.
    """
    ways, left = divmod(len(node.input), 3)
    body = next((a.g for a in node.attribute if a.name == "body"), None)
    if node.op_type != "Scan" or node.domain or left or ways not in (1, 2) or body is None:
        return False
    if not body.input or not body.input[0].type.tensor_type.shape.dim:
        return False
    size = body.input[0].type.tensor_type.shape.dim[-1].dim_value
    if not 0 < size < _MOST_UNITS:
        return False
    orders = ((False,), (True,)) if ways == 1 else ((False, True),)
    for backward in orders:
        for reset_after in (True, False):
            cell = GruCell(
                name=node.name,
                hidden_size=size,
                backward=backward,
                reset_after=reset_after,
                sequence=len(node.output) == 2 * ways,
            )
            if cell.node(node.input, node.output) == node:
                return all(
                    name in stored
                    and stored[name].data_type in types
                    and tuple(stored[name].dims) == shape
                    for name, (types, shape) in cell.constants().items()
                )
    return False
