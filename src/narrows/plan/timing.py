"""Times of the model's parts: taken here where the place is this machine, else predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter, sleep
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.coding.transforms import BlockedPCA
from narrows.graph.cost import NodeCost, node_costs
from narrows.graph.cuts import Cut
from narrows.graph.fuse import fuse_head, fuse_tail
from narrows.graph.load import Model
from narrows.graph.ort import run, session
from narrows.graph.split import split
from narrows.measure.profiling import predict_head_s
from narrows.plan.candidate import Term
from narrows.plan.fitted import FittedCut
from narrows.plan.predict import Places
from narrows.plan.profile import Cloud, Device

_WARM_UP = 3
_CALLS = 15
_PAUSE_S = 0.01


@final
class PartTimes:
    """How long the parts of one model take on a device and in a cloud.

    Args:
        model: The whole model.
        places: A place that is `here` is timed, any other predicted from its rates.
        sample: One input (1, *input_shape).
    """

    def __init__(self, model: Model, places: Places, sample: NDArray[np.float32]) -> None:
        given = model.input
        feed = np.moveaxis(sample, 0, given.batch_axis or 0).astype(given.dtype)
        self._model, self._places = model, places
        self._feed: dict[str, NDArray[Any]] = {given.name: np.ascontiguousarray(feed)}
        self._costs = node_costs(model)

    def prepare(self, place: Device | Cloud, prepare: Callable[[], object]) -> Term:
        """From pixels or an array to the model's input; scaled from this machine elsewhere."""
        seconds = median_s(prepare)
        if place.here:
            return Term(seconds=seconds, measured=True)
        return Term(seconds=seconds * place.slowdown)

    def whole(self, place: Device | Cloud) -> Term:
        """The whole model."""
        if place.here:
            return _timed(self._model.proto, self._feed, place.threads)
        return _predicted(self._costs, place)

    def head(self, cut: Cut, fitted: FittedCut) -> Term:
        """The model up to a cut and the codec's transform, on the device."""
        device = self._places.device
        if not device.here:
            end = self._model.flow.producer[cut.tensor] + 1
            return _predicted((*self._costs[:end], projection(cut, fitted)), device)
        head = split(self._model, cut).head
        assert head is not None, "the first cut has no head"
        return _timed(fuse_head(head, cut, fitted.codec(fitted.middle)), self._feed, device.threads)

    def tail(self, cut: Cut, fitted: FittedCut) -> Term:
        """The inverse transform and the model after a cut, in the cloud."""
        cloud = self._places.cloud
        if not cloud.here:
            start = self._model.flow.producer[cut.tensor] + 1
            return _predicted((projection(cut, fitted), *self._costs[start:]), cloud)
        tail = split(self._model, cut).tail
        assert tail is not None, "the last cut has no tail"
        symbols = np.zeros((1, *fitted.component_shape(fitted.middle)), np.int32)
        return _timed(
            fuse_tail(tail, cut, fitted.codec(fitted.middle)), {"symbols": symbols}, cloud.threads
        )


def projection(cut: Cut, fitted: FittedCut) -> NodeCost:
    """The codec's transform at the middle rate as the convolution that it is in the head."""
    rate = fitted.middle
    components, *positions = fitted.component_shape(rate)
    macs, floats = fitted.macs(rate), 4
    block = (1,) * len(positions)
    if isinstance(fitted.transform, BlockedPCA):
        block = (fitted.transform.block,) * len(positions)
    return NodeCost(
        name="projection",
        op_type="Conv" if positions else "Gemm",
        macs=macs,
        weight_bytes=macs // max(1, math.prod(positions)) * floats,
        in_bytes=math.prod(fitted.shape) * floats,
        out_bytes=components * math.prod(positions) * floats,
        rule_known=True,
        is_data=True,
        kernel=block,
        stride=block,
        group=fitted.transform.geometry(fitted.shape).groups,
        in_shape=(1, *fitted.shape),
        out_shape=(1, components, *positions),
        reads=(cut.tensor,),
        makes=("projection",),
    )


def median_s(work: Callable[[], object]) -> float:
    """Median seconds of a call after a short warm-up.

    Between calls there is a pause, as device and cloud wait for each other between requests:
    without it a head of a few milliseconds seems a millisecond faster than it is in use.
    """
    for _ in range(_WARM_UP):
        work()
    taken = []
    for _ in range(_CALLS):
        sleep(_PAUSE_S)
        started_s = perf_counter()
        work()
        taken.append(perf_counter() - started_s)
    return median(taken)


def _timed(proto: onnx.ModelProto, feed: Mapping[str, NDArray[Any]], threads: int) -> Term:
    running = session(proto, threads=threads)
    return Term(seconds=median_s(lambda: run(running, feed)), measured=True)


def _predicted(costs: tuple[NodeCost, ...], place: Device | Cloud) -> Term:
    data = [cost for cost in costs if cost.is_data]
    return Term(seconds=predict_head_s(data, place.rates) * place.slowdown)
