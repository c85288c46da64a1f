"""Shapes, element types and batch axes, found by running the graph at two batch sizes.

Static inference leaves holes (a reshape to a computed shape, an operator of another domain), and
the batch is not always on the first axis (an LSTM has it on the second or third). A Shape node on
every value, run at batch 2 and 3, gives each dimension as `per_sample * batch + fixed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.errors import ModelError
from narrows.graph.checks import infer_types
from narrows.graph.flow import Flow
from narrows.graph.ort import copy_weights, run, session
from narrows.graph.stored import numpy_name

BATCHES = (2, 3)

Dims = tuple[tuple[int, int], ...]
"""Per axis (entries per sample, fixed entries): size = per_sample * batch + fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """What is known of one value.

    Args:
        name: Its name in the graph.
        shape: Shape of one sample, the batch axis left out.
        dtype: NumPy's name of the element type.
        batch_axis: The axis that holds the batch and nothing else; None where there is none.
        size_bytes: Bytes of one sample.
        dims: Per axis (entries per sample, fixed entries).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    batch_axis: int | None
    size_bytes: int
    dims: Dims = ()

    def at(self, batch: int) -> tuple[int, ...]:
        """The whole shape at a batch size.

        Example:
            >>> info = tensor_info("h", ((0, 5), (1, 0), (0, 8)), "float32")
            >>> info.batch_axis, info.shape, info.at(4), info.size_bytes
            (1, (5, 8), (5, 4, 8), 160)
        """
        return tuple(per_sample * batch + fixed for per_sample, fixed in self.dims)


def tensor_info(name: str, dims: Dims, dtype: str) -> TensorInfo:
    """Describe a value from its dimensions."""
    moving = [axis for axis, (per_sample, _) in enumerate(dims) if per_sample]
    alone = len(moving) == 1 and dims[moving[0]] == (1, 0)
    whole = tuple(per_sample + fixed for per_sample, fixed in dims)
    return TensorInfo(
        name=name,
        shape=tuple(size for axis, size in enumerate(whole) if not (alone and axis == moving[0])),
        dtype=dtype,
        batch_axis=moving[0] if alone else None,
        size_bytes=int(np.prod(whole, dtype=object)) * np.dtype(dtype).itemsize,
        dims=dims,
    )


def declare(info: TensorInfo) -> onnx.ValueInfoProto:
    """Name, type and shape for a graph; the batch axis is called N, other moving axes are open."""
    dims: list[str | int | None] = [
        "N" if size == (1, 0) else (None if size[0] else size[1]) for size in info.dims
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(info.dtype))
    return onnx.helper.make_tensor_value_info(info.name, kind, dims)


def probe(proto: onnx.ModelProto, flow: Flow, given: TensorInfo) -> dict[str, TensorInfo]:
    """Find dimensions and element type of every value that a node of `flow` makes.

    Args:
        proto: A checked model with a symbolic batch axis and one input.
        flow: Its values.
        given: The input.

    Raises:
        ModelError: The model does not run at another batch size, or its values are too large.
    """
    names = [name for position in range(len(flow.nodes)) for name in flow.makes(position)]
    types = infer_types(proto, batch=max(BATCHES))
    names = [name for name in names if types.get(name, 1)]
    seen = _run_shapes(proto, given, names)
    missing = [name for name in names if name not in types]
    if missing:
        running = session(proto, optimise=False, outputs=missing)
        types.update({out.name: _ort_type(out.type) for out in running.get_outputs()})
    infos = {given.name: given}
    for name in names:
        dims = _affine(name, *(seen[batch][name] for batch in BATCHES))
        dtype = numpy_name(types[name])
        infos[name] = tensor_info(name, dims, dtype)
    return infos


def example_input(given: TensorInfo, batch: int) -> NDArray[Any]:
    """Some input of the right shape: a ramp from -1 to 1, or zeros for integers (valid indices)."""
    shape = given.at(batch)
    dtype = np.dtype(given.dtype)
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).astype(dtype).reshape(shape)


def _run_shapes(
    proto: onnx.ModelProto, given: TensorInfo, names: list[str]
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Shapes at each batch size. Only shapes leave the runtime, so values are freed as it goes."""
    measuring = onnx.ModelProto()
    measuring.ir_version = proto.ir_version
    measuring.opset_import.extend(proto.opset_import)
    graph = measuring.graph
    graph.name = "shapes"
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    outputs = [f"narrows shape of {name}" for name in names]
    for name, output in zip(names, outputs, strict=True):
        graph.node.append(onnx.helper.make_node("Shape", [name], [output]))
        graph.output.append(
            onnx.helper.make_tensor_value_info(output, onnx.TensorProto.INT64, None)
        )
    copy_weights(proto, measuring)
    running = session(measuring, optimise=False)
    found = {}
    for batch in BATCHES:
        try:
            shapes = run(running, {given.name: example_input(given, batch)})
        except ModelError as error:
            raise ModelError(
                f"the model does not run at batch {batch}; its batch size may be fixed inside: "
                f"export it with a symbolic batch axis ({error})"
            ) from None
        found[batch] = {
            name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)
        }
    return found


def _affine(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> Dims:
    if len(first) != len(second):
        raise ModelError(
            f"value {name!r} has {len(first)} axes at one batch size, {len(second)} at another"
        )
    low, high = BATCHES
    slopes = [(b - a) // (high - low) for a, b in zip(first, second, strict=True)]
    return tuple((slope, a - slope * low) for slope, a in zip(slopes, first, strict=True))


def _ort_type(text: str) -> int:
    """ONNX's element type for "tensor(float)" and the like; 0 for what is not a tensor."""
    names = {"float": "FLOAT", "double": "DOUBLE", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}
    inner = text.removeprefix("tensor(").removesuffix(")")
    if inner == text:
        return 0
    return int(onnx.TensorProto.DataType.Value(names.get(inner, inner.upper())))
