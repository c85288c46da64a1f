"""One way to answer a request, what it scores and what it costs.

route    what crosses the link                  device does        cloud does
local    nothing                                the whole model    nothing
split    symbols of the feature at one cut      head, encoder      decoder, tail
image    the picture as JPEG, WebP or AVIF      image encoder      decoder, whole model
raw      the input as it is (or deflated)       nothing            whole model
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final


class Route(StrEnum):
    """Which parts run where."""

    LOCAL = "local"
    SPLIT = "split"
    IMAGE = "image"
    RAW = "raw"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of a latency.

    Args:
        seconds: How long it takes, median, of one request.
        measured: Whether it was timed on the place it is about; else a profile predicted it.
    """

    seconds: float
    measured: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request costs, term by term.

    Args:
        head: The device's part of the model (all of it for the local route), scaling of the input
            included.
        encode: Symbols, picture or array to bytes, on the device.
        send: Frame and protocol bytes over the uplink, with half the round trip.
        queue: Waiting in the cloud.
        tail: Decoding, the cloud's part of the model, and the service around them.
        reply: The answer over the downlink, with half the round trip.
        bytes_up: Wire bytes to the cloud: payload, frame header, protocol.
        bytes_down: Wire bytes back.
        device_macs: Multiply-accumulates on the device.
        device_memory_bytes: Weights and activation peak of what runs on the device.
        device_flash_bytes: The file of what runs on the device: packed where the model is.
        energy_j: Device energy with its radio; None where the profile states no power.
        price: Money a request, in the profiles' currency.
    """

    head: Term
    encode: Term
    send: Term
    queue: Term
    tail: Term
    reply: Term
    bytes_up: float
    bytes_down: float
    device_macs: int
    device_memory_bytes: int
    device_flash_bytes: int
    energy_j: float | None
    price: float

    @property
    def terms(self) -> dict[str, Term]:
        """The six terms by name, in the order they happen."""
        names = ("head", "encode", "send", "queue", "tail", "reply")
        return {name: getattr(self, name) for name in names}

    @property
    def latency_s(self) -> float:
        """From input to answer."""
        return sum(term.seconds for term in self.terms.values())

    @property
    def device_s(self) -> float:
        """Time the device computes."""
        return self.head.seconds + self.encode.seconds

    @property
    def interval_s(self) -> float:
        """Least time between two answers when requests follow without a gap.

        Device, uplink, cloud and downlink work on different requests at the same time, so the
        slowest of them sets the pace. `send` and `reply` hold half a round trip each, which would
        overlap too: the true interval is this or less.
        """
        stages = (self.device_s, self.send.seconds, self.tail.seconds, self.reply.seconds)
        return max(stages)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well a candidate answers, over `n` examples of one set.

    Args:
        n: Examples it was run on; a screened-out candidate saw only a part of the set.
        accuracy: The task's metric, higher is better.
        top5: Share with the label among the first five; None where there are fewer classes.
        agreement: Share of answers equal to the uncompressed model's; None for regression.
        logit_divergence: Mean KL(uncompressed || candidate) in nats; None for regression.
    """

    n: int
    accuracy: float
    top5: float | None
    agreement: float | None
    logit_divergence: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Metric lost against the uncompressed model on the same examples, with a 95 % interval."""

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSpec:
    """Which codec made the payload, and its settings; what does not apply is None.

    Args:
        name: "pca1-ans", "pca2-huffman", "jpeg", "webp", "avif", "pixels", "float32", "deflate".
        block: Side of the transform's blocks of positions.
        step: Quantizer step, in units of the transformed feature.
        step_share: The same, over the feature's root mean square: comparable between cuts.
        dead_zone: Share of a step on either side of zero that becomes zero.
        quality: The picture codec's own scale.
        scale: Side of the picture sent over side of the picture, at most 1.
        side_bytes: Tables shipped once with the bundle, not with each payload.
    """

    name: str
    block: int | None = None
    step: float | None = None
    step_share: float | None = None
    dead_zone: float | None = None
    quality: int | None = None
    scale: float | None = None
    side_bytes: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model variant × cut × codec and rate, or one of the honest alternatives.

    Args:
        id: Unique in a plan and stable between plans, e.g. "lite0/cut12/pca2-ans/r3".
        variant: Name of the model variant.
        route: Which parts run where.
        cut: Index of the cut; None unless the route is split.
        tensor: Name of the tensor that crosses; None unless the route is split.
        codec: None for the local route, where nothing crosses.
        rate_index: Position on the rate curve, fewest bytes last; None without a curve.
        payload_bytes: Mean over `payload_n` examples, coded for real.
        payload_bytes_p95: 95th percentile of the same.
        payload_n: Examples that were coded: those of `choose`, or a part of them for a point that
            was screened out.
        choose: Score on the choose set.
        choose_drop: Loss against the uncompressed variant there.
        report: Score on the report set, read once after the choice; None if not among those.
        report_drop: Loss there.
        report_payload_bytes: Mean payload there.
        cost: Terms at the plan's device, link and cloud.
        on_frontier: Whether no other candidate is at least as good in every respect.
    """

    id: str
    variant: str
    route: Route
    cut: int | None
    tensor: str | None
    codec: CodecSpec | None
    rate_index: int | None
    payload_bytes: float
    payload_bytes_p95: float
    choose: Score
    choose_drop: Drop
    payload_n: int = 0
    report: Score | None = None
    report_drop: Drop | None = None
    report_payload_bytes: float | None = None
    cost: Cost
    on_frontier: bool = False
