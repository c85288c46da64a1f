"""Head and tail for a cut, and the check that together they are the whole.

    input ──head──► feature ──tail──► outputs

What crosses besides the feature is either constant (copied into both parts) or depends on shapes
alone; the tail recomputes the latter from the batch size that it reads off the feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.errors import CutError, ModelError
from narrows.graph.cuts import Cut
from narrows.graph.flow import SHAPE_OPERATORS
from narrows.graph.load import Model, TensorInfo
from narrows.graph.ort import copy_weights, run, session
from narrows.graph.probe import declare

Array = NDArray[Any]

# Outputs that differ less among samples than this many tolerances would hide an error.
_SPREAD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The two halves: None where there is nothing to compute (head of cut 0, tail of the last)."""

    head: onnx.ModelProto | None
    tail: onnx.ModelProto | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """How far head then tail is from the whole.

    Args:
        exact: Whether every bit of every output is the same.
        error: Largest |difference| over the largest |output|.
        optimised: Whether the runtime's graph optimisations were on.
    """

    exact: bool
    error: float
    optimised: bool


def split(model: Model, cut: Cut) -> Parts:
    """Split a model at a cut; the model is not changed.

    Raises:
        CutError: The tensor does not separate this model.

    Example:
        >>> from narrows.graph import find_cuts, load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 4] y) {a = Relu(x) b = Exp(a) y = Add(a, b)}'''
        >>> model = load(onnx.parser.parse_model(text))
        >>> parts = split(model, find_cuts(model)[1])
        >>> [node.op_type for node in parts.tail.graph.node], parts.tail.graph.input[0].name
        (['Exp', 'Add'], 'a')
    """
    if cut.tensor == model.input.name:
        return Parts(head=None, tail=_copy(model.proto))
    if _is_end(model, cut):
        return Parts(head=_copy(model.proto), tail=None)
    info = model.tensors.get(cut.tensor)
    if info is None:
        raise CutError(f"no tensor {cut.tensor!r} in this model: the cut belongs to another")
    return Parts(head=_head(model, info), tail=_Tail(model, info).build())


def check_equal(
    model: Model,
    cut: Cut,
    samples: Array,
    *,
    optimise: bool = False,
    tolerance: float = 1e-5,
    whole: Sequence[Array] | None = None,
) -> Equality:
    """Run head then tail, and the whole, on samples, and compare every output.

    Args:
        model: The model.
        cut: Where it is split.
        samples: A batch, batch axis where the model's input has it.
        optimise: With the runtime's optimisations, where up to `tolerance` is accepted; without,
            every bit must agree.
        tolerance: Share of the largest |output|.
        whole: The whole model's outputs on `samples` with the same `optimise`, where known already.

    Raises:
        CutError: They differ.
        ModelError: The outputs hardly differ among the samples, so equality would show nothing.
    """
    parts = split(model, cut)
    feeds = {model.input.name: samples}
    if whole is None:
        whole = run(session(model.proto, optimise=optimise), feeds)
    _check_varied(model, whole, spread=_SPREAD * tolerance if optimise else 0.0)
    if parts.head is not None:
        made = run(session(parts.head, optimise=optimise), feeds)
    if parts.tail is None:
        found = made
    else:
        feature = samples if parts.head is None else made[0]
        found = run(session(parts.tail, optimise=optimise), {cut.tensor: feature})
    exact = all(
        a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(whole, found, strict=True)
    )
    # NumPy's maximum, unlike Python's, is NaN if one of them is.
    error = float(np.max([_error(a, b) for a, b in zip(whole, found, strict=True)]))
    if not exact and (not optimise or not error <= tolerance):
        raise CutError(
            f"split at {cut.tensor!r}, head and tail differ from the whole by {error:.2g} of the "
            f"largest output, optimisations {'on' if optimise else 'off'}: do not use this cut"
        )
    return Equality(exact=exact, error=error, optimised=optimise)


def _check_varied(model: Model, whole: Sequence[Array], spread: float) -> None:
    """Different samples must give different answers, or a wrong split would pass.

    Args:
        model: The model.
        whole: Its outputs on the samples.
        spread: How much they must differ, as a share of the largest |output|.
    """
    for info, value in zip(model.outputs, whole, strict=True):
        if info.batch_axis is None or info.name not in model.flow.data:
            continue
        rows = np.moveaxis(value, info.batch_axis, 0).astype(np.float64)
        if np.abs(rows - rows[:1]).max(initial=0) > spread * np.abs(rows).max(initial=0):
            return
    raise ModelError(
        "the outputs are the same for every sample, or nearly: give at least two different "
        "samples, and a model with trained or random (not zero) weights"
    )


def _error(whole: Array, found: Array) -> float:
    if whole.shape != found.shape:
        return float("inf")
    if whole.size == 0:
        return 0.0
    scale = float(np.max(np.abs(whole.astype(np.float64)))) or 1.0
    return float(np.max(np.abs(whole.astype(np.float64) - found.astype(np.float64)))) / scale


