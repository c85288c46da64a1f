"""Real `narrows serve` processes, and frames to send them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from narrows.runtime.bundle import Bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.transport import Loopback
from narrows.testing.bundles import pictures

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


def until(holds: Callable[[], bool], *, limit_s: float = 20.0) -> None:
    begin_s = time.monotonic()
    while not holds():
        assert time.monotonic() - begin_s < limit_s, "it did not happen in time"
        time.sleep(0.02)
