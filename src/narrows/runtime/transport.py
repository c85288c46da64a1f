"""How a frame gets to the cloud and a reply back: one verb.

`Loopback` calls a service in the same process and `Faulty` wraps any other transport, so that all
but one test of the runtime run without a socket. The real one is `narrows.runtime.serving.client`.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, final

from narrows.errors import DeadlineMissed


class Answers(Protocol):
    """Whatever turns a request frame into a reply frame, such as `CloudService`."""

    def answer(self, frame: bytes) -> bytes:
        """The reply to a frame."""


class Transport(ABC):
    """Carries frames to a cloud service and its replies back."""

    @abstractmethod
    def send(self, frame: bytes, *, timeout_s: float) -> bytes:
        """Send a frame and wait for the reply.

        Raises:
            Unreachable: Nobody answers at the address.
            DeadlineMissed: No reply came within `timeout_s`.
            BundleMismatch: The service holds another bundle.
            CorruptData: The service could not read the frame.
        """

    @abstractmethod
    def wire_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        """Bytes that cross the link for this exchange, up and down, protocol included."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the transport holds; it cannot be used afterwards."""


@final
class Loopback(Transport):
    """A service in the same process; nothing but the frame itself is counted."""

    def __init__(self, service: Answers) -> None:
        self._service = service

    def send(self, frame: bytes, *, timeout_s: float) -> bytes:
        """The service's reply. A slow service is not interrupted."""
        return self._service.answer(frame)

    def wire_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        """The two lengths: memory has no protocol."""
        return len(frame), len(reply)

    def close(self) -> None:
        """Nothing is held."""


@final
class Faulty(Transport):
    """Another transport behind a link that delays and loses frames.

    Both faults are attributes, so that a test can change the link in mid-stream.

    Args:
        inner: What carries the frames that get through.
        delay_s: Added before every frame.
        drop: Share of frames that are lost, 0 to 1.
        seed: Of the generator that draws which ones.
        sleep: How to wait; a test may pass its own clock's.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        delay_s: float = 0.0,
        drop: float = 0.0,
        seed: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.delay_s = delay_s
        self.drop = drop
        self.sent = 0
        self._inner = inner
        self._random = random.Random(seed)
        self._sleep = sleep

    def send(self, frame: bytes, *, timeout_s: float) -> bytes:
        """The inner transport's reply, if the frame gets through in time."""
        self.sent += 1
        lost = self._random.random() < self.drop
        if lost or self.delay_s >= timeout_s:
            self._sleep(timeout_s)
            msg = f"no answer within {timeout_s:.3f} s"
            raise DeadlineMissed(msg)
        self._sleep(self.delay_s)
        return self._inner.send(frame, timeout_s=timeout_s - self.delay_s)

    def wire_bytes(self, frame: bytes, reply: bytes) -> tuple[int, int]:
        """What the inner transport counts."""
        return self._inner.wire_bytes(frame, reply)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()
