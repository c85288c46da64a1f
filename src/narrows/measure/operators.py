"""Time by operator, from the runtime's own profiler, told in the nodes of the user's graph.

The runtime fuses nodes, renames them and adds reorders between layouts. Each of its kernels is
therefore traced back to the nodes whose work it does: first by the values it makes, then by its
name, and a node that left no trace belongs to the kernel that makes what it reads (activations
after a convolution) or else to the one that reads what it makes (parts of a fused pattern).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx

from narrows.errors import MeasureError
from narrows.graph.cost import size_bytes
from narrows.graph.flow import reads_of
from narrows.graph.load import Model, session
from narrows.graph.ort import run
from narrows.measure.loop_times import with_loop_times

INT8_KERNELS = frozenset(
    {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "QAttention"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
)
"""Kernels of ONNX Runtime that multiply in 8-bit integers."""

_FUSED_WEIGHTS = "MatMulNBits"
_INT8_ACCURACY_LEVEL = 4
_WARM_UP_RUNS = 2
_BLOCK_RUNS = 5
_REORDERS = ("ReorderInput", "ReorderOutput")
_DECORATION = re.compile(r"(_bn)?(_nchwc)?(_token_\d+)?$")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One kernel of the runtime.

    Args:
        kernel: The runtime's operator, e.g. "FusedConv"; "ReorderInput" for a change of layout.
        nodes: Names of the nodes of the user's graph whose work it does; empty for a reorder.
        time_s: Lower quartile over the runs, so that other load hardly shows.
        in_bytes: Data and weights it reads, in the types it reads them in.
        out_bytes: What it makes.
        rounds_data: Whether its weights alone are stored in 8 bits or less, but it rounds the data
            to 8 bits itself.
        loops_int8: Whether it is a loop whose body multiplies in 8-bit integers.
    """

    kernel: str
    nodes: tuple[str, ...]
    time_s: float
    in_bytes: int
    out_bytes: int
    rounds_data: bool = False
    loops_int8: bool = False

    @property
    def is_int8(self) -> bool:
        """Whether it computes in 8-bit integers; OpenVINO writes that into its kernels' names."""
        by_name = self.kernel in INT8_KERNELS or self.kernel.endswith("_I8")
        return by_name or self.rounds_data or self.loops_int8

    @property
    def is_reorder(self) -> bool:
        """Whether it only changes the layout."""
        return self.kernel in _REORDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    name: str
    kernel: str
    data_bytes: int
    out_bytes: int
    times_s: list[float]


def operator_times(
    model: Model,
    *,
    runs: int = 20,
    threads: int = 1,
    seed: int = 0,
    between: Callable[[], object] = lambda: None,
) -> tuple[OperatorTime, ...]:
    """Run a model under the runtime's profiler and say where the time goes.

    Args:
        model: The model; inputs are random numbers.
        runs: Runs that count, after two that do not.
        threads: Threads inside an operator.
        seed: Of the inputs.
        between: Called before every five runs, so that something else is timed in the same minutes.

    Returns:
        The kernels in execution order. The profiler itself costs some 5–12 %, between them.

    Raises:
        ModelError: The model does not run.
        MeasureError: The profiler wrote nothing that can be read.
    """
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        place = Path(folder)
        running = session(
            model.proto,
            threads=threads,
            profile_prefix=str(place / "trace"),
            optimised_path=place / "optimised.onnx",
        )
        feeds = {model.input.name: example_input(model, seed=seed)}
        for index in range(runs + _WARM_UP_RUNS):
            if index % _BLOCK_RUNS == 0:
                between()
            run(running, feeds)
        events = _events(Path(running.end_profiling()))
        optimised = onnx.load(place / "optimised.onnx", load_external_data=False)
    names = [event.name for event in events]
    titles = _titles(optimised.graph, names)
    owners = trace_back(model.proto.graph, titles, names)
    weights = _weight_bytes(optimised.graph, titles)
    times = tuple(
        OperatorTime(
            kernel=event.kernel,
            nodes=owners[event.name],
            time_s=float(np.quantile(event.times_s[_WARM_UP_RUNS:], 0.25)),
            in_bytes=event.data_bytes + weights.get(event.name, 0),
            out_bytes=event.out_bytes,
            rounds_data=event.name in titles and rounds_data(titles[event.name]),
            loops_int8=event.name in titles and _loops_int8(titles[event.name]),
        )
        for event in events
    )
    if not any(one.loops_int8 for one in times):
        return times
    return with_loop_times(times, plain_run(model, threads), runs=runs, threads=threads)


def rounds_data(node: onnx.NodeProto) -> bool:
    """Whether a node of an optimised graph rounds its data to 8 bits to multiply in integers.

    Where weights alone are stored in 8 bits, ONNX Runtime may fuse a product into MatMulNBits of
    accuracy level 4, whose arithmetic is int8.
    """
    return node.op_type == _FUSED_WEIGHTS and any(
        attribute.name == "accuracy_level" and attribute.i == _INT8_ACCURACY_LEVEL
        for attribute in node.attribute
    )


def _loops_int8(node: onnx.NodeProto) -> bool:
    """Whether a node of an optimised graph is a loop over integer products (an integer GRU's)."""
    bodies = [attribute.g.node for attribute in node.attribute if attribute.name == "body"]
    return any(inner.op_type in INT8_KERNELS for body in bodies for inner in body)


