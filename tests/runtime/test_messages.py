from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as theirs

from narrows.errors import CorruptData
from narrows.runtime.serving import tensors
from narrows.runtime.serving.messages import CALLS, InferRequest, message

Field = tuple[int, int, int, str]


def fields(descriptor: descriptor_pb2.DescriptorProto) -> dict[str, Field]:
    """Field name → number, type, label and type name, nested messages below their own name."""
    found = {f.name: (f.number, f.type, f.label, f.type_name) for f in descriptor.field}
    for nested in descriptor.nested_type:
        found |= {f"{nested.name}.{name}": value for name, value in fields(nested).items()}
    return found


@pytest.mark.parametrize(
    "name",
    [f"{call}{end}" for call in CALLS for end in ("Request", "Response")]
    + ["InferParameter", "InferTensorContents"],
)
def test_messages_agree_with_the_clients_on_every_field(name: str) -> None:
    ours, other = descriptor_pb2.DescriptorProto(), descriptor_pb2.DescriptorProto()
    message(name).DESCRIPTOR.CopyToProto(ours)
    getattr(theirs, name).DESCRIPTOR.CopyToProto(other)
    mine, known = fields(ours), fields(other)
    assert mine.items() <= known.items()
    extras = set(known) - set(mine)
    assert extras <= {"double_param", "uint64_param"}, "only what the client's vendor added"


def test_a_request_of_theirs_reads_as_ours() -> None:
    request = theirs.ModelInferRequest(model_name="m", raw_input_contents=[b"ab"])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).parameters["p"].int64_param = 3
    found = InferRequest.FromString(request.SerializeToString())
    assert found.SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    )
    assert found.inputs[0].parameters["p"].int64_param == 3


def given_tensor(datatype: str, shape: list[int]) -> object:
    return InferRequest().inputs.add(name="x", datatype=datatype, shape=shape)


@pytest.mark.parametrize(
    ("datatype", "dtype", "field"),
    [
        ("FP32", "float32", "fp32_contents"),
        ("FP64", "float64", "fp64_contents"),
        ("UINT8", "uint8", "uint_contents"),
        ("INT8", "int8", "int_contents"),
        ("INT32", "int32", "int_contents"),
        ("INT64", "int64", "int64_contents"),
        ("UINT64", "uint64", "uint64_contents"),
        ("BOOL", "bool", "bool_contents"),
    ],
)
def test_raw_and_typed_contents_are_the_same_array(datatype: str, dtype: str, field: str) -> None:
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype)
    raw, typed = given_tensor(datatype, [2, 3]), given_tensor(datatype, [2, 3])
    getattr(typed.contents, field).extend(array.reshape(-1).tolist())
    for found in (tensors.array_of(raw, array.tobytes()), tensors.array_of(typed, None)):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2], bytes(9)),
        ("FP32", [-1], b""),
        ("FP32", [-1, -2], bytes(8)),
        ("FP32", [1 << 62, 4], b""),
        ("FP32", [1] * 9, bytes(4)),
        ("FP99", [1], bytes(4)),
        ("", [1], bytes(4)),
        ("BYTES", [1], bytes(4)),
        ("FP16", [1], None),
        ("FP32", [1 << 40], None),
        ("UINT8", [1], None),
    ],
)
def test_contents_that_do_not_fit_are_refused(
    datatype: str, shape: list[int], raw: bytes | None
) -> None:
    tensor = given_tensor(datatype, shape)
    tensor.contents.uint_contents.append(300)
    with pytest.raises(CorruptData):
        tensors.array_of(tensor, raw)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_byte_strings_survive_raw_and_typed(strings: list[bytes]) -> None:
    tensor = given_tensor("BYTES", [len(strings)])
    assert tensors.strings_of(tensor, tensors.joined(strings)) == tuple(strings)
    tensor.contents.bytes_contents.extend(strings)
    assert tensors.strings_of(tensor, None) == tuple(strings)


@given(st.binary(max_size=60), st.integers(0, 4))
def test_any_bytes_are_strings_or_refused(raw: bytes, count: int) -> None:
    try:
        found = tensors.strings_of(given_tensor("BYTES", [count]), raw)
    except CorruptData:
        return
    assert len(found) == count
    assert tensors.joined(found) == raw


def test_a_flood_of_empty_strings_is_refused() -> None:
    with pytest.raises(CorruptData):
        tensors.strings_of(given_tensor("BYTES", [1_000_000]), bytes(4_000_000))
