"""The device's half: head → check → encode → frame → send, or the whole model here.

                       ┌─ goes_remote ─► head ─► encode ─► send ─► reply ─► Answer(route=split)
    sample ─► prepare ─┤                                    └ no answer ┐
                       └─ else ─────────► whole model ◄─────────────────┘ Answer(route=local)

With a local model that meets the deadline every input is answered: the client waits for the server
only as long as the local model can still make it, and after a failure it asks the server again only
now and then (`policy`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import (
    BundleError,
    BundleMismatch,
    CorruptData,
    DeadlineMissed,
    InputError,
    TransportError,
    Unreachable,
)
from narrows.plan.candidate import Route
from narrows.runtime import frame as frames
from narrows.runtime import policy
from narrows.runtime import reply as replies
from narrows.runtime.answer import NO_TIMES, NO_TRAFFIC, Answer, Times, Traffic
from narrows.runtime.bundle import Bundle
from narrows.runtime.network import Network, zeros
from narrows.runtime.payload import Payloads
from narrows.runtime.reply import Reply, best
from narrows.runtime.transport import Transport

_NO_ANSWER = (TransportError, CorruptData, BundleMismatch)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One input on its way: pixels or an array first, the network's input once prepared."""

    start_s: float
    values: NDArray[Any]
    is_input: bool = False
    times: Times = NO_TIMES
    traffic: Traffic = NO_TRAFFIC
    reason: str = ""


