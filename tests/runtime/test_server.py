"""Real server processes on the loopback address, and clients that are not ours."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
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
from narrows.testing.bundles import pictures, tiny_bundle

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = "import sys; from narrows.cli import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def narrows(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


@contextmanager
def serving(bundle: Bundle, *, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `narrows serve` process, killed at the end if it still runs."""
    command = narrows("serve", str(bundle.path), "--port", str(port), "--workers", "2", "--json")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, json.loads(line)["address"]
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


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


class Recorder:
    def __init__(self, service: CloudService) -> None:
        self.service = service
        self.frames: list[bytes] = []

    def answer(self, frame: bytes) -> bytes:
        self.frames.append(frame)
        return self.service.answer(frame)


def recorded_frames(bundle: Bundle, count: int) -> list[bytes]:
    recorder = Recorder(CloudService(bundle))
    client = EdgeClient(bundle, Loopback(recorder))
    for sample in pictures(count):
        client.answer(sample)
    return recorder.frames


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


def test_a_taken_port_is_said(address: str, split_bundle: Bundle) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(Unreachable, match=f"{port}.*taken"):
        Server(CloudService(split_bundle), port=port)


def until(holds: Callable[[], bool], *, limit_s: float = 20.0) -> None:
    begin_s = time.monotonic()
    while not holds():
        assert time.monotonic() - begin_s < limit_s, "it did not happen in time"
        time.sleep(0.02)


def test_a_killed_server_is_survived_and_found_again(split_bundle: Bundle) -> None:
    sample = pictures(1)[0]
    with serving(split_bundle) as (process, address):
        link = Grpc(address, split_bundle)
        client = EdgeClient(split_bundle, link, deadline_s=5.0)
        assert client.answer(sample).route is Route.SPLIT
        process.kill()
        process.wait()
        answers = [client.answer(sample) for _ in range(20)]
    assert {answer.route for answer in answers} == {Route.LOCAL}
    assert all(answer.in_time for answer in answers)
    with serving(split_bundle, port=int(address.rpartition(":")[2])), link:
        until(lambda: client.answer(sample).route is Route.SPLIT)
        assert client.answer(sample).route is Route.SPLIT


def test_a_frozen_server_costs_no_deadline_and_is_found_again(split_bundle: Bundle) -> None:
    sample = pictures(1)[0]
    with serving(split_bundle) as (process, address), Grpc(address, split_bundle) as link:
        client = EdgeClient(split_bundle, link, deadline_s=0.3)
        until(lambda: client.answer(sample).route is Route.SPLIT)
        process.send_signal(signal.SIGSTOP)
        begin_s = time.monotonic()
        answers = [client.answer(sample) for _ in range(20)]
        took_s = time.monotonic() - begin_s
        process.send_signal(signal.SIGCONT)
        assert {answer.route for answer in answers} == {Route.LOCAL}
        assert took_s < 2.0, "twenty answers, of which only a few waited"
        until(lambda: client.answer(sample).route is Route.SPLIT)


def refuses(address: str, frame: bytes, bundle: Bundle) -> bool:
    """Whether a new request is turned away, and not merely kept waiting."""
    with Grpc(address, bundle) as link:
        try:
            link.send(frame, timeout_s=0.2)
        except Unreachable:
            return True
        except DeadlineMissed:
            return False
    return False


def test_stopping_lets_requests_under_way_finish(split_bundle: Bundle) -> None:
    service = CloudService(split_bundle)
    begun, go_on = threading.Event(), threading.Event()
    real = service._payloads.unpack

    class Slow:
        def unpack(self, payload: bytes) -> np.ndarray:
            begun.set()
            assert go_on.wait(10)
            return real(payload)

    service._payloads = Slow()  # type: ignore[assignment]
    frame = recorded_frames(split_bundle, 1)[0]
    with (
        Server(service) as server,
        Grpc(server.address, split_bundle) as link,
        ThreadPoolExecutor() as pool,
    ):
        reply = pool.submit(link.send, frame, timeout_s=20.0)
        assert begun.wait(10)
        stopped = pool.submit(server.stop, grace_s=10.0)
        until(lambda: refuses(server.address, frame, split_bundle))
        assert not stopped.done()
        go_on.set()
        assert len(reply.result(10)) == 46
        stopped.result(10)


def test_sigterm_and_sigint_exit_with_0(split_bundle: Bundle) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with (
            serving(split_bundle) as (process, address),
            grpc.insecure_channel(address) as channel,
        ):
            grpc.channel_ready_future(channel).result(timeout=10)
            process.send_signal(number)
            assert process.wait(timeout=10) == 0


def test_run_answers_every_picture_while_the_server_comes_and_goes(
    split_bundle: Bundle, tmp_path: Path
) -> None:
    for index, pixels in enumerate(pictures(4)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    paths = sorted(str(path) for path in tmp_path.glob("*.png"))
    with serving(split_bundle) as (server, address):
        command = narrows("run", str(split_bundle.path), "-", "--server", address, "--json")
        device = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert device.stdin is not None
        assert device.stdout is not None

        def ask(path: str) -> dict[str, object]:
            assert device.stdin is not None
            assert device.stdout is not None
            device.stdin.write(path + "\n")
            device.stdin.flush()
            found: dict[str, object] = json.loads(device.stdout.readline())
            assert found["input"] == path
            return found

        assert [ask(path)["route"] for path in paths] == ["split"] * 4
        server.kill()
        server.wait()
        assert [ask(path)["route"] for path in paths] == ["local"] * 4
    with serving(split_bundle, port=int(address.rpartition(":")[2])):
        until(lambda: ask(paths[0])["route"] == "split")
        assert [ask(path)["route"] for path in paths] == ["split"] * 4
        device.stdin.close()
        assert device.wait(timeout=10) == 0
    device.stdout.close()


def test_run_says_what_is_no_picture_and_goes_on(split_bundle: Bundle, tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_text("no picture")
    command = narrows("run", str(split_bundle.path), str(tmp_path), str(tmp_path / "c.png"))
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert "b.png  class 5  local" in found.stdout
    assert "a.png is not a picture" in found.stderr
    assert "c.png" in found.stderr
    assert "Traceback" not in found.stderr


def test_run_says_that_the_server_has_another_bundle(split_bundle: Bundle, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", seed=1)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with serving(other) as (_, address):
        command = narrows(
            "run", str(split_bundle.path), str(tmp_path / "a.png"), "--server", address
        )
        found = subprocess.run(
            command, capture_output=True, text=True, env=ENVIRONMENT, check=False
        )
    assert found.returncode == 1
    assert "deploy the same bundle on both sides" in found.stderr
    assert "Traceback" not in found.stderr
