"""A thin link on one machine, without root: a relay that passes bytes on as slowly as a link would.

    python benchmarks/thin_link.py HOST:PORT [--bandwidth 1e6] [--round-trip 0.02]

Prints the address it listens on, and serves until its standard input ends. A byte arrives half a
round trip after it has left the bucket of its direction, which empties at the bandwidth.
"""

from __future__ import annotations

import argparse
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 16


@contextmanager
def thin_link(address: str, bandwidth_bits_per_s: float, round_trip_s: float) -> Iterator[str]:
    """A relay to an address in a process of its own; gives the address it listens on."""
    command = [sys.executable, str(Path(__file__)), address]
    command += ["--bandwidth", repr(bandwidth_bits_per_s), "--round-trip", repr(round_trip_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def main() -> None:
    options = _options()
    host, _, port = options.address.rpartition(":")
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listening.getsockname()[1]}", flush=True)
    accept = threading.Thread(
        target=_accept, args=(listening, (host, int(port)), options), daemon=True
    )
    accept.start()
    sys.stdin.read()


def _accept(listening: socket.socket, target: tuple[str, int], options: argparse.Namespace) -> None:
    while True:
        near, _ = listening.accept()
        far = socket.create_connection(target)
        for source, sink in ((near, far), (far, near)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=_take, args=(source, due, options), daemon=True).start()
            threading.Thread(target=_give, args=(sink, due), daemon=True).start()


def _take(
    source: socket.socket, due: queue.SimpleQueue[tuple[float, bytes]], options: argparse.Namespace
) -> None:
    """Note when what comes in would have arrived."""
    free_s = 0.0
    while True:
        data = source.recv(_CHUNK)
        free_s = max(free_s, time.monotonic()) + 8 * len(data) / options.bandwidth
        due.put((free_s + options.round_trip / 2, data))
        if not data:
            return


def _give(sink: socket.socket, due: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    """Pass it on when it is due."""
    while True:
        at_s, data = due.get()
        time.sleep(max(0.0, at_s - time.monotonic()))
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            return


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--bandwidth", type=float, default=1e6, help="bits a second, either way")
    parser.add_argument("--round-trip", type=float, default=0.02, help="seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
