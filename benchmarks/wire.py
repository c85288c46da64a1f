"""Bytes on the wire: what the runtime says of a call against what is counted.

    python benchmarks/wire.py [--calls 50] [--json FILE]

Two counts. A relay between device and server sees every byte of the HTTP/2 stream. A pair of
virtual network interfaces, with the server in a network namespace of its own (needs root), counts
the IP packets, acknowledgements and all. Both are averages over calls on one connection, the first
call apart; the virtual link carries an acknowledgement for a request of its own where the service
takes longer than TCP waits.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from narrows.runtime import frame as frames
from narrows.runtime.bundle import Bundle
from narrows.runtime.frame import Frame
from narrows.runtime.serving import wire
from narrows.runtime.serving.client import Grpc
from narrows.testing.bundles import tiny_bundle

SIDES: Final = (8, 20, 28, 38, 84)
ETHERNET_BYTES: Final = 14
PROGRAM: Final = "import sys; from narrows.cli import main; sys.exit(main())"


class Relay:
    """A TCP relay on the loopback address that counts what passes, up and down."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.up = self.down = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, target, name in ((near, far, "up"), (far, near, "down")):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                arguments = (source, target, name)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, name: str) -> None:
        try:
            while data := source.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def counts(self) -> tuple[int, int]:
        """Bytes so far, up and down."""
        return self.up, self.down

    def close(self) -> None:
        """Stop relaying."""
        self._listening.close()
        for each in self._open:
            each.close()


class Veth:
    """A network namespace joined to ours by a pair of virtual interfaces."""

    def __init__(self) -> None:
        tag = os.getpid() % 10_000
        self.space, self._ours, theirs = f"narrows{tag}", f"nwa{tag}", f"nwb{tag}"
        self.host, ours = "10.213.7.2", "10.213.7.1"
        self.ends = (self._ours, theirs)
        _ip("netns", "add", self.space)
        _ip("link", "add", self._ours, "type", "veth", "peer", "name", theirs)
        _ip("link", "set", theirs, "netns", self.space)
        _ip("addr", "add", f"{ours}/24", "dev", self._ours)
        # Offloads would let one packet stand for many.
        _ip("link", "set", self._ours, "gso_max_segs", "1", "up")
        _ip("-n", self.space, "addr", "add", f"{self.host}/24", "dev", theirs)
        _ip("-n", self.space, "link", "set", theirs, "gso_max_segs", "1", "up")

    def counts(self) -> tuple[int, int]:
        """Bytes of IP packets so far, up and down."""
        folder = Path(f"/sys/class/net/{self._ours}/statistics")
        sizes = {
            name: int((folder / name).read_text())
            for name in ("tx_bytes", "tx_packets", "rx_bytes", "rx_packets")
        }
        up = sizes["tx_bytes"] - ETHERNET_BYTES * sizes["tx_packets"]
        return up, sizes["rx_bytes"] - ETHERNET_BYTES * sizes["rx_packets"]

    def close(self) -> None:
        """Remove the namespace and with it the interfaces."""
        _ip("link", "del", self._ours)
        _ip("netns", "del", self.space)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def serving(bundle: Bundle, *, host: str, prefix: tuple[str, ...] = ()) -> Iterator[str]:
    """A `narrows serve` process."""
    command = (sys.executable, "-c", PROGRAM, "serve", str(bundle.path), "--json")
    command = (*prefix, *command, "--host", host, "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
        process.terminate()


def counted(
    bundle: Bundle,
    address: str,
    counts: Callable[[], tuple[int, int]],
    calls: int,
    *,
    in_packets: bool,
) -> dict[str, Any]:
    """Mean bytes of a call, and those of the first."""
    height, width, channels = bundle.manifest.pixel_shape
    payload = bytes(height * width * channels)
    frame = frames.pack(
        Frame(route=bundle.manifest.route, bundle_id=bundle.id, payload=payload, top=5)
    )
    seen = []
    with Grpc(address, bundle) as link:
        for _ in range(calls):
            before = settled(counts)
            reply = link.send(frame, timeout_s=5.0)
            after = settled(counts)
            seen.append((after[0] - before[0], after[1] - before[1]))
        packets = link.wire_bytes(frame, reply)
        stream = wire.stream_bytes(*link.message_bytes(frame, reply))
    later = seen[min(3, len(seen) - 1) :]
    means = [sum(each[way] for each in later) / len(later) for way in (0, 1)]
    return {
        "frame": [len(frame), len(reply)],
        "counted": means,
        "first_call_more": [seen[0][way] - means[way] for way in (0, 1)],
        "runtime_says": list(packets if in_packets else stream),
    }


def settled(counts: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """The counts once nothing moves any more: the last acknowledgement waits 40 ms."""
    before = counts()
    while True:
        time.sleep(0.06)
        after = counts()
        if after == before:
            return after
        before = after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            bundle = tiny_bundle(Path(folder) / str(side), route="pixels", side=side)
            with serving(bundle, host="127.0.0.1") as address:
                relay = Relay(address)
                found = counted(
                    bundle, relay.address, relay.counts, options.calls, in_packets=False
                )
                rows.append({"where": "HTTP/2 stream", **found})
                relay.close()
            if os.geteuid() == 0:
                veth = Veth()
                try:
                    prefix = ("ip", "netns", "exec", veth.space)
                    with serving(bundle, host=veth.host, prefix=prefix) as address:
                        found = counted(
                            bundle, address, veth.counts, options.calls, in_packets=True
                        )
                        rows.append({"where": "IP packets", **found})
                finally:
                    veth.close()
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
