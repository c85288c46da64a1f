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
from narrows.graph.ort import run, session
from narrows.measure.profiling import predict_head_s
from narrows.plan.candidate import Term
from narrows.plan.fitted import FittedCut
from narrows.plan.halves import Halves
from narrows.plan.predict import Places
from narrows.plan.profile import Cloud, Device

_WARM_UP = 3
_CALLS = 15
_PAUSE_S = 0.01


@final
class PartTimes:
    """How long the parts of one variant take on a device and in a cloud.

    Args:
        halves: Where its heads and tails come from.
        places: A place that is `here` is timed, any other predicted from its rates.
        sample: One input (1, *input_shape).
    """

    def __init__(self, halves: Halves, places: Places, sample: NDArray[np.float32]) -> None:
        given = halves.device.input
        feed = np.moveaxis(sample, 0, given.batch_axis or 0).astype(given.dtype)
        self._halves, self._places = halves, places
        self._feed: dict[str, NDArray[Any]] = {given.name: np.ascontiguousarray(feed)}
        self._device_costs = node_costs(halves.device)
        same = halves.cloud is halves.device
        self._cloud_costs = self._device_costs if same else node_costs(halves.cloud)

    def prepare(self, place: Device | Cloud, prepare: Callable[[], object]) -> Term:
        """From pixels or an array to the model's input; scaled from this machine elsewhere."""
        seconds = median_s(prepare)
        if place.here:
            return Term(seconds=seconds, measured=True)
        return Term(seconds=seconds * place.slowdown)

    def whole(self, place: Device | Cloud) -> Term:
        """The whole network of a place."""
        on_device = isinstance(place, Device)
        if place.here:
            model = self._halves.device if on_device else self._halves.cloud
            return _timed(model.proto, self._feed, place.threads)
        return _predicted(self._device_costs if on_device else self._cloud_costs, place)

    def head(self, index: int, fitted: FittedCut) -> Term:
        """The device's network up to a cut and the codec's transform."""
        device, cut = self._places.device, self._halves.heads[index]
        if not device.here:
            end = self._halves.device.flow.producer[cut.tensor] + 1
            return _predicted((*self._device_costs[:end], projection(cut, fitted)), device)
        head = fuse_head(self._halves.head(index), cut, fitted.codec(fitted.middle))
        return _timed(head, self._feed, device.threads)

    def tail(self, index: int, fitted: FittedCut) -> Term:
        """The inverse transform and the cloud's network after a cut."""
        cloud, cut = self._places.cloud, self._halves.tails[index]
        if not cloud.here:
            start = self._halves.cloud.flow.producer[cut.tensor] + 1
            return _predicted((projection(cut, fitted), *self._cloud_costs[start:]), cloud)
        tail = self._halves.tail(index)
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
