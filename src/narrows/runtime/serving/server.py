"""The server: one CloudService behind a gRPC port, with limits, stopped without losing answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final, Self, final

import grpc

from narrows.errors import Unreachable
from narrows.runtime.cloud import MAX_BATCH, CloudService
from narrows.runtime.manifest import Manifest
from narrows.runtime.serving.servicer import Servicer

_OVERHEAD_BYTES: Final = 1 << 16
_MAX_MESSAGE_BYTES: Final = 1 << 29
_QUEUE_PER_WORKER: Final = 16


@final
class Server:
    """A gRPC server of the Open Inference Protocol.

    Args:
        service: What computes.
        host: Address to listen on; "0.0.0.0" or "[::]" for all of them.
        port: TCP port; 0 lets the system choose.
        workers: Requests computed at the same time; None for one a processor.

    Raises:
        Unreachable: The port is taken or the address is not of this machine.
    """

    def __init__(
        self,
        service: CloudService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        workers: int | None = None,
    ) -> None:
        workers = workers or os.cpu_count() or 1
        servicer = Servicer(service)
        self.models = servicer.models
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=workers, thread_name_prefix="narrows"),
            handlers=[servicer.handler()],
            options=_options(service.bundle.manifest),
            maximum_concurrent_rpcs=workers * _QUEUE_PER_WORKER,
        )
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            msg = f"cannot listen on {host}:{port}: the port is taken or the address is not ours"
            raise Unreachable(msg)
        self.address = f"{host}:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(grace_s=0)

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Take no new requests, let those under way finish for `grace_s`, then close."""
        self._server.stop(grace_s).wait()

    def run_until_signal(self, ready: Callable[[], None], *, grace_s: float = 5.0) -> None:
        """Serve until SIGTERM or SIGINT, then stop as `stop` does. For the main thread.

        Args:
            ready: Called once signals are heeded: whoever waits for it may send one at once.
            grace_s: Seconds that requests under way get.
        """
        asked = threading.Event()

        def ask(_number: int, _frame: FrameType | None) -> None:
            asked.set()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ready()
            asked.wait()
        finally:
            self.stop(grace_s=grace_s)
            for number, handler in before.items():
                signal.signal(number, handler)


def _options(manifest: Manifest) -> list[tuple[str, int]]:
    """Limits from the manifest: the longest frame or a batch of inputs, and no more."""
    batch = MAX_BATCH * manifest.input.size_bytes
    longest = min(max(manifest.max_frame_bytes, batch) + _OVERHEAD_BYTES, _MAX_MESSAGE_BYTES)
    return [
        ("grpc.max_receive_message_length", longest),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", 1 << 13),
        # Two servers on one port would share its requests without anyone noticing.
        ("grpc.so_reuseport", 0),
        # A device pings every 20 s while a request waits; it is not to be turned away for that.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
