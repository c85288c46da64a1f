from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from narrows.errors import (
    BundleError,
    BundleMismatch,
    DeadlineMissed,
    InputError,
    TransportError,
    Unreachable,
)
from narrows.plan.candidate import Route
from narrows.runtime.assemble import SplitParts, write_bundle
from narrows.runtime.bundle import Bundle, read_bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.transport import Faulty, Loopback, Transport
from narrows.testing.bundles import pictures, split_parts, tiny_bundle, whole_model

ROUTES = {"jpeg": "image", "webp": "image", "avif": "image", "pixels": "raw"}


class Clock:
    """A clock that only a link moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s


class Broken(Transport):
    """A link that raises, or gives the same reply to everything."""

    def __init__(self, what: Exception | bytes) -> None:
        self.what = what
        self.asked = 0

    def send(self, frame: bytes, *, timeout_s: float) -> bytes:
        self.asked += 1
        if isinstance(self.what, Exception):
            raise self.what
        return self.what

    def wire_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        return len(frame) + 100, len(reply) + 50

    def close(self) -> None:
        pass


@pytest.mark.parametrize("route", ["split", "jpeg", "webp", "avif", "raw", "pixels"])
def test_every_route_gives_nearly_the_local_answer(
    every_bundle: dict[str, Bundle], route: str
) -> None:
    bundle = every_bundle[route]
    there = EdgeClient(bundle, Loopback(CloudService(bundle)), top=0)
    here = EdgeClient(bundle, None, top=0)
    for sample in pictures(5, seed=3):
        far, near = there.answer(sample), here.answer(sample)
        assert far.route.value == ROUTES.get(route, route)
        assert near.route is Route.LOCAL
        assert far.outputs is not None
        assert near.outputs is not None
        limit = 0.0 if route in ("raw", "pixels") else 0.8
        assert np.abs(far.outputs[0] - near.outputs[0]).max() <= limit


def test_an_answer_accounts_for_time_and_bytes(split_bundle: Bundle) -> None:
    service = CloudService(split_bundle)
    client = EdgeClient(split_bundle, Loopback(service), top=3)
    answer = client.answer(pictures(1)[0])
    times = answer.times
    parts = (times.prepare_s, times.head_s, times.encode_s, times.link_s, times.service_s)
    assert all(part > 0 for part in parts)
    assert sum(parts) <= times.total_s * 1.01 + 1e-4
    assert times.local_s == 0
    assert answer.traffic.frame_bytes_down == 12 + 4 + 3 * 6
    assert answer.traffic.frame_bytes_up > 12
    assert answer.labels == tuple(f"class {place}" for place, _ in answer.top)
    assert len(answer.top) == 3
    assert answer.outputs is None


def test_a_local_bundle_sends_nothing(every_bundle: dict[str, Bundle]) -> None:
    link = Broken(Unreachable("never asked"))
    answer = EdgeClient(every_bundle["local"], link).answer(pictures(1)[0])
    assert answer.route is Route.LOCAL
    assert link.asked == 0
    assert answer.traffic.wire_bytes_up == 0
    assert answer.reason == ""


@pytest.mark.parametrize(
    "fault",
    [
        Unreachable("nobody"),
        DeadlineMissed("late"),
        TransportError("busy"),
        b"",
        b"garbage of a broken relay",
    ],
)
def test_every_failure_of_the_link_is_answered_locally(
    split_bundle: Bundle, fault: Exception | bytes
) -> None:
    link = Broken(fault)
    client = EdgeClient(split_bundle, link)
    here = EdgeClient(split_bundle, None)
    for sample in pictures(10):
        answer = client.answer(sample)
        assert answer.route is Route.LOCAL
        assert answer.top == here.answer(sample).top
        assert answer.reason
    assert link.asked < 10, "a dead server is not asked every time"


def test_lost_frames_are_counted_and_refused_connections_are_not(split_bundle: Bundle) -> None:
    lost = EdgeClient(split_bundle, Broken(DeadlineMissed("late"))).answer(pictures(1)[0])
    assert lost.traffic.wire_bytes_up == lost.traffic.frame_bytes_up + 100
    assert lost.traffic.wire_bytes_down == 0
    refused = EdgeClient(split_bundle, Broken(Unreachable("nobody"))).answer(pictures(1)[0])
    assert refused.traffic.wire_bytes_up == 0


def test_a_reply_of_another_request_is_not_believed(
    split_bundle: Bundle, every_bundle: dict[str, Bundle]
) -> None:
    other = every_bundle["split"]
    frames: list[bytes] = []

    class Recorder:
        def answer(self, frame: bytes) -> bytes:
            frames.append(CloudService(other).answer(frame))
            return frames[-1]

    EdgeClient(other, Loopback(Recorder())).answer(pictures(1)[0])
    answer = EdgeClient(split_bundle, Broken(frames[0])).answer(pictures(1)[0])
    assert answer.route is Route.LOCAL
    assert "does not belong" in answer.reason


def test_the_deadline_holds_while_the_link_comes_and_goes(split_bundle: Bundle) -> None:
    clock = Clock()
    link = Faulty(Loopback(CloudService(split_bundle)), delay_s=0.02, sleep=clock.sleep)
    client = EdgeClient(split_bundle, link, deadline_s=0.1, clock=clock)
    sample = pictures(1)[0]

    def second() -> list[str]:
        routes = []
        for _ in range(50):
            answer = client.answer(sample)
            assert answer.in_time
            assert answer.times.total_s <= 0.1
            routes.append(answer.route.value)
            clock.now_s += 0.02
        return routes

    assert set(second()) == {"split"}
    link.drop = 1.0
    dead = second()
    assert dead.count("local") == 50
    sent = link.sent
    for _ in range(10):
        second()
    assert link.sent - sent < 10, "ten more seconds of a dead link cost only a few trials"
    link.drop = 0.0
    revived = [second() for _ in range(6)]
    assert set(revived[-1]) == {"split"}, "back within the longest pause"


def test_a_slow_server_is_left_and_taken_back_when_quick_again(split_bundle: Bundle) -> None:
    clock = Clock()
    link = Faulty(Loopback(CloudService(split_bundle)), delay_s=0.095, sleep=clock.sleep)
    client = EdgeClient(split_bundle, link, deadline_s=0.1, clock=clock)
    sample = pictures(1)[0]
    assert client.answer(sample).route is Route.SPLIT
    link.delay_s = 0.2
    routes = []
    for _ in range(20):
        answer = client.answer(sample)
        assert answer.in_time
        routes.append(answer.route)
        clock.now_s += 0.01
    assert set(routes) == {Route.LOCAL}
    link.delay_s = 0.09  # within the deadline, but too near to it to come back
    clock.now_s += 10
    client.answer(sample)
    assert client.answer(sample).route is Route.LOCAL
    link.delay_s = 0.03
    clock.now_s += 10
    assert [client.answer(sample).route for _ in range(3)] == [Route.SPLIT] * 3


def test_without_a_local_model_the_failure_is_raised(split_bundle: Bundle) -> None:
    link = Broken(Unreachable("nobody answers"))
    client = EdgeClient(split_bundle, link, local=False)
    for _ in range(3):
        with pytest.raises(Unreachable):
            client.answer(pictures(1)[0])
    assert link.asked == 3
    client = EdgeClient(split_bundle, link, local=False, deadline_s=1e-9)
    with pytest.raises(DeadlineMissed):
        client.answer(pictures(1)[0])


def test_a_wrong_bundle_is_an_error_at_first_and_a_reason_later(
    split_bundle: Bundle, every_bundle: dict[str, Bundle]
) -> None:
    right, wrong = CloudService(split_bundle), CloudService(every_bundle["split"])
    with pytest.raises(BundleMismatch, match="deploy the same bundle"):
        EdgeClient(split_bundle, Loopback(wrong)).answer(pictures(1)[0])
    with pytest.raises(BundleMismatch):
        EdgeClient(split_bundle, Loopback(wrong), local=False).answer(pictures(1)[0])

    class Redeployed:
        service = right

        def answer(self, frame: bytes) -> bytes:
            return self.service.answer(frame)

    cloud = Redeployed()
    client = EdgeClient(split_bundle, Loopback(cloud))
    assert client.answer(pictures(1)[0]).route is Route.SPLIT
    cloud.service = wrong
    answer = client.answer(pictures(1)[0])
    assert answer.route is Route.LOCAL
    assert split_bundle.id.hex() in answer.reason


def test_samples_that_do_not_fit_are_refused(split_bundle: Bundle) -> None:
    client = EdgeClient(split_bundle, Loopback(CloudService(split_bundle)))
    for sample in (
        np.zeros((8, 9, 3), np.uint8),
        np.zeros((3, 8, 8), np.float32),
        np.zeros((8, 8), np.uint8),
    ):
        with pytest.raises(InputError):
            client.answer(sample)


def test_not_finite_values_are_refused_wherever_they_arise(tmp_path: Path) -> None:
    def hot(model: onnx.ModelProto) -> onnx.ModelProto:
        """With weights whose products overflow."""
        model = copy.deepcopy(model)
        for tensor in model.graph.initializer:
            if tensor.name == "w1":
                weights = numpy_helper.to_array(tensor) * np.float32(3e37)
                tensor.CopyFrom(numpy_helper.from_array(weights, "w1"))
        return model

    parts = split_parts()
    split = SplitParts(
        head=hot(parts.head),
        tail=parts.tail,
        coder="raw",
        table=parts.table,
        cut=2,
        tensor="feature",
    )
    bundle = write_bundle(tmp_path / "hot", name="hot", model=hot(whole_model()), split=split)
    bright = np.full((3, 8, 8), 1e6, np.float32)
    with pytest.raises(InputError, match="feature at 'feature'"):
        EdgeClient(bundle, Loopback(CloudService(bundle))).answer(bright)
    with pytest.raises(InputError, match="output"):
        EdgeClient(bundle, None).answer(bright)
    bright[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 of the input"):
        EdgeClient(bundle, None).answer(bright)


def test_no_way_to_answer_is_said_at_once(split_bundle: Bundle, tmp_path: Path) -> None:
    link = Broken(Unreachable("nobody"))
    local = tiny_bundle(tmp_path / "local", route="local")
    assert EdgeClient(local, link, local=False).answer(pictures(1)[0]).route is Route.LOCAL
    with pytest.raises(BundleError, match="no head and tail"):
        local.head()
    shutil.copytree(split_bundle.path, tmp_path / "thin")
    manifest = json.loads((tmp_path / "thin" / "manifest.json").read_text())
    manifest["parts"] = [part for part in manifest["parts"] if part["file"] != "model.onnx"]
    (tmp_path / "thin" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no whole model and there is no server"):
        EdgeClient(read_bundle(tmp_path / "thin"), None)
