"""One ONNX part of a bundle, ready to run on single samples or batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.errors import ModelError
from narrows.graph.ort import run, session
from narrows.runtime.manifest import Tensor
from narrows.runtime.reply import Outputs


@final
class Network:
    """A session with the shapes it must keep to.

    Args:
        proto: The checked part.
        input: What it takes.
        outputs: What it gives, by name and in this order.
        threads: Threads inside one run.
        optimise: Whether the runtime may optimise the graph.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        *,
        input: Tensor,
        outputs: Sequence[Tensor],
        threads: int = 1,
        optimise: bool = True,
    ) -> None:
        self.input = input
        self.outputs = tuple(outputs)
        names = [output.name for output in outputs]
        _expect_names(proto, input.name, names)
        self._session = session(proto, threads=threads, optimise=optimise)
        self._names = names

    def one(self, sample: NDArray[Any]) -> Outputs:
        """The outputs of one sample, each without its batch axis.

        Raises:
            ModelError: The sample has another shape, or the part fails or gives other shapes.
        """
        axis = self.input.batch_axis
        self._expect_shape(sample.shape)
        found = self._run(sample if axis is None else np.expand_dims(sample, axis))
        return tuple(_one(array, spec) for array, spec in zip(found, self.outputs, strict=True))

    def batch(self, samples: NDArray[Any]) -> Outputs:
        """The outputs of a batch (n, *shape), each (n, *its shape).

        Raises:
            ModelError: As in `one`.
        """
        axes = {self.input.batch_axis, *(output.batch_axis for output in self.outputs)}
        if None in axes or len(samples) == 1:
            each = [self.one(sample) for sample in samples]
            return tuple(np.stack(arrays) for arrays in zip(*each, strict=True))
        self._expect_shape(samples.shape[1:])
        found = self._run(np.moveaxis(samples, 0, self.input.batch_axis or 0))
        moved = []
        for array, spec in zip(found, self.outputs, strict=True):
            array = np.moveaxis(array, spec.batch_axis or 0, 0)
            _expect_output(array.shape, (len(samples), *spec.shape), spec.name)
            moved.append(array)
        return tuple(moved)

    def _expect_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.input.shape:
            msg = f"input {self.input.name!r} has shape {self.input.shape}; got {shape}"
            raise ModelError(msg)

    def _run(self, feed: NDArray[Any]) -> list[NDArray[Any]]:
        feed = np.ascontiguousarray(feed, dtype=self.input.dtype)
        return run(self._session, {self.input.name: feed}, self._names)


def _expect_names(proto: onnx.ModelProto, input: str, outputs: Sequence[str]) -> None:
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value.name for value in proto.graph.input if value.name not in weights]
    found = [value.name for value in proto.graph.output]
    if inputs != [input] or not set(outputs) <= set(found):
        msg = (
            f"a part takes {inputs} and gives {found}, "
            f"the manifest says it takes {[input]} and gives {list(outputs)}"
        )
        raise ModelError(msg)


def _one(array: NDArray[Any], spec: Tensor) -> NDArray[Any]:
    wanted = spec.shape
    if spec.batch_axis is not None:
        axis = spec.batch_axis
        wanted = (*spec.shape[:axis], 1, *spec.shape[axis:])
    if spec.shape or array.size != 1:  # one number may come with any axes of length one
        _expect_output(array.shape, wanted, spec.name)
    if array.dtype != np.dtype(spec.dtype):
        msg = f"output {spec.name!r} is {array.dtype}, the manifest says {spec.dtype}"
        raise ModelError(msg)
    return array.reshape(spec.shape)


def _expect_output(found: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    if found != wanted:
        msg = f"output {name!r} has shape {found}, the manifest says {wanted}"
        raise ModelError(msg)


def zeros(tensor: Tensor) -> NDArray[Any]:
    """One sample of zeros.

    Example:
        >>> zeros(Tensor(name="x", shape=(2, 3), dtype="float32")).shape
        (2, 3)
    """
    if math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize > 1 << 30:
        msg = f"tensor {tensor.name!r} of {tensor.shape} is above 1 GiB"
        raise ModelError(msg)
    return np.zeros(tensor.shape, tensor.dtype)
