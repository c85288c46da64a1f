from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from narrows.runtime import frame as frames
from narrows.runtime.cloud import CloudService
from narrows.runtime.frame import Frame
from narrows.runtime.serving import wire
from narrows.runtime.serving.client import Grpc
from narrows.runtime.serving.server import Server
from narrows.testing.bundles import tiny_bundle

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.parametrize("side", [8, 84])
def test_what_the_runtime_says_is_what_a_relay_counts(tmp_path: Path, side: int) -> None:
    from wire import Relay

    bundle = tiny_bundle(tmp_path / "b", route="pixels", side=side)
    payload = bytes(side * side * 3)
    frame = frames.pack(
        Frame(route=bundle.manifest.route, bundle_id=bundle.id, payload=payload, top=5)
    )
    with Server(CloudService(bundle)) as server:
        relay = Relay(server.address)
        with Grpc(relay.address, bundle) as link:
            for _ in range(3):
                reply = link.send(frame, timeout_s=5.0)
            time.sleep(0.1)
            before = relay.counts()
            for _ in range(5):
                link.send(frame, timeout_s=5.0)
            time.sleep(0.1)
            after = relay.counts()
            said = wire.stream_bytes(*link.message_bytes(frame, reply))
            whole = link.wire_bytes(frame, reply)
        relay.close()
    counted = [(after[way] - before[way]) / 5 for way in (0, 1)]
    assert counted[0] == pytest.approx(said[0], abs=20), "a new timeout costs up to 19 bytes"
    assert counted[1] == pytest.approx(said[1], abs=14), "a window update may come once in a while"
    assert whole[0] > said[0] >= len(frame) + 100
    assert whole[1] > said[1] >= len(reply) + 80


def test_packets_are_counted_by_segment() -> None:
    up, down = wire.call_bytes(10_000, 0)
    assert down == 0
    assert up == 10_000 + wire.CALL_UP_BYTES + 7 * wire.PACKET_BYTES
    larger = wire.stream_bytes(20_000, 72)[0] - wire.stream_bytes(10_000, 72)[0]
    assert larger == 10_000 + 9, "one more frame of 16 KiB"
