"""A GRU in 8-bit integers: one product for all steps, and a loop over what is left to do.

x ─► levels ─► MatMulInteger, all steps and directions ─► Cast ─► Mul ─► + bias ─┬► gates of x
state 0 ─────────────────────────────────────────► Scan of `GruCell` ◄───────────┴► candidate
                                                     └► states of all steps, last states

sums = step_x · step_w · (levels - zero) @ W, one step_w for each column of W
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from narrows.graph.calibrate import Range
from narrows.graph.recurrent import directions, optional_input
from narrows.graph.recurrent_cell import GruCell
from narrows.graph.recurrent_parts import Levels, Replacement, Surroundings

Array = NDArray[Any]

_BIAS, _INITIAL = 3, 5
_BATCH_AXIS = np.array([1], np.int64)


def integer_gru(
    node: onnx.NodeProto, around: Surroundings, levels: Levels, x: Range, largest: float
) -> Replacement:
    """What takes the place of a GRU.

    Args:
        node: The layer, whose weights are stored.
        around: The graph it lies in.
        levels: How levels are chosen.
        x: Range of its input; not read where that is quantized already.
        largest: Magnitude of a state.
    """
    made = Replacement(name=node.name)
    weights = _Weights.of(node, around)
    outputs = [*node.output, ""][:2]
    cell = GruCell(
        name=node.name,
        hidden_size=weights.size,
        backward=directions(node),
        reset_after=weights.reset_after,
        sequence=bool(outputs[0]),
    )
    _store_cell(made, cell, weights, levels, largest)
    whole = _levels(made, node.input[0], around, levels, x)
    sums = _sums(made, weights, levels, whole)
    initial = optional_input(node, _INITIAL)
    states = _given(made, initial, cell) if initial else _zeros(made, whole[0], cell)
    ways = [str(way) for way in range(len(cell.backward))]
    last, every = [f"{node.name} {way} last" for way in ways], []
    if cell.sequence:
        every = [f"{node.name} {way} all" for way in ways]
    made.nodes.append(cell.node([*states, *sums], [*last, *every]))
    for name, parts, axis in ((outputs[0], every, 1), (outputs[1], last, 0)):
        if name:
            _join(made, parts, name, axis=axis)
    return made


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Of a GRU in floating point, gates in ONNX's order z, r, candidate.

    Args:
        W: (directions, 3 h, inputs).
        R: (directions, 3 h, h).
        B: (directions, 2, 3 h), of W and of R.
        reset_after: Whether the reset gate acts after the product.
    """

    W: Array
    R: Array
    B: Array
    reset_after: bool

    @classmethod
    def of(cls, node: onnx.NodeProto, around: Surroundings) -> _Weights:
        """Those of a node."""
        R = around.array(node.input[2])
        bias = optional_input(node, _BIAS)
        B = around.array(bias) if bias else np.zeros((len(R), 2, R.shape[1]), np.float32)
        after = any(a.name == "linear_before_reset" and a.i for a in node.attribute)
        W = around.array(node.input[1])
        return cls(W=W, R=R, B=B.reshape(len(R), 2, -1), reset_after=after)

    @property
    def size(self) -> int:
        """Units of a direction."""
        return int(self.R.shape[2])

    def input_bias(self) -> Array:
        """All that can be added before the loop."""
        found: Array = self.B.sum(axis=1)
        if self.reset_after:
            found[:, 2 * self.size :] = self.B[:, 0, 2 * self.size :]
        return found.reshape(-1)


def _store_cell(
    made: Replacement, cell: GruCell, weights: _Weights, levels: Levels, largest: float
) -> None:
    """Store what the body of the loop reads."""
    step, zero = levels.state(largest)
    made.store(step, "step")
    made.store(zero, "zero")
    made.store(np.array([weights.size] * 2), "halves")
    if cell.reset_after:
        made.store(np.array([2 * weights.size, weights.size]), "parts")
    for way, R in enumerate(weights.R):
        rows = iter(np.split(R, [2 * weights.size] if not cell.reset_after else []))
        for product in cell.products():
            whole, steps = levels.weights(next(rows))
            made.store(whole.T, f"{way} {product}")
            made.store(step * steps, f"{way} {product} steps")
        if cell.reset_after:
            made.store(weights.B[way, 1, 2 * weights.size :], f"{way} bias")


def _levels(
    made: Replacement, x: str, around: Surroundings, levels: Levels, found: Range
) -> tuple[str, Array, str]:
    """Levels of the input, their step, and the name of their zero point."""
    if already := around.quantized(x):
        return already
    step, zero = levels.data(found)
    names = [made.store(step, "x step"), made.store(zero, "x zero")]
    return made.add("QuantizeLinear", [x, *names], "x levels"), step, names[1]


def _sums(
    made: Replacement, weights: _Weights, levels: Levels, whole: tuple[str, Array, str]
) -> list[str]:
    """What x adds to gates and candidate of each direction, at all steps."""
    x, step, zero = whole
    columns, steps = levels.weights(weights.W.reshape(-1, weights.W.shape[2]))
    found = made.add("MatMulInteger", [x, made.store(columns.T, "W"), zero], "input")
    found = made.add("Cast", [found], "input float", to=TensorProto.FLOAT)
    found = made.add("Mul", [found, made.store(step * steps, "W steps")], "input scaled")
    found = made.add("Add", [found, made.store(weights.input_bias(), "bias")], "input sum")
    sizes, whats = [], []
    for way in range(len(weights.W)):
        sizes += [2 * weights.size, weights.size]
        whats += [f"{way} gates", f"{way} candidate"]
    return made.split(found, sizes, whats, axis=2)


def _given(made: Replacement, initial: str, cell: GruCell) -> list[str]:
    """The first states, of each direction."""
    ways = range(len(cell.backward))
    parts = made.split(initial, [1 for _ in ways], [f"{way} first of all" for way in ways], axis=0)
    axis = made.store(np.array([0]), "direction axis")
    return [
        made.add("Squeeze", [part, axis], f"{way} first")
        for way, part in zip(ways, parts, strict=True)
    ]


def _zeros(made: Replacement, x: str, cell: GruCell) -> list[str]:
    """The first states where none are given; their number is the batch of x."""
    shape = made.add("Shape", [x], "shape")
    batch = made.add("Gather", [shape, made.store(_BATCH_AXIS, "batch axis")], "batch")
    size = made.store(np.array([cell.hidden_size]), "size")
    both = made.add("Concat", [batch, size], "state shape", axis=0)
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    return [made.add("ConstantOfShape", [both], "zeros", value=zero)] * len(cell.backward)


def _join(made: Replacement, parts: list[str], output: str, *, axis: int) -> None:
    """Directions side by side on an axis of their own."""
    what = "all" if axis else "last"
    place = made.store(np.array([axis]), f"axis of {what}")
    if len(parts) == 1:
        made.add("Unsqueeze", [parts[0], place], f"{what} states", output=output)
        return
    apart = [
        made.add("Unsqueeze", [part, place], f"{way} {what} apart")
        for way, part in enumerate(parts)
    ]
    made.add("Concat", apart, f"{what} states", output=output, axis=axis)
