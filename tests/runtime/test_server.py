"""Real server processes on the loopback address, and clients that are not ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from server_process import recorded_frames, serving
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from narrows.errors import BundleMismatch, CorruptData, DeadlineMissed, Unreachable
from narrows.plan.candidate import Route
from narrows.runtime.bundle import Bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.serving.client import Grpc
from narrows.runtime.serving.server import Server
from narrows.runtime.transport import Loopback
from narrows.testing.bundles import pictures


@pytest.fixture(scope="module")
def address(split_bundle: Bundle) -> Iterator[str]:
    with serving(split_bundle) as (_, found):
        yield found


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as found:
        yield found


def expected(bundle: Bundle, count: int) -> np.ndarray:
    return CloudService(bundle).infer(pictures(count))[0]


def test_the_server_says_what_it_is(
    client: triton.InferenceServerClient, split_bundle: Bundle
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny.split", split_bundle.id.hex())
    assert not client.is_model_ready("tiny", "00000000")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata().name == "narrows"
    whole = client.get_model_metadata("tiny", as_json=True)
    assert whole["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "3", "8", "8"]}]
    assert whole["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": ["-1", "10"]}]
    split = client.get_model_metadata("tiny.split", as_json=True)
    assert split["inputs"] == [{"name": "frame", "datatype": "BYTES", "shape": ["-1"]}]
    assert split["versions"] == [split_bundle.id.hex()]


def test_the_whole_model_gives_the_right_logits(
    client: triton.InferenceServerClient, split_bundle: Bundle
) -> None:
    pixels = pictures(3)
    inputs = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    scores = expected(split_bundle, 3)
    for name, datatype, array in (("x", "FP32", inputs), ("x", "UINT8", pixels)):
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        found = client.infer("tiny", [tensor], request_id="7")
        assert found.get_response().id == "7"
        np.testing.assert_allclose(found.as_numpy("scores"), scores, rtol=1e-5, atol=1e-6)


def test_frames_give_the_right_logits(
    client: triton.InferenceServerClient, split_bundle: Bundle
) -> None:
    frames = recorded_frames(split_bundle, 3)
    service = CloudService(split_bundle)
    scores = np.stack([service.outputs(frame)[0] for frame in frames])
    tensor = triton.InferInput("frame", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(frames, dtype=object))
    wanted = [triton.InferRequestedOutput("scores")]
    for outputs in (None, wanted):
        found = client.infer("tiny.split", [tensor], outputs=outputs).as_numpy("scores")
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-6)
    answers = [triton.InferRequestedOutput("answer")]
    found = client.infer("tiny.split", [tensor], outputs=answers).as_numpy("answer")
    for answer, frame in zip(found, frames, strict=True):
        # All but the time the service took, which is in bytes 12 to 15 and in the checksum.
        mine = service.answer(frame)
        assert (answer[:8], answer[16:]) == (mine[:8], mine[16:])


def _floats(shape: list[int], array: np.ndarray, name: str = "x") -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    tensor._input.shape[:] = shape
    return tensor


def _frame(data: bytes) -> triton.InferInput:
    tensor = triton.InferInput("frame", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], dtype=object))
    return tensor


@pytest.mark.parametrize(
    ("model", "tensor", "code"),
    [
        ("tiny", _floats([1, 3, 8, 9], np.zeros((1, 3, 8, 8), np.float32)), "INVALID_ARGUMENT"),
        ("tiny", _floats([1, 3, 8, 9], np.zeros((1, 3, 8, 9), np.float32)), "INVALID_ARGUMENT"),
        ("tiny", _floats([1 << 40], np.zeros(4, np.float32)), "INVALID_ARGUMENT"),
        ("tiny", _floats([0, 3, 8, 8], np.zeros((0, 3, 8, 8), np.float32)), "INVALID_ARGUMENT"),
        ("tiny", _floats([1, 3, 8, 8], np.full((1, 3, 8, 8), np.nan, "f4")), "INVALID_ARGUMENT"),
        ("tiny", _frame(b"x"), "INVALID_ARGUMENT"),
        ("tiny.split", _frame(b"not a frame, though long enough"), "INVALID_ARGUMENT"),
        ("tiny.split", _frame(b""), "INVALID_ARGUMENT"),
        ("tiny.split", _floats([4], np.zeros(4, np.float32)), "INVALID_ARGUMENT"),
        ("other", _frame(b"x"), "NOT_FOUND"),
        ("tiny.split.split", _frame(b"x"), "NOT_FOUND"),
        ("tiny.split", _frame(bytes(1 << 20)), "RESOURCE_EXHAUSTED"),
    ],
)
def test_hostile_requests_get_an_error_and_no_harm_is_done(
    client: triton.InferenceServerClient,
    split_bundle: Bundle,
    model: str,
    tensor: triton.InferInput,
    code: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor])
    assert code in str(caught.value)
    right = _frame(recorded_frames(split_bundle, 1)[0])
    assert client.infer("tiny.split", [right]).as_numpy("scores").shape == (1, 10)


def test_our_transport_gets_the_same_answers_as_memory(address: str, split_bundle: Bundle) -> None:
    near = EdgeClient(split_bundle, Loopback(CloudService(split_bundle)))
    with Grpc(address, split_bundle) as link:
        far = EdgeClient(split_bundle, link, deadline_s=10.0)
        for sample in pictures(4):
            answer = far.answer(sample)
            assert answer.route is Route.SPLIT
            assert answer.top == near.answer(sample).top
            traffic = answer.traffic
            assert 100 < traffic.wire_bytes_up - traffic.frame_bytes_up < 300
            assert 50 < traffic.wire_bytes_down - traffic.frame_bytes_down < 250


def test_the_transport_raises_the_same_errors_as_memory(
    address: str, split_bundle: Bundle, every_bundle: dict[str, Bundle]
) -> None:
    frame = recorded_frames(every_bundle["split"], 1)[0]
    with Grpc(address, split_bundle) as link:
        with pytest.raises(BundleMismatch, match=split_bundle.id.hex()):
            link.send(frame, timeout_s=5.0)
        with pytest.raises(CorruptData, match="damaged"):
            link.send(frame[:-1], timeout_s=5.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Grpc(f"127.0.0.1:{silent.getsockname()[1]}", split_bundle) as link,
        pytest.raises(DeadlineMissed, match=r"within 0\.200 s"),
    ):
        link.send(frame, timeout_s=0.2)
    with Grpc("127.0.0.1:1", split_bundle) as link, pytest.raises(Unreachable, match="refused"):
        link.send(frame, timeout_s=5.0)


def test_another_service_at_the_address_is_not_called_nobody(split_bundle: Bundle) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        with (
            Grpc(f"127.0.0.1:{port}", split_bundle) as link,
            pytest.raises(Unreachable, match="is no `narrows serve`"),
        ):
            link.send(recorded_frames(split_bundle, 1)[0], timeout_s=5.0)
    finally:
        other.stop(None).wait()


def test_a_taken_port_is_said(address: str, split_bundle: Bundle) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(Unreachable, match=f"{port}.*taken"):
        Server(CloudService(split_bundle), port=port)
