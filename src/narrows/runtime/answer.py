"""What a device gets back for one input, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from narrows.plan.candidate import Route
from narrows.runtime.reply import Outputs, Top


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where the time of one answer went; terms that did not happen are 0.

    Args:
        prepare_s: Scaling the pixels to the network's input.
        head_s: The head, on the device.
        encode_s: Symbols, picture or array to a frame.
        link_s: From sending to the reply, without the service: both ways and any queue.
        service_s: Decoding and the tail, as the cloud measured it.
        local_s: The whole model on the device.
        total_s: From input to answer; holds the time lost on a server that did not answer.
    """

    prepare_s: float = 0.0
    head_s: float = 0.0
    encode_s: float = 0.0
    link_s: float = 0.0
    service_s: float = 0.0
    local_s: float = 0.0
    total_s: float = 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes of one answer.

    A request that got no reply counts what was sent: the frame is lost, its bytes are not.

    Args:
        frame_bytes_up: Header and payload to the cloud.
        frame_bytes_down: Header and payload back.
        wire_bytes_up: With the protocol around the frame; `serving.wire` says what is in it.
        wire_bytes_down: The same, back.
    """

    frame_bytes_up: int = 0
    frame_bytes_down: int = 0
    wire_bytes_up: int = 0
    wire_bytes_down: int = 0


NO_TIMES: Final = Times()
NO_TRAFFIC: Final = Traffic()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Args:
        route: The way it really took.
        top: The best classes with their scores, best first; empty if whole outputs were asked.
        labels: Names of those classes, where the bundle has names.
        outputs: Every output of the model; None where the cloud was asked for the best only.
        times: Where the time went.
        traffic: What crossed the link.
        in_time: Whether the deadline was met; True without one.
        reason: Why it was answered locally though the bundle is for another route; else empty.
    """

    route: Route
    top: Top
    labels: tuple[str, ...]
    outputs: Outputs | None
    times: Times
    traffic: Traffic
    in_time: bool
    reason: str = ""
