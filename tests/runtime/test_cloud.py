from __future__ import annotations

import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from narrows.errors import BundleError, BundleMismatch, CorruptData, InputError, NarrowsError
from narrows.runtime import frame as frames
from narrows.runtime.bundle import Bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.frame import Frame
from narrows.runtime.transport import Loopback
from narrows.testing.bundles import pictures

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


class Recorder:
    def __init__(self, service: CloudService) -> None:
        self.service = service
        self.frames: list[bytes] = []

    def answer(self, frame: bytes) -> bytes:
        self.frames.append(frame)
        return self.service.answer(frame)


@pytest.fixture(scope="module")
def recorded(split_bundle: Bundle) -> Recorder:
    recorder = Recorder(CloudService(split_bundle))
    client = EdgeClient(split_bundle, Loopback(recorder))
    for sample in pictures(4):
        client.answer(sample)
    return recorder


def test_answer_and_outputs_agree(recorded: Recorder, split_bundle: Bundle) -> None:
    for data in recorded.frames:
        scores = recorded.service.outputs(data)[0]
        reply = frames.unpack(recorded.service.answer(data))
        assert reply.reply
        assert reply.bundle_id == split_bundle.id
        best = struct.unpack_from("<Hf", reply.payload, 4)
        assert best == (int(scores.argmax()), pytest.approx(float(scores.max())))


@pytest.mark.parametrize("change", ["route", "id", "reply", "long", "empty"])
def test_frames_that_are_not_for_this_service_are_refused(
    recorded: Recorder, split_bundle: Bundle, change: str
) -> None:
    good = frames.unpack(recorded.frames[0])
    frame = {
        "route": Frame(route=frames.Route.RAW, bundle_id=good.bundle_id, payload=good.payload),
        "id": Frame(route=good.route, bundle_id=b"\0\1\2\3", payload=good.payload),
        "reply": Frame(
            route=good.route, bundle_id=good.bundle_id, payload=good.payload, reply=True
        ),
        "long": Frame(
            route=good.route,
            bundle_id=good.bundle_id,
            payload=bytes(split_bundle.manifest.max_frame_bytes),
        ),
        "empty": Frame(route=good.route, bundle_id=good.bundle_id, payload=b""),
    }[change]
    error = BundleMismatch if change == "id" else CorruptData
    with pytest.raises(error):
        recorded.service.answer(frames.pack(frame))


@pytest.mark.parametrize("route", ["split", "jpeg", "webp", "avif", "raw", "pixels"])
def test_spoiled_payloads_decode_to_the_declared_shape_or_raise(
    every_bundle: dict[str, Bundle], route: str
) -> None:
    from mutations import spoiled

    recorder = Recorder(CloudService(every_bundle[route]))
    client = EdgeClient(every_bundle[route], Loopback(recorder))
    for sample in pictures(4):
        client.answer(sample)
    rng = random.Random(5)
    ends = set()
    for _ in range(300):
        good, other = rng.choice(recorder.frames), rng.choice(recorder.frames)
        data = good[:12] + spoiled(good[12:], rng, other[12:])
        checksum = zlib.crc32(data[12:], zlib.crc32(data[:8]))
        data = data[:8] + struct.pack("<I", checksum) + data[12:]
        try:
            (scores,) = recorder.service.outputs(data)
        except NarrowsError:
            ends.add("refused")
        else:
            ends.add("answered")
            assert scores.shape == (10,)
    assert "refused" in ends


def test_a_deflate_bomb_is_refused(every_bundle: dict[str, Bundle]) -> None:
    bundle = every_bundle["raw"]
    bomb = zlib.compress(bytes(50_000_000), 9)[:60_000]
    frame = Frame(route=frames.Route.RAW, bundle_id=bundle.id, payload=bomb)
    with pytest.raises(CorruptData, match="cut short or too long"):
        CloudService(bundle).answer(frames.pack(frame))


def test_whole_inputs_come_as_floats_or_pixels(every_bundle: dict[str, Bundle]) -> None:
    service = CloudService(every_bundle["split"])
    pixels = pictures(3)
    inputs = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (scores,) = service.infer(inputs)
    assert scores.shape == (3, 10)
    np.testing.assert_allclose(service.infer(pixels)[0], scores, rtol=1e-5)
    np.testing.assert_allclose(service.infer(inputs[1:2])[0], scores[1:2], rtol=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 3, 8, 9), np.float32),
        np.zeros((1, 3, 8, 8), np.float64),
        np.zeros((3, 8, 8), np.float32),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.full((1, 3, 8, 8), np.nan, np.float32),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    every_bundle: dict[str, Bundle], inputs: np.ndarray
) -> None:
    with pytest.raises(InputError):
        CloudService(every_bundle["split"]).infer(inputs)


def test_a_local_bundle_answers_no_frames(every_bundle: dict[str, Bundle]) -> None:
    bundle = every_bundle["local"]
    frame = Frame(route=frames.Route.RAW, bundle_id=bundle.id, payload=bytes(192))
    with pytest.raises((CorruptData, BundleError)):
        CloudService(bundle).answer(frames.pack(frame))
