"""The input with a symbolic batch axis, also where the batch size was fixed at export.

Exporters without symbolic axes write the batch size into Reshape targets. There it is replaced by
"the same as the input's" or "what is left"; whether that was right is not guessed but run: the
batch of the export must give what it gave before, and two samples together what each gives alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph.checks import infer_types
from narrows.graph.ort import run, session
from narrows.graph.probe import TensorInfo, declare, tensor_info
from narrows.graph.stored import MAX_TENSOR_BYTES, numpy_name

_TOLERANCE = 1e-4


def open_batch(
    proto: onnx.ModelProto, input_shape: tuple[int, ...] | None, where: str
) -> tuple[TensorInfo, int | None]:
    """Leave one input whose batch axis alone is symbolic.

    The batch axis is the only open axis, or else the first; where the shape of one sample is given,
    the one of them that leaves it.

    Args:
        proto: Changed: shapes that were declared for other values are dropped.
        input_shape: Shape of one sample, where more axes than the batch are open. What the model
            declares it must agree with.
        where: What to call the model in messages.

    Returns:
        The input, and the batch size if it was fixed.

    Raises:
        ModelError: There is not exactly one data input, or its shape is not known or another.
    """
    graph = proto.graph
    value = _only_input(graph, where)
    title = f"{where}: input {value.name!r}"
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    open_axes = [axis for axis, size in enumerate(sizes) if not size]
    batch_axis = open_axes[0] if len(open_axes) == 1 else 0
    if input_shape is not None:
        batch_axis = _batch_axis(sizes, batch_axis, input_shape, title)
    elif len(open_axes) > 1:
        raise ModelError(f"{title} leaves axes {open_axes} open: give the shape of one sample")
    fixed = sizes[batch_axis] or None
    if input_shape is not None:
        sizes = [*input_shape[:batch_axis], 0, *input_shape[batch_axis:]]
    dims = tuple((1, 0) if a == batch_axis else (0, size) for a, size in enumerate(sizes))
    if any(size <= 0 for axis, size in enumerate(sizes) if axis != batch_axis):
        raise ModelError(f"{title} has the shape {sizes}: all but the batch must be positive")
    info = tensor_info(value.name, dims, numpy_name(value.type.tensor_type.elem_type))
    if info.size_bytes > MAX_TENSOR_BYTES:
        raise ModelError(f"{title} has the shape {sizes}: too large")
    del graph.input[:]
    graph.input.append(declare(info))
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    return info, fixed


def _batch_axis(sizes: list[int], likely: int, sample: tuple[int, ...], title: str) -> int:
    """The axis that may hold the batch where one sample has this shape; open axes have size 0."""
    if len(sizes) != len(sample) + 1:
        raise ModelError(f"{title} has {len(sizes)} axes; {sample} does not fit")
    for axis in (likely, 0):
        rest = [*sizes[:axis], *sizes[axis + 1 :]]
        if all(size in (0, given) for size, given in zip(rest, sample, strict=True)):
            return axis
    raise ModelError(f"{title} has the shape {sizes} (0: open); a sample {sample} does not fit")


def _only_input(graph: onnx.GraphProto, where: str) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"{where} has {len(inputs)} data inputs ({names}); it must have one")
    tensor = inputs[0].type.tensor_type
    if not tensor.HasField("shape") or not tensor.shape.dim or not tensor.elem_type:
        raise ModelError(
            f"{where}: input {inputs[0].name!r} has no shape: export it with that of one sample"
        )
    return inputs[0]


def open_reshapes(graph: onnx.GraphProto, batch: int) -> None:
    """Free the first entry of every constant Reshape target that is the fixed batch size.

    Args:
        graph: Changed; its constants are initializers.
        batch: The batch size the model was exported with.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in stored:
            continue
        if any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
            continue
        target = numpy_helper.to_array(stored[node.input[1]])
        if target.ndim != 1 or not target.size or target[0] != batch:
            continue
        freed = target.copy()
        freed[0] = 0 if (target[1:] == -1).any() else -1
        name = f"narrows open {node.output[0]}"
        graph.initializer.append(numpy_helper.from_array(freed, name))
        node.input[1] = name


def answers(proto: onnx.ModelProto, given: TensorInfo, batch: int) -> list[NDArray[Any]]:
    """What a model gives for one batch of made-up samples, always the same ones.

    Raises:
        ModelError: It does not run at this batch size, or its values would be too large.
    """
    if batch * given.size_bytes > MAX_TENSOR_BYTES:
        raise ModelError(f"a batch of {batch} at input {given.name!r} is too large")
    infer_types(proto, batch=batch)
    return run(session(proto), {given.name: _samples(given, batch)})


def _samples(given: TensorInfo, batch: int) -> NDArray[Any]:
    """Random numbers; 0 and 1 for integers, which are valid indices nearly everywhere."""
    rng, shape = np.random.default_rng(0), given.at(batch)
    real = np.dtype(given.dtype).kind == "f"
    return (rng.random(shape) if real else rng.integers(0, 2, shape)).astype(given.dtype)


def check_opened(
    proto: onnx.ModelProto,
    given: TensorInfo,
    where: str,
    before: Sequence[NDArray[Any]],
    batch: int,
) -> None:
    """Check a model whose batch size was fixed.

    Args:
        proto: The model with an open batch.
        given: Its input.
        where: What to call it in messages.
        before: The `answers` it gave with its fixed batch.
        batch: That batch size.

    Raises:
        ModelError: It gives something else now, or two samples in one batch do not give what each
            gives alone: something in the graph mixes the batch.
    """
    after = answers(proto, given, batch)
    if not all(_close(new, old) for new, old in zip(after, before, strict=True)):
        raise ModelError(
            f"{where} was exported with a fixed batch size and gives other answers with an open "
            "one: export it with a symbolic batch axis"
        )
    axis = given.batch_axis or 0
    pair = _samples(given, 2)
    running = session(proto)
    together = run(running, {given.name: pair})
    for sample in range(2):
        alone = run(running, {given.name: pair.take([sample], axis)})
        for value, info, single in zip(together, proto.graph.output, alone, strict=True):
            dims = info.type.tensor_type.shape.dim
            moving = [a for a, dim in enumerate(dims) if dim.dim_param == "N"]
            own = value.take([sample], moving[0]) if moving else value
            if not _close(own, single):
                raise ModelError(
                    f"{where} was exported with a fixed batch size and mixes the samples of a "
                    "larger batch: export it with a symbolic batch axis"
                )


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    tolerance = _TOLERANCE * float(np.abs(other).max(initial=0))
    return bool(np.allclose(one, other, atol=tolerance, equal_nan=True))
