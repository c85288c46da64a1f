"""The six calls of the protocol, answered by one CloudService under two model names.

    NAME          the whole model: its input as floats (n, *shape), or pixels in UINT8
    NAME.split    frames of `narrows.runtime.frame` as a BYTES tensor [n] called "frame"

NAME.split gives the model's outputs (n, *shape); a device asks for the output "answer" instead and
gets the compact reply frames. What a caller did wrong is INVALID_ARGUMENT (or FAILED_PRECONDITION
for another bundle's frame, NOT_FOUND for another model); the message is the one of the error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, final

import grpc
import numpy as np

from narrows import __version__
from narrows.errors import BundleError, BundleMismatch, CorruptData, NarrowsError
from narrows.plan.candidate import Route
from narrows.runtime.cloud import CloudService
from narrows.runtime.serving import tensors
from narrows.runtime.serving.messages import CALLS, SERVICE, InferResponse, Message, message

FRAME: Final = "frame"
ANSWER: Final = "answer"
SPLIT_SUFFIX: Final = ".split"
PLATFORM: Final = "narrows_onnx"

_LOG: Final = logging.getLogger(__name__)


@final
class Servicer:
    """Answers the protocol's calls; may be called from many threads.

    Args:
        service: What computes.
    """

    def __init__(self, service: CloudService) -> None:
        self._service = service
        manifest = service.bundle.manifest
        self._manifest = manifest
        self._whole = manifest.model if manifest.has_model else ""
        self._frames = "" if manifest.route is Route.LOCAL else manifest.model + SPLIT_SUFFIX

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that are served."""
        return tuple(filter(None, (self._whole, self._frames)))

    def handler(self) -> grpc.GenericRpcHandler:
        """The calls as gRPC wants them."""
        handlers = {
            call: grpc.unary_unary_rpc_method_handler(
                _guarded(getattr(self, _METHODS[call])),
                request_deserializer=message(f"{call}Request").FromString,
                response_serializer=message(f"{call}Response").SerializeToString,
            )
            for call in CALLS
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def server_live(self, request: Message) -> Message:
        """Whether the process answers at all."""
        return message("ServerLiveResponse")(live=True)

    def server_ready(self, request: Message) -> Message:
        """Whether models are loaded: they are, before the port opens."""
        return message("ServerReadyResponse")(ready=True)

    def model_ready(self, request: Message) -> Message:
        """Whether a model of this name is served."""
        return message("ModelReadyResponse")(ready=self._serves(request.name, request.version))

    def server_metadata(self, request: Message) -> Message:
        """Name and version of the server."""
        return message("ServerMetadataResponse")(name="narrows", version=__version__)

    def model_metadata(self, request: Message) -> Message:
        """Inputs and outputs of a model; the version of both is the bundle's id."""
        self._require(request.name, request.version)
        found = message("ModelMetadataResponse")(name=request.name, platform=PLATFORM)
        found.versions.append(self._service.bundle.id.hex())
        if request.name == self._whole:
            given = self._manifest.input
            kind = tensors.datatype(given.dtype)
            found.inputs.add(name=given.name, datatype=kind, shape=[-1, *given.shape])
        else:
            found.inputs.add(name=FRAME, datatype=tensors.BYTES, shape=[-1])
        for output in self._manifest.outputs:
            kind = tensors.datatype(output.dtype)
            found.outputs.add(name=output.name, datatype=kind, shape=[-1, *output.shape])
        if request.name == self._frames:
            found.outputs.add(name=ANSWER, datatype=tensors.BYTES, shape=[-1])
        return found

    def model_infer(self, request: Message) -> Message:
        """Run a model."""
        self._require(request.model_name, request.model_version)
        raw = request.raw_input_contents
        if (
            len(request.inputs) != 1
            or len(raw) > 1
            or (raw and request.inputs[0].HasField("contents"))
        ):
            msg = (
                f"model {request.model_name!r} takes one input, raw or typed; got "
                f"{len(request.inputs)} inputs and {len(raw)} raw contents"
            )
            raise CorruptData(msg)
        given, data = request.inputs[0], raw[0] if raw else None
        wanted = [output.name for output in request.outputs]
        response = InferResponse(model_name=request.model_name, id=request.id)
        if request.model_name == self._whole:
            outputs = self._service.infer(tensors.array_of(given, data))
            self._add_outputs(response, wanted, outputs)
            return response
        strings = tensors.strings_of(given, data)
        if wanted == [ANSWER]:
            response = InferResponse()  # the device knows what it asked, and counts its bytes
            tensors.add_strings(response, ANSWER, [self._service.answer(s) for s in strings])
            return response
        each = [self._service.outputs(string) for string in strings]
        outputs = tuple(np.stack(arrays) for arrays in zip(*each, strict=True))
        self._add_outputs(response, wanted, outputs)
        return response

    def _add_outputs(self, response: Message, wanted: list[str], outputs: tuple[Any, ...]) -> None:
        specs = self._manifest.outputs
        named = {spec.name: array for spec, array in zip(specs, outputs, strict=True)}
        unknown = [name for name in wanted if name not in named]
        if unknown:
            msg = f"no output {unknown[0][:80]!r}; the model gives {', '.join(named)}"
            raise CorruptData(msg)
        for name in wanted or named:
            tensors.add_array(response, name, named[name])

    def _serves(self, name: str, version: str) -> bool:
        known = name != "" and name in (self._whole, self._frames)
        return known and version in ("", self._service.bundle.id.hex())

    def _require(self, name: str, version: str) -> None:
        if not self._serves(name, version):
            served = ", ".join(self.models)
            msg = f"no model {name[:80]!r} version {version[:20]!r} here: this server has {served}"
            raise _NotFoundError(msg)


_METHODS: Final = {
    "ServerLive": "server_live",
    "ServerReady": "server_ready",
    "ModelReady": "model_ready",
    "ServerMetadata": "server_metadata",
    "ModelMetadata": "model_metadata",
    "ModelInfer": "model_infer",
}


class _NotFoundError(BundleError):
    """The caller asked for a model that is not served."""


def _guarded(call: Callable[[Message], Message]) -> Callable[[Message, Any], Message]:
    """A call whose errors become the protocol's status codes."""

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        if not context.is_active():  # it waited for a worker and the caller has given up
            context.abort(grpc.StatusCode.CANCELLED, "the caller has left")
        try:
            return call(request)
        except _NotFoundError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except BundleMismatch as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except NarrowsError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except MemoryError:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the request needs too much memory")
        except Exception:
            _LOG.exception("a request failed for a reason of our own")
            context.abort(grpc.StatusCode.INTERNAL, "the service failed; its log says why")

    return answer
