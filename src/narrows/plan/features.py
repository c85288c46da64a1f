"""A model run once for the tensors at many cuts, and its tails run from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import PlanError
from narrows.graph.cuts import Cut
from narrows.graph.load import Model, TensorInfo
from narrows.graph.ort import run, session
from narrows.graph.split import split

Floats = NDArray[np.float32]


@final
class FeatureReader:
    """Runs a model once a batch and gives its features at several cuts and its outputs.

    Args:
        model: The whole model.
        cuts: Where to read; may be empty.
        threads: Threads inside an operator.
    """

    def __init__(self, model: Model, cuts: Sequence[Cut], *, threads: int) -> None:
        self._model, self._cuts = model, tuple(cuts)
        self._names = [*(cut.tensor for cut in cuts), model.outputs[0].name]
        self._session = session(model.proto, threads=threads, outputs=self._names)

    def read(self, inputs: Floats) -> tuple[Mapping[int, Floats], Floats]:
        """Features by cut index, each (n, *shape), and outputs (n, k), of inputs (n, *shape).

        Raises:
            PlanError: A feature holds a value that is not finite; the message names the tensor.
        """
        given = self._model.input
        feed = np.moveaxis(inputs, 0, given.batch_axis or 0).astype(given.dtype, copy=False)
        found = run(self._session, {given.name: np.ascontiguousarray(feed)}, self._names)
        features = {}
        for cut, array in zip(self._cuts, found, strict=False):
            feature = np.moveaxis(array, cut.batch_axis, 0)
            self._check(cut, feature)
            features[cut.index] = np.ascontiguousarray(feature, np.float32)
        outputs = flat_outputs(found[-1], self._model.outputs[0])
        if not np.isfinite(outputs).all():
            raise PlanError(self._message(self._names[-1], outputs, "output"))
        return features, outputs

    def _check(self, cut: Cut, feature: NDArray[Any]) -> None:
        if not np.isfinite(feature).all():
            raise PlanError(self._message(cut.tensor, feature, f"cut {cut.index}"))

    def _message(self, tensor: str, array: NDArray[Any], place: str) -> str:
        bad = int(array.size - np.isfinite(array).sum())
        return (
            f"tensor {tensor!r} ({place}) has {bad} of {array.size} values that are NaN or "
            "infinite on real examples: look at the preprocessing and at the model's weights, "
            "or leave that cut out"
        )


@final
class Tail:
    """The part of a model after a cut.

    Args:
        model: The whole model.
        cut: Neither the input nor the output.
        threads: Threads inside an operator.
    """

    def __init__(self, model: Model, cut: Cut, *, threads: int) -> None:
        self._cut, self._output = cut, model.outputs[0]
        tail = split(model, cut).tail
        assert tail is not None, "the last cut has no tail"
        self._session = session(tail, threads=threads)

    def run(self, feature: Floats) -> Floats:
        """Outputs (n, k) of features (n, *shape); integer features are rounded and clipped."""
        array = as_stored(feature, self._cut.dtype)
        feed = np.ascontiguousarray(np.moveaxis(array, 0, self._cut.batch_axis))
        (found,) = run(self._session, {self._cut.tensor: feed}, [self._output.name])
        return flat_outputs(found, self._output)


def as_stored(feature: Floats, dtype: str) -> NDArray[Any]:
    """A restored feature in the element type that the tail takes."""
    target = np.dtype(dtype)
    if target.kind not in "iu":
        return feature.astype(target, copy=False)
    limits = np.iinfo(target)
    return np.clip(np.rint(feature), limits.min, limits.max).astype(target)


def flat_outputs(array: NDArray[Any], info: TensorInfo) -> Floats:
    """A model's output as (n, k)."""
    moved = np.moveaxis(array, info.batch_axis or 0, 0)
    return np.ascontiguousarray(moved.reshape(len(moved), -1), np.float32)
