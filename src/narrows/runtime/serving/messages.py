"""The messages of the Open Inference Protocol, version 2, and its six calls.

Names, numbers and types of messages and fields are those of the protocol's published definition,
"grpc_predict_v2.proto", Copyright 2020 kubeflow.org, licensed under the Apache License, Version
2.0 (http://www.apache.org/licenses/LICENSE-2.0), distributed on an "AS IS" basis, without
warranties or conditions of any kind. They are written here as a table and built into a descriptor
pool of our own, because every client library brings the same package `inference` and a second one
in the default pool of a process is an error.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "inference"
SERVICE: Final = "inference.GRPCInferenceService"

Message = Any  # made at run time from the table below

_TENSOR: Final = "name=1 string; datatype=2 string; shape=3 repeated int64"
_PARAMETERS: Final = "map InferParameter"

# Message → fields, each `name=number [repeated] type`, or `name=number map InferParameter`.
_MESSAGES: Final = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live=1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1 bool",
    "ModelReadyRequest": "name=1 string; version=2 string",
    "ModelReadyResponse": "ready=1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name=1 string; version=2 string; extensions=3 repeated string",
    "ModelMetadataRequest": "name=1 string; version=2 string",
    "ModelMetadataResponse": "name=1 string; versions=2 repeated string; platform=3 string; "
    "inputs=4 repeated ModelMetadataResponse.TensorMetadata; "
    "outputs=5 repeated ModelMetadataResponse.TensorMetadata",
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": "bool_param=1 bool; int64_param=2 int64; string_param=3 string",
    "InferTensorContents": "bool_contents=1 repeated bool; int_contents=2 repeated int32; "
    "int64_contents=3 repeated int64; uint_contents=4 repeated uint32; "
    "uint64_contents=5 repeated uint64; fp32_contents=6 repeated float; "
    "fp64_contents=7 repeated double; bytes_contents=8 repeated bytes",
    "ModelInferRequest": "model_name=1 string; model_version=2 string; id=3 string; "
    f"parameters=4 {_PARAMETERS}; inputs=5 repeated ModelInferRequest.InferInputTensor; "
    "outputs=6 repeated ModelInferRequest.InferRequestedOutputTensor; "
    "raw_input_contents=7 repeated bytes",
    "ModelInferRequest.InferInputTensor": f"{_TENSOR}; parameters=4 {_PARAMETERS}; "
    "contents=5 InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": f"name=1 string; parameters=2 {_PARAMETERS}",
    "ModelInferResponse": "model_name=1 string; model_version=2 string; id=3 string; "
    f"parameters=4 {_PARAMETERS}; outputs=5 repeated ModelInferResponse.InferOutputTensor; "
    "raw_output_contents=6 repeated bytes",
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR}; parameters=4 {_PARAMETERS}; "
    "contents=5 InferTensorContents",
}
_ONE_OF: Final = {"InferParameter": "parameter_choice"}

CALLS: Final = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
)
"""Each takes `<call>Request` and gives `<call>Response`."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The table as a file descriptor."""
    file = descriptor_pb2.FileDescriptorProto(
        name="narrows/open_inference_v2.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for path, fields in _MESSAGES.items():
        outer, _, name = path.rpartition(".")
        made[path] = made[outer].nested_type.add() if outer else file.message_type.add()
        made[path].name = name
        if path in _ONE_OF:
            made[path].oneof_decl.add(name=_ONE_OF[path])
        for line in filter(None, fields.split("; ")):
            _add_field(made[path], path, line)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, line: str) -> None:
    start, *words = line.split()
    name, number = start.split("=")
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if words[0] in ("repeated", "map") else field.LABEL_OPTIONAL
    if path in _ONE_OF:
        field.oneof_index = 0
    if words[0] == "map":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, "", "key=1 string")
        _add_field(entry, "", f"value=2 {words[1]}")
        words = [f"{path}.ParametersEntry"]
    kind = words[-1]
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Message:
    r"""The class of a message.

    Example:
        >>> message("ServerLiveResponse")(live=True).SerializeToString()
        b'\x08\x01'
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


InferRequest: Final = message("ModelInferRequest")
InferResponse: Final = message("ModelInferResponse")
