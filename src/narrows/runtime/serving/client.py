"""Grpc: the device's transport, which finds its server again by itself."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Self, final

import grpc

from narrows.errors import BundleMismatch, CorruptData, DeadlineMissed, TransportError, Unreachable
from narrows.runtime.bundle import Bundle
from narrows.runtime.serving import tensors, wire
from narrows.runtime.serving.messages import SERVICE, InferRequest, InferResponse, Message
from narrows.runtime.serving.servicer import ANSWER, FRAME, SPLIT_SUFFIX
from narrows.runtime.transport import Transport

_METHOD: Final = f"/{SERVICE}/ModelInfer"
_LOST_AFTER: Final = 2

_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name: how long one attempt to connect may take, on a slow link too.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A link that is gone says nothing: ask after 20 s of a waiting request, give up 5 s later.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_retries", 0),
    # Pings that measure the link cost a thin one up to 60 bytes a call.
    ("grpc.http2.bdp_probe", 0),
    # The device decides when to try again; a proxy is for the operator to name as the address.
    ("grpc.enable_http_proxy", 0),
    # Channels to one address share connections by default; a fresh channel is to be fresh.
    ("grpc.use_local_subchannel_pool", 1),
)

_ERRORS: Final = MappingProxyType(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineMissed,
        grpc.StatusCode.UNAVAILABLE: Unreachable,
        grpc.StatusCode.FAILED_PRECONDITION: BundleMismatch,
        grpc.StatusCode.NOT_FOUND: BundleMismatch,
        grpc.StatusCode.INVALID_ARGUMENT: CorruptData,
        grpc.StatusCode.UNIMPLEMENTED: Unreachable,
    }
)


@final
class Grpc(Transport):
    """Sends frames to NAME.split of a server and asks for compact answers.

    The connection is made at the first frame and again after it broke. After two requests in a row
    without an answer in time the connection is thrown away: a path that changed under it would
    otherwise be tried until the system gives up, which takes a quarter of an hour.

    Args:
        address: "host:port".
        bundle: Whose frames are sent.
    """

    def __init__(self, address: str, bundle: Bundle) -> None:
        self.address = address
        self._name = bundle.manifest.model + SPLIT_SUFFIX
        self._max_bytes = 1 << 16
        self._max_bytes += sum(output.size_bytes for output in bundle.manifest.outputs)
        self._missed = 0
        self._calls = 0
        self._channel: Any = None
        self._infer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, frame: bytes, *, timeout_s: float) -> bytes:
        """Send a frame to the server and wait for its reply frame."""
        if self._channel is None:
            self._connect()
        try:
            response = self._infer(self._request(frame), timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._error(error, timeout_s) from None
        self._missed = 0
        self._calls += 1
        if len(response.raw_output_contents) != 1:
            msg = f"the server at {self.address} gave {len(response.raw_output_contents)} answers"
            raise CorruptData(msg)
        return tensors.one_string(response.raw_output_contents[0])

    def wire_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        """What a call with this frame and this reply puts on the wire; see `serving.wire`."""
        return wire.call_bytes(*self.message_bytes(frame, reply))

    def message_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        """Sizes of the messages around a frame and a reply; 0 for no reply."""
        response = InferResponse()
        tensors.add_strings(response, ANSWER, [reply])
        return self._request(frame).ByteSize(), response.ByteSize() if reply else 0

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = self._infer = None

    def _request(self, frame: bytes) -> Message:
        request = InferRequest(model_name=self._name)
        request.inputs.add(name=FRAME, datatype=tensors.BYTES, shape=[1])
        request.outputs.add(name=ANSWER)
        request.raw_input_contents.append(tensors.joined([frame]))
        return request

    def _connect(self) -> None:
        limit = ("grpc.max_receive_message_length", self._max_bytes)
        self._channel = grpc.insecure_channel(self.address, (*_OPTIONS, limit))
        self._infer = self._channel.unary_unary(
            _METHOD,
            request_serializer=InferRequest.SerializeToString,
            response_deserializer=InferResponse.FromString,
        )

    def _error(self, error: Any, timeout_s: float) -> Exception:
        code, details = error.code(), error.details() or ""
        kind = _ERRORS.get(code, TransportError)
        if kind is DeadlineMissed:
            self._missed += 1
            if self._missed >= _LOST_AFTER:
                self._missed = 0
                self.close()
            return kind(f"no answer from {self.address} within {timeout_s:.3f} s")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return kind(
                f"what answers at {self.address} is no `narrows serve` ({details[:100]}): check "
                "the address and the port"
            )
        if kind is Unreachable:
            reason = details.rpartition(": ")[2][:100].rstrip("]")
            return kind(
                f"nobody answers at {self.address} ({reason}): start `narrows serve` there, "
                "or check the address"
            )
        if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
            return kind(f"the server at {self.address} does not serve this bundle: {details[:500]}")
        return kind(f"the server at {self.address} refused the frame: {details[:500]}")
