"""Every place where one tensor alone separates a model, and why the others do not.

The nodes are walked in execution order. After each, the *live* tensors are those that carry data
and are still read later; where exactly one is live it separates the input from the outputs. Every
separating tensor is found so, whatever the order: what comes before it is all computed by then, and
what comes after reads nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from narrows.errors import CutError
from narrows.graph.cost import node_costs
from narrows.graph.flow import Flow
from narrows.graph.load import Model, TensorInfo
from narrows.graph.memory import HeadMemory

_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "Scan"})
_VIEWS = frozenset({"Squeeze", "Unsqueeze", "Transpose", "Reshape", "Concat"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A tensor that alone separates the model.

    Args:
        index: Position among the cuts: 0 is the input, the last is the output.
        tensor: Its name.
        shape: Shape of one sample, the batch axis left out.
        dtype: NumPy's name of the element type.
        batch_axis: The axis that holds the batch.
        size_bytes: Bytes of one sample, uncoded.
        head_macs: Multiply-accumulates before the cut.
        head_macs_share: The same as a share of the whole model.
        head_weight_bytes: Weights the head holds, as stored.
        head_peak_bytes: Most activation memory the head needs at once, in the model's order, for
            one sample; without the scratch memory of kernels.
        tail_macs: Multiply-accumulates after the cut.
        dominated_by: A cut with no more bytes and no more head MACs, and less of one; None if none.
    """

    index: int
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    batch_axis: int
    size_bytes: int
    head_macs: int
    head_macs_share: float
    head_weight_bytes: int
    head_peak_bytes: int
    tail_macs: int
    dominated_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A tensor that is not a cut.

    Args:
        tensor: Its name.
        crossing: What else crosses there; empty where the tensor separates the model but cannot be
            cut for another reason.
        reason: The same in words.
        after: Index of the last cut before it.
    """

    tensor: str
    crossing: tuple[str, ...]
    reason: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """The cuts of a model in execution order, and the refused tensors."""

    cuts: tuple[Cut, ...]
    refused: tuple[Refused, ...]

    def __iter__(self) -> Iterator[Cut]:
        return iter(self.cuts)

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> Cut:
        return self.cuts[index]

    @property
    def useful(self) -> tuple[Cut, ...]:
        """The cuts that no other dominates."""
        return tuple(cut for cut in self.cuts if cut.dominated_by is None)


def find_cuts(model: Model) -> Cuts:
    """Find every cut of a model.

    In a quantized (QDQ) graph the runtime fuses from DequantizeLinear to QuantizeLinear, so only
    the 8-bit output of a QuantizeLinear is a cut; cutting inside would change the result. What a
    recurrent layer gives is a cut there, too.

    Example:
        >>> import onnx
        >>> from narrows.graph.load import load
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 4] y) {a = Relu(x) b = Exp(a) y = Add(a, b)}'''
        >>> cuts = find_cuts(load(onnx.parser.parse_model(text)))
        >>> [cut.tensor for cut in cuts]
        ['x', 'a', 'y']
        >>> cuts.refused[0].reason
        "'a' (4) crosses as well"
    """
    flow = model.flow
    walk = _Walk(model)
    for position in range(len(flow.nodes)):
        walk.step(position)
    return walk.result()


def find(cuts: Cuts, text: str | int) -> Cut:
    """The cut with this index (negative counts from the end) or this tensor name.

    A number that is an index means the cut, also where a tensor is called so.

    Raises:
        CutError: There is none; the message says why and names the nearest.
    """
    try:
        index = int(text)
    except ValueError:
        index = None
    if index is not None and -len(cuts) <= index < len(cuts):
        return cuts[index]
    for cut in cuts:
        if cut.tensor == text:
            return cut
    for place in cuts.refused:
        if place.tensor == text:
            near = ", ".join(f"{c.index} {c.tensor!r}" for c in cuts.cuts[place.after :][:2])
            raise CutError(f"cannot cut at {text!r}: {place.reason}. Nearest cuts: {near}")
    if index is not None:
        raise CutError(f"no cut {index}: the model has cuts 0 (input) to {len(cuts) - 1} (output)")
    names = [cut.tensor for cut in cuts] + [place.tensor for place in cuts.refused]
    close = difflib.get_close_matches(str(text), names, n=3, cutoff=0.3) or names[:3]
    raise CutError(f"no tensor {text!r} in the model. Similar: {', '.join(map(repr, close))}")


class _Walk:
    """The state of the walk: what is live, what the head costs, what was found."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.flow = model.flow
        self.costs = node_costs(model)
        self.total_macs = sum(cost.macs for cost in self.costs)
        self.memory = HeadMemory(model)
        self.quantized = any(
            node.op_type == "QuantizeLinear" and node.output[0] in self.flow.data
            for node in self.flow.nodes
        )
        self.states = _states(model.flow)
        self.ends = [name for name in self.flow.outputs if name in self.flow.data]
        self.last = self.flow.last_reads()
        self.live: tuple[str, ...] = (model.input.name,)
        self.head_macs = 0
        self.cuts: list[Cut] = []
        self.refused: list[Refused] = []
        self._keep(model.input)

    def step(self, position: int) -> None:
        """Compute one node, and see whether what it makes is a cut."""
        if not self.flow.is_data(position):
            return
        self.head_macs += self.costs[position].macs
        self.memory.step(position)
        made = [name for name in self.flow.makes(position) if name in self.flow.data]
        self.live = tuple(n for n in (*self.live, *made) if self.last.get(n, -1) > position)
        for name in made:
            if [name] == self.ends:
                continue
            others = tuple(n for n in self.live if n != name)
            reason = self._crossing(others) if others else self._unfit(name)
            if reason:
                after = len(self.cuts) - 1
                self.refused.append(
                    Refused(tensor=name, crossing=others, reason=reason, after=after)
                )
            else:
                self._keep(self.model.tensors[name])

    def result(self) -> Cuts:
        """Add the last cut, the output, and mark the dominated ones."""
        tensors = self.model.tensors
        self._keep(
            tensors[self.ends[0]], size_bytes=sum(tensors[name].size_bytes for name in self.ends)
        )
        return Cuts(cuts=_mark_dominated(self.cuts), refused=tuple(self.refused))

    def _keep(self, info: TensorInfo, size_bytes: int | None = None) -> None:
        self.cuts.append(
            Cut(
                index=len(self.cuts),
                tensor=info.name,
                shape=info.shape,
                dtype=info.dtype,
                batch_axis=info.batch_axis or 0,
                size_bytes=info.size_bytes if size_bytes is None else size_bytes,
                head_macs=self.head_macs,
                head_macs_share=self.head_macs / self.total_macs if self.total_macs else 0.0,
                head_weight_bytes=self.memory.weight_bytes,
                head_peak_bytes=self.memory.peak_bytes,
                tail_macs=self.total_macs - self.head_macs,
                dominated_by=None,
            )
        )

    def _crossing(self, others: tuple[str, ...]) -> str:
        named = [f"{name!r}{self._shape_text(name)}" for name in others[:3]]
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{', '.join(named)}{more} {'crosses' if len(others) == 1 else 'cross'} as well"

    def _shape_text(self, name: str) -> str:
        info = self.model.tensors.get(name)
        return f" ({'x'.join(map(str, info.shape))})" if info else ""

    def _unfit(self, name: str) -> str:
        """Why a tensor that separates the model cannot be cut; "" if it can."""
        info = self.model.tensors.get(name)
        if info is None or np.dtype(info.dtype).kind not in "fiub":
            return "it is not an array of numbers"
        if name in self.flow.ragged:
            return "its shape depends on the values in it"
        if info.batch_axis is None:
            return f"no axis of its shape holds one entry per sample ({info.at(2)} for two samples)"
        inside = info.dtype not in ("uint8", "int8") and name not in self.states
        if self.quantized and inside:
            return "the model is quantized: cut only where the tensor is, after a QuantizeLinear"
        return ""


def _states(flow: Flow) -> frozenset[str]:
    """What recurrent layers give, and the same moved about: the runtime fuses nothing with it."""
    found: set[str] = set()
    for node, reads in zip(flow.nodes, flow.reads, strict=True):
        moved = node.op_type in _VIEWS and found.issuperset(flow.data.intersection(reads))
        if node.op_type in _RECURRENT or (moved and not found.isdisjoint(reads)):
            found.update(node.output)
    return frozenset(found)


def _mark_dominated(cuts: list[Cut]) -> tuple[Cut, ...]:
    """Point each dominated cut to the cheapest cut that dominates it."""
    marked = []
    for cut in cuts:
        better = (
            other
            for other in sorted(cuts, key=lambda c: (c.size_bytes, c.head_macs))
            if other.size_bytes <= cut.size_bytes
            and other.head_macs <= cut.head_macs
            and (other.size_bytes, other.head_macs) != (cut.size_bytes, cut.head_macs)
        )
        first = next(better, None)
        marked.append(replace(cut, dominated_by=first.index if first else None))
    return tuple(marked)
