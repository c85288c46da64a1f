"""The cloud's half: frame → checks → decode → tail → answer.

One service holds one bundle. It keeps no state between requests and may be called from many
threads. What arrives is not trusted: a frame that is not one raises before anything is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import BundleError, BundleMismatch, CorruptData, InputError
from narrows.plan.candidate import Route
from narrows.runtime import frame as frames
from narrows.runtime import reply as replies
from narrows.runtime.bundle import Bundle
from narrows.runtime.network import Network
from narrows.runtime.payload import Payloads
from narrows.runtime.reply import Outputs, Reply, best

MAX_BATCH: Final = 64


@final
class CloudService:
    """Answers frames and whole inputs with the networks of one bundle.

    Args:
        bundle: What to serve.
        threads: Threads inside one run of a network.
        clock: Seconds; for the service time in a reply.

    Raises:
        BundleError: A part of the bundle cannot be used.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.bundle = bundle
        self._clock = clock
        manifest = bundle.manifest
        self._model = bundle.model(threads=threads) if manifest.has_model else None
        self._tail = bundle.tail(threads=threads) if manifest.route is Route.SPLIT else None
        self._payloads = Payloads(bundle)  # after the networks: they vouch for its shape

    def answer(self, data: bytes) -> bytes:
        """The reply frame to a request frame: the best classes, or the whole output, as it asks.

        Raises:
            CorruptData: The bytes are not a request frame, or its payload does not decode.
            BundleMismatch: The frame was made with another bundle.
        """
        start_s = self._clock()
        request = self._request(data)
        outputs = self._outputs(request)
        service_s = self._clock() - start_s
        if request.top:
            reply = Reply(service_s=service_s, top=best(outputs[0], request.top))
        else:
            reply = Reply(service_s=service_s, outputs=outputs)
        payload = replies.pack(reply)
        return frames.pack(
            frames.Frame(
                route=request.route,
                bundle_id=request.bundle_id,
                payload=payload,
                top=request.top,
                reply=True,
            )
        )

    def outputs(self, data: bytes) -> Outputs:
        """The model's outputs for a request frame, whatever part of them it asks for.

        Raises:
            CorruptData: As in `answer`.
            BundleMismatch: As in `answer`.
        """
        return self._outputs(self._request(data))

    def infer(self, inputs: NDArray[Any]) -> Outputs:
        """The whole model on inputs (n, *shape), or on uint8 pixels (n, height, width, channels).

        Raises:
            BundleError: The bundle has no whole model.
            InputError: Shape or type do not fit, or a value is not finite.
        """
        if self._model is None:
            msg = f"{self.bundle.path} has no whole model: deploy again with it"
            raise BundleError(msg)
        manifest = self.bundle.manifest
        if inputs.ndim == 0 or not 0 < len(inputs) <= MAX_BATCH:
            msg = f"inputs of shape {inputs.shape}: send 1 to {MAX_BATCH} at once"
            raise InputError(msg)
        if manifest.takes_pictures and inputs.dtype == np.uint8:
            inputs = np.stack([self._prepared(pixels) for pixels in inputs])
        wanted = manifest.input
        if inputs.shape[1:] != wanted.shape or inputs.dtype != np.dtype(wanted.dtype):
            found = f"{inputs.dtype} {inputs.shape[1:]}"
            msg = f"model {manifest.model!r} takes {wanted.dtype} {wanted.shape}; got {found}"
            raise InputError(msg)
        if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
            msg = "the input has values that are NaN or infinite"
            raise InputError(msg)
        return self._model.batch(inputs)

    def _request(self, data: bytes) -> frames.Frame:
        manifest = self.bundle.manifest
        request = frames.unpack(data, max_bytes=manifest.max_frame_bytes)
        if request.reply:
            msg = "a reply frame where a request is expected"
            raise CorruptData(msg)
        if request.bundle_id != self.bundle.id:
            msg = (
                f"the frame was made with bundle {request.bundle_id.hex()}, this service holds "
                f"{self.bundle.id.hex()} ({manifest.model!r}): deploy the same bundle on both sides"
            )
            raise BundleMismatch(msg)
        if request.route is not manifest.route:
            msg = f"a frame of the {request.route.value} route, this bundle is for "
            raise CorruptData(msg + manifest.route.value)
        return request

    def _outputs(self, request: frames.Frame) -> Outputs:
        values = self._payloads.unpack(request.payload)
        if self._tail is not None:
            return self._tail.one(values)
        if self.bundle.manifest.takes_pictures:
            values = self._prepared(values)
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            msg = "the input has values that are NaN or infinite"
            raise InputError(msg)
        return _required(self._model).one(values)

    def _prepared(self, pixels: NDArray[Any]) -> NDArray[Any]:
        preprocess = self.bundle.manifest.preprocess
        return pixels if preprocess is None else preprocess.to_input(pixels)


def _required(model: Network | None) -> Network:
    if model is None:  # the manifest's own check makes this impossible
        msg = "the bundle has no whole model"
        raise BundleError(msg)
    return model