def _is_end(model: Model, cut: Cut) -> bool:
    ends = [model.tensors[name] for name in model.flow.outputs if name in model.flow.data]
    return cut.tensor == ends[0].name and cut.size_bytes == sum(end.size_bytes for end in ends)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _empty(model: Model, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.ir_version = model.proto.ir_version
    proto.opset_import.extend(model.proto.opset_import)
    proto.producer_name = "narrows"
    proto.graph.name = name
    return proto


def _head(model: Model, info: TensorInfo) -> onnx.ModelProto:
    proto = _empty(model, "head")
    flow = model.flow
    wanted = {info.name}
    kept = []
    for position in reversed(range(flow.producer[info.name] + 1)):
        node = flow.nodes[position]
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(flow.reads[position])
    proto.graph.node.extend(kept[::-1])
    proto.graph.input.append(declare(model.input))
    proto.graph.output.append(declare(info))
    copy_weights(model.proto, proto)
    return proto


class _Tail:
    """Builds the tail: walks back from the outputs to the cut, replacing shapes of head values."""

    def __init__(self, model: Model, cut: TensorInfo) -> None:
        self.model = model
        self.cut = cut
        self.flow = model.flow
        self.given = self._computable()
        self.replaced: list[int] = []

    def build(self) -> onnx.ModelProto:
        proto = _empty(self.model, "tail")
        kept = self._needed()
        graph = proto.graph
        if self.replaced:
            self._add_batch(graph)
        for position in self.replaced:
            self._add_shape(graph, self.flow.nodes[position])
        graph.node.extend(self.flow.nodes[position] for position in kept)
        graph.input.append(declare(self.cut))
        graph.output.extend(declare(info) for info in self.model.outputs)
        copy_weights(self.model.proto, proto)
        return proto

    def _computable(self) -> set[str]:
        """The cut, and the values that depend on the input but can be computed from the cut."""
        flow, given = self.flow, {self.cut.name}
        for node, reads in zip(flow.nodes, flow.reads, strict=True):
            if flow.dependent.intersection(reads) <= given:
                given.update(flow.dependent.intersection(node.output))
        return given

    def _needed(self) -> list[int]:
        """Positions of the tail's nodes, in order; puts shapes to recompute in `replaced`."""
        flow = self.flow
        wanted = set(flow.outputs) - {self.cut.name}
        kept = []
        for position in reversed(range(len(flow.nodes))):
            node = flow.nodes[position]
            if wanted.isdisjoint(node.output) or self.cut.name in node.output:
                continue
            of_head = node.op_type in SHAPE_OPERATORS and self._in_head(node.input[0])
            if of_head:
                self.replaced.append(position)
                continue
            kept.append(position)
            wanted.update(name for name in flow.reads[position] if name != self.cut.name)
        if self.model.input.name in wanted:
            raise CutError(
                f"{self.cut.name!r} does not separate the model: the tail needs the input"
            )
        self.replaced.reverse()
        return kept[::-1]

    def _in_head(self, name: str) -> bool:
        return name in self.flow.dependent and name not in self.given

    def _name(self, text: str) -> str:
        return f"narrows {text}"

    def _add_batch(self, graph: onnx.GraphProto) -> None:
        """The batch size as an array of one, off the feature's batch axis."""
        axis = np.array([self.cut.batch_axis], np.int64)
        graph.initializer.append(numpy_helper.from_array(axis, self._name("batch axis")))
        graph.node.append(onnx.helper.make_node("Shape", [self.cut.name], [self._name("shape")]))
        graph.node.append(
            onnx.helper.make_node(
                "Gather", [self._name("shape"), self._name("batch axis")], [self._name("batch")]
            )
        )

    def _add_shape(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        """What `node` (Shape or Size of a head value) gives, as per_sample * batch + fixed."""
        dims = self.model.tensors[node.input[0]].dims
        attributes: Mapping[str, int] = {a.name: a.i for a in node.attribute}
        if node.op_type == "Shape":
            dims = dims[attributes.get("start", 0) : attributes.get("end", len(dims))]
        name = node.output[0]
        terms = np.array(dims, np.int64).reshape(-1, 2)
        whole = name if node.op_type == "Shape" else self._name(f"shape of {name}")
        for column, what in enumerate(("per sample", "fixed")):
            tensor = numpy_helper.from_array(
                np.ascontiguousarray(terms[:, column]), self._name(f"{what} of {name}")
            )
            graph.initializer.append(tensor)
        scaled = self._name(f"scaled of {name}")
        graph.node.append(
            onnx.helper.make_node(
                "Mul", [self._name("batch"), self._name(f"per sample of {name}")], [scaled]
            )
        )
        graph.node.append(
            onnx.helper.make_node("Add", [scaled, self._name(f"fixed of {name}")], [whole])
        )
        if node.op_type == "Size":
            graph.node.append(onnx.helper.make_node("ReduceProd", [whole], [name], keepdims=0))
