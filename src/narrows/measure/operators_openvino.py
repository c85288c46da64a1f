"""Time by operator in OpenVINO, told in the nodes of the user's graph, as `operators` does it.

OpenVINO keeps for every kernel the names of the layers it was made of, so nothing is guessed. But
it tells means over all runs by the wall clock: on a busy machine other load is in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from narrows.errors import MeasureError, ModelError
from narrows.graph.load import Model
from narrows.measure.backends import backend_of
from narrows.measure.operators import OperatorTime, example_input

_WARM_UP_RUNS: Final = 2
_BLOCK_RUNS: Final = 5


def openvino_run(model: Model, threads: int) -> Callable[[], object]:
    """A call of a model in OpenVINO on a random input, without its profiler.

    Raises:
        MissingExtra: OpenVINO is not installed.
        ModelError: OpenVINO does not take the model.
    """
    request = _compiled(model, threads, profiled=False).create_infer_request()
    feeds = {0: example_input(model)}
    return lambda: request.infer(feeds, share_inputs=True)


def openvino_times(
    model: Model,
    *,
    runs: int = 20,
    threads: int = 1,
    between: Callable[[], object] = lambda: None,
) -> tuple[OperatorTime, ...]:
    """Run a model under OpenVINO's profiler and say where the time goes.

    Args:
        model: The model; inputs are random numbers.
        runs: Runs that count, after two that do not.
        threads: Threads inside an operator.
        between: Called before every five runs.

    Returns:
        The kernels in execution order, arithmetic pinned to what the graph says.

    Raises:
        MissingExtra: OpenVINO is not installed.
        ModelError: OpenVINO does not take the model.
        MeasureError: The profiler named no kernel.
    """
    compiled = _compiled(model, threads, profiled=True)
    request = compiled.create_infer_request()
    feeds = {0: example_input(model)}
    before: Mapping[str, float] = {}
    for index in range(runs + _WARM_UP_RUNS):
        if index % _BLOCK_RUNS == 0:
            between()
        if index == _WARM_UP_RUNS:
            before = _sums_s(request, index)
        request.infer(feeds, share_inputs=True)
    after = _sums_s(request, runs + _WARM_UP_RUNS)
    kernels = {entry.node_name: _kernel(entry) for entry in _executed(request)}
    if not kernels:
        msg = "OpenVINO's profile names no kernel: is the model empty?"
        raise MeasureError(msg)
    made = compiled.get_runtime_model().get_ordered_ops()
    operators = {operator.get_friendly_name(): operator for operator in made}
    nodes = _node_names(model)
    return tuple(
        OperatorTime(
            kernel=kernels[name],
            nodes=_originals(operators.get(name), nodes),
            time_s=max(0.0, after[name] - before.get(name, 0.0)) / runs,
            in_bytes=_bytes(operators[name].inputs()) if name in operators else 0,
            out_bytes=_bytes(operators[name].outputs()) if name in operators else 0,
        )
        for name in kernels
    )


def _compiled(model: Model, threads: int, *, profiled: bool) -> Any:
    backend_of("openvino").check()
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": profiled,
    }
    core = openvino.Core()
    try:
        graph = core.read_model(model.proto.SerializeToString())
        graph.reshape(list(model.input.at(1)))
        return core.compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"OpenVINO does not take the model: {reason}") from error


def _executed(request: Any) -> list[Any]:
    """The profiler's entries of what was really run."""
    return [e for e in request.get_profiling_info() if e.status.name == "EXECUTED"]


def _sums_s(request: Any, runs: int) -> Mapping[str, float]:
    """Seconds of every kernel in all runs so far; the profiler tells their mean."""
    return {e.node_name: runs * e.real_time.total_seconds() for e in _executed(request)}


def _kernel(entry: Any) -> str:
    """The kernel's name; "Reorder" for every change of layout."""
    return str(entry.node_type if entry.node_type == "Reorder" else entry.exec_type)


def _node_names(model: Model) -> Mapping[str, str]:
    """OpenVINO's names of layers, which are those of nodes or of what they make, to nodes."""
    made = {value: node.name for node in model.flow.nodes for value in node.output if value}
    return made | {node.name: node.name for node in model.flow.nodes}


def _originals(operator: Any, nodes: Mapping[str, str]) -> tuple[str, ...]:
    """The nodes that a kernel was made of; a part of one ("fc/WithoutBiases") stands for it."""
    facts = {} if operator is None else operator.get_rt_info()
    if "originalLayersNames" not in facts:
        return ()
    names = str(facts["originalLayersNames"].astype(str)).split(",")
    found = (nodes.get(name, nodes.get(name.partition("/")[0])) for name in names)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _bytes(ports: Sequence[Any]) -> int:
    """Bytes of what lies at ports; what is not known at load counts as nothing."""
    known = [port for port in ports if port.get_partial_shape().is_static]
    return sum(port.get_element_type().size * math.prod(port.get_shape()) for port in known)