def plain_run(model: Model, threads: int) -> Callable[[], object]:
    """A call of a model on a random input, without the profiler.

    Raises:
        ModelError: The model does not run.
    """
    running = session(model.proto, threads=threads)
    feeds = {model.input.name: example_input(model)}
    return lambda: run(running, feeds)


def example_input(model: Model, *, seed: int = 0) -> Any:
    """One random sample with the model's input shape and type, batch axis included."""
    shape = model.input.at(1)
    rng = np.random.default_rng(seed)
    if np.issubdtype(np.dtype(model.input.dtype), np.floating):
        return rng.standard_normal(shape, dtype=np.float32).astype(model.input.dtype)
    return rng.integers(0, 2, shape).astype(model.input.dtype)


def _events(path: Path) -> list[_Event]:
    """The profiler's kernel events by node, in order of their first run.

    What runs inside another kernel (the body of a loop) is part of that one.
    """
    try:
        raw: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"the runtime's profile {path.name} cannot be read ({error}): run it again"
        raise MeasureError(msg) from None
    found: dict[str, _Event] = {}
    timed = [e for e in raw if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    ended_us = 0
    for entry in sorted(timed, key=lambda e: (e["ts"], -e["dur"])):
        if entry["ts"] < ended_us:
            continue
        ended_us = entry["ts"] + entry["dur"]
        name, arguments = entry["name"].removesuffix("_kernel_time"), entry["args"]
        if name not in found:
            found[name] = _Event(
                name=name,
                kernel=str(arguments["op_name"]),
                data_bytes=int(arguments.get("activation_size", 0)),
                out_bytes=int(arguments.get("output_size", 0)),
                times_s=[],
            )
        found[name].times_s.append(float(entry["dur"]) / 1e6)
    if not found:
        msg = "the runtime's profile names no kernel: is the model empty?"
        raise MeasureError(msg)
    return list(found.values())


def _weight_bytes(
    optimised: onnx.GraphProto, titles: Mapping[str, onnx.NodeProto]
) -> Mapping[str, int]:
    """Bytes of weights that each kernel reads (the profiler leaves out what was packed at load)."""
    sizes = {tensor.name: size_bytes(tensor) for tensor in optimised.initializer}
    return {
        name: sum(sizes.get(value, 0) for value in reads_of(node)) for name, node in titles.items()
    }


def trace_back(
    graph: onnx.GraphProto, titles: Mapping[str, onnx.NodeProto], names: Sequence[str]
) -> Mapping[str, tuple[str, ...]]:
    """For each kernel of the optimised graph the original nodes whose work it does.

    Args:
        graph: What the user gave.
        titles: The nodes that the runtime made of it, by the profiler's names for them.
        names: Those names in execution order.
    """
    maker = {value: position for position, node in enumerate(graph.node) for value in node.output}
    by_name = {node.name: position for position, node in enumerate(graph.node)}
    outputs = {title: node.output for title, node in titles.items()}
    kinds = {title: node.op_type for title, node in titles.items()}
    owner: dict[int, str] = {}
    for name in names:
        if kinds.get(name) in _REORDERS:
            continue
        bare = _DECORATION.sub("", name)
        traces = [maker[value] for value in (*outputs.get(name, ()), bare) if value in maker]
        if bare in by_name:
            traces.append(by_name[bare])
        for position in traces:
            owner.setdefault(position, name)
    _adopt(graph, maker, owner, kinds)
    found: dict[str, list[str]] = {name: [] for name in names}
    for position, name in sorted(owner.items()):
        found[name].append(graph.node[position].name)
    return {name: tuple(nodes) for name, nodes in found.items()}


def _titles(optimised: onnx.GraphProto, names: Sequence[str]) -> dict[str, onnx.NodeProto]:
    """The optimised graph's nodes by the profiler's names for them.

    The profiler calls a node without a name by its operator and its number.
    """
    found = {node.name: node for node in optimised.node if node.name}
    for kind in {node.op_type for node in optimised.node if not node.name}:
        unnamed = [node for node in optimised.node if not node.name and node.op_type == kind]
        numbered = re.compile(rf"{re.escape(kind)}_(\d+)")
        free = [name for name in names if name not in found and numbered.fullmatch(name)]
        free.sort(key=lambda name: int(name.rpartition("_")[2]))
        if len(free) == len(unnamed):
            found.update(zip(free, unnamed, strict=True))
    return found


_HOSTS = frozenset({"Conv", "FusedConv", "Gemm", "FusedGemm", "QLinearConv"})
_FOLLOWERS = frozenset(
    {"BatchNormalization", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Add"}
    | {"HardSwish", "Mul", "QuantizeLinear"}
)


def _adopt(
    graph: onnx.GraphProto,
    maker: Mapping[str, int],
    owner: dict[int, str],
    kinds: Mapping[str, str],
) -> None:
    """Give nodes without a trace to a neighbour's kernel."""
    for position, node in enumerate(graph.node):
        if position in owner or node.op_type not in _FOLLOWERS:
            continue
        before = [maker[value] for value in node.input if value in maker]
        hosts = [p for p in before if kinds.get(owner.get(p, "")) in _HOSTS]
        if hosts:
            owner[position] = owner[max(hosts)]
    readers: dict[int, int] = {}
    for position, node in enumerate(graph.node):
        for value in node.input:
            if value in maker:
                readers.setdefault(maker[value], position)
    for position in reversed(range(len(graph.node))):
        reader = readers.get(position)
        if position not in owner and reader in owner:
            owner[position] = owner[reader]
