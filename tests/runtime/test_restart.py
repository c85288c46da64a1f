"""Servers that are killed, frozen, stopped and started again, and devices that go on."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from PIL import Image
from server_process import ENVIRONMENT, narrows, recorded_frames, serving, until

from narrows.errors import DeadlineMissed, Unreachable
from narrows.plan.candidate import Route
from narrows.runtime.bundle import Bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.serving.client import Grpc
from narrows.runtime.serving.server import Server
from narrows.testing.bundles import pictures, tiny_bundle


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
