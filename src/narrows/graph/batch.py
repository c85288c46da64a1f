"""The input with a symbolic batch axis, also where the batch size was fixed at export.

Exporters without symbolic axes write the batch size into Reshape targets. There it is replaced by
"the same as the input's" or "what is left"; whether that was right is not guessed but run: two
samples together must give what each gives alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from narrows.errors import ModelError
from narrows.graph.ort import run, session
from narrows.graph.probe import TensorInfo, declare, tensor_info
from narrows.graph.stored import MAX_TENSOR_BYTES, numpy_name

_TOLERANCE = 1e-4


def open_batch(
    proto: onnx.ModelProto, input_shape: tuple[int, ...] | None, where: str
) -> tuple[TensorInfo, int | None]:
    """Leave one input whose batch axis alone is symbolic.

    The batch axis is the only open axis, or else the first.

    Args:
        proto: Changed: shapes that were declared for other values are dropped.
        input_shape: Shape of one sample, where more axes than the batch are open.
        where: What to call the model in messages.

    Returns:
        The input, and the batch size if it was fixed.

    Raises:
        ModelError: There is not exactly one data input, or its shape is not known.
    """
    graph = proto.graph
    value = _only_input(graph, where)
    title = f"{where}: input {value.name!r}"
    declared = value.type.tensor_type.shape.dim
    open_axes = [axis for axis, dim in enumerate(declared) if not dim.HasField("dim_value")]
    batch_axis = open_axes[0] if len(open_axes) == 1 else 0
    fixed = declared[batch_axis].dim_value if batch_axis not in open_axes else None
    sizes = [dim.dim_value for dim in declared]
    if input_shape is not None:
        sizes = [*input_shape[:batch_axis], 0, *input_shape[batch_axis:]]
        if len(sizes) != len(declared):
            raise ModelError(f"{title} has {len(declared)} axes; {input_shape} does not fit")
    elif len(open_axes) > 1:
        raise ModelError(f"{title} leaves axes {open_axes} open: give the shape of one sample")
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


def check_apart(proto: onnx.ModelProto, given: TensorInfo, where: str) -> None:
    """Check that two samples in one batch give what each gives alone.

    Raises:
        ModelError: They do not: something in the graph mixes the batch.
    """
    axis = given.batch_axis or 0
    rng = np.random.default_rng(0)
    pair = rng.random(given.at(2)) if np.dtype(given.dtype).kind == "f" else np.zeros(given.at(2))
    pair = pair.astype(given.dtype)
    running = session(proto)
    together = run(running, {given.name: pair})
    for sample in range(2):
        alone = run(running, {given.name: pair.take([sample], axis)})
        for value, info, single in zip(together, proto.graph.output, alone, strict=True):
            dims = info.type.tensor_type.shape.dim
            moving = [a for a, dim in enumerate(dims) if dim.dim_param == "N"]
            own = value.take([sample], moving[0]) if moving else value
            scale = np.abs(single).max(initial=0.0)
            if own.shape != single.shape or not np.allclose(own, single, atol=_TOLERANCE * scale):
                raise ModelError(
                    f"{where} was exported with a fixed batch size and mixes the samples of a "
                    "larger batch: export it with a symbolic batch axis"
                )