@final
class EdgeClient:
    """Answers inputs with one bundle over one transport. For one thread.

    Args:
        bundle: The same as the cloud's.
        transport: The way to the cloud; None answers everything here.
        deadline_s: What an answer may take; None waits for the server as long as it takes.
        top: How many classes to ask for, 0 for the whole outputs.
        threads: Threads inside one run of a network.
        local: Whether to load the whole model to answer when the server does not.
        clock: Seconds, monotone.

    Raises:
        BundleError: A part of the bundle cannot be used, or there is no way to answer at all.

    Example:
        ```python notest
        with Grpc("cloud:8001", bundle) as link:
            client = EdgeClient(bundle, link, deadline_s=0.1)
            print(client.answer(bundle.manifest.preprocess.pixels("cat.jpg")).labels[0])
        ```
    """

    def __init__(
        self,
        bundle: Bundle,
        transport: Transport | None,
        *,
        deadline_s: float | None = None,
        top: int = 5,
        threads: int = 1,
        local: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        manifest = bundle.manifest
        remote = transport is not None and manifest.route is not Route.LOCAL
        self.bundle = bundle
        self.link = policy.Link()
        self._transport = transport if remote else None
        self._rules = policy.Rules(deadline_s=deadline_s)
        self._top = min(top, math.prod(manifest.outputs[0].shape), frames.MAX_TOP)
        self._clock = clock
        is_split = remote and manifest.route is Route.SPLIT
        self._head = bundle.head(threads=threads) if is_split else None
        wanted = manifest.has_model and (local or not remote)
        self._model = bundle.model(threads=threads) if wanted else None
        if self._model is None and not remote:
            msg = f"{bundle.path} has no whole model and there is no server: give one of the two"
            raise BundleError(msg)
        self._payloads = Payloads(bundle)  # after the networks: they vouch for its shape
        self._local_s = None if self._model is None else self._warm(self._model)
        if self._head is not None:
            self._warm(self._head)
        self._spoke = False

    def answer(self, sample: NDArray[Any]) -> Answer:
        """Answer one input, by the server or here.

        Args:
            sample: Pixels (height, width, channels) in uint8 where the model takes pictures, else
                an array of the input's shape, before the preprocessing.

        Raises:
            InputError: The sample does not fit, or makes values that are NaN or infinite.
            TransportError: The server did not answer, and there is no local model.
            BundleMismatch: The server holds another bundle and has never answered this client.
        """
        request = _Request(start_s=self._clock(), values=sample)
        manifest = self.bundle.manifest
        if not (manifest.takes_pictures and self._head is None and self._transport):
            request = self._prepared(request)
        elif sample.shape != manifest.pixel_shape or sample.dtype != np.uint8:
            found = f"{sample.dtype} {sample.shape}"
            msg = f"model {manifest.model!r} takes uint8 pixels {manifest.pixel_shape}; got {found}"
            raise InputError(msg)
        if self._transport is None:
            return self._here(request)
        if self._model is not None and not policy.goes_remote(self.link, now_s=request.start_s):
            return self._here(replace(request, reason="the server failed just before"))
        return self._there(self._transport, request)

    def _prepared(self, request: _Request) -> _Request:
        """Scale pixels, or check an array, unless it is done."""
        if request.is_input:
            return request
        begin_s, manifest = self._clock(), self.bundle.manifest
        preprocess = manifest.preprocess
        x = request.values if preprocess is None else preprocess.to_input(request.values)
        if x.shape != manifest.input.shape:
            msg = f"model {manifest.model!r} takes arrays {manifest.input.shape}; got {x.shape}"
            raise InputError(msg)
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            broken = int((~np.isfinite(x)).sum())
            msg = f"{broken} of the input's {x.size} values are NaN or infinite: clean the data"
            raise InputError(msg)
        times = replace(request.times, prepare_s=self._clock() - begin_s)
        x = x.astype(manifest.input.dtype, copy=False)
        return replace(request, values=x, is_input=True, times=times)

    def _there(self, transport: Transport, request: _Request) -> Answer:
        data, times = self._frame(request)
        request = replace(request, times=times)
        sent_s = self._clock()
        waiting_s = policy.waiting_s(
            deadline_s=self._rules.deadline_s,
            elapsed_s=sent_s - request.start_s,
            local_s=self._local_s,
        )
        try:
            if waiting_s <= 0:
                msg = f"the deadline of {self._rules.deadline_s} s leaves no time for the server"
                raise DeadlineMissed(msg)
            up, _ = transport.wire_bytes(data, b"")
            request = replace(request, traffic=Traffic(frame_bytes_up=len(data), wire_bytes_up=up))
            received = transport.send(data, timeout_s=waiting_s)
            reply = self._reply(received)
        except _NO_ANSWER as error:
            self.link = policy.failed(self.link, self._rules, now_s=self._clock())
            if isinstance(error, Unreachable):  # then there was nobody to send anything to
                request = replace(request, traffic=NO_TRAFFIC)
            if self._model is None or (isinstance(error, BundleMismatch) and not self._spoke):
                raise
            return self._here(replace(request, reason=str(error)))
        now_s = self._clock()
        self._spoke = True
        remote_s = now_s - request.start_s
        self.link = policy.answered(self.link, self._rules, now_s=now_s, remote_s=remote_s)
        up, down = transport.wire_bytes(data, received)
        traffic = Traffic(
            frame_bytes_up=len(data),
            frame_bytes_down=len(received),
            wire_bytes_up=up,
            wire_bytes_down=down,
        )
        link_s = max(0.0, now_s - sent_s - reply.service_s)
        times = replace(times, link_s=link_s, service_s=reply.service_s)
        request = replace(request, times=times, traffic=traffic)
        return self._answer(self.bundle.manifest.route, reply, request)

    def _frame(self, request: _Request) -> tuple[bytes, Times]:
        """Run the head if there is one, and code what crosses the link."""
        begin_s, manifest, values = self._clock(), self.bundle.manifest, request.values
        if self._head is not None:
            values, check = self._head.one(values)
            if not np.isfinite(check):
                msg = (
                    f"the feature at {manifest.split and manifest.split.tensor!r} has values that "
                    "are NaN or infinite: the input or the model is broken"
                )
                raise InputError(msg)
        headed_s = self._clock()
        data = frames.pack(
            frames.Frame(
                route=manifest.route,
                bundle_id=self.bundle.id,
                payload=self._payloads.pack(values),
                top=self._top,
            )
        )
        encode_s = self._clock() - headed_s
        return data, replace(request.times, head_s=headed_s - begin_s, encode_s=encode_s)

    def _reply(self, received: bytes) -> Reply:
        manifest = self.bundle.manifest
        reply_bytes = 1024 + sum(output.size_bytes for output in manifest.outputs)
        found = frames.unpack(received, max_bytes=reply_bytes + 8 * frames.MAX_TOP)
        asked = (manifest.route, self.bundle.id, self._top, True)
        if (found.route, found.bundle_id, found.top, found.reply) != asked:
            msg = "the reply does not belong to the request that was sent"
            raise CorruptData(msg)
        return replies.unpack(found.payload, outputs=manifest.outputs, top=self._top)

    def _here(self, request: _Request) -> Answer:
        if self._model is None:  # the constructor's own check makes this impossible
            msg = f"{self.bundle.path} has no whole model"
            raise BundleError(msg)
        request = self._prepared(request)
        begin_s = self._clock()
        outputs = self._model.one(request.values)
        local_s = self._clock() - begin_s
        before_s = local_s if self._local_s is None else self._local_s
        self._local_s = before_s + self._rules.smoothing * (local_s - before_s)
        if not all(np.isfinite(array).all() for array in outputs if array.dtype.kind == "f"):
            msg = "the model's output has values that are NaN or infinite: the model is broken"
            raise InputError(msg)
        reply = Reply(service_s=0.0, top=best(outputs[0], self._top), outputs=outputs)
        times = replace(request.times, local_s=local_s)
        return self._answer(Route.LOCAL, reply, replace(request, times=times))

    def _answer(self, route: Route, reply: Reply, request: _Request) -> Answer:
        labels = self.bundle.manifest.labels
        total_s = self._clock() - request.start_s
        deadline_s = self._rules.deadline_s
        return Answer(
            route=route,
            top=reply.top,
            labels=() if labels is None else tuple(labels[place] for place, _ in reply.top),
            outputs=reply.outputs,
            times=replace(request.times, total_s=total_s),
            traffic=request.traffic,
            in_time=deadline_s is None or total_s <= deadline_s,
            reason=request.reason,
        )

    def _warm(self, network: Network) -> float:
        """Run a network twice on zeros and say how long the second run took."""
        sample = zeros(network.input)
        network.one(sample)
        begin_s = self._clock()
        network.one(sample)
        return self._clock() - begin_s
