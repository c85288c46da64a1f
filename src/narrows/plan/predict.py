"""From what a candidate makes the places do to what a request costs.

    latency = head + encode + send + queue + tail + reply

    send  = (payload + frame header + protocol) · 8 / bandwidth up   + round trip / 2
    reply = (answer + protocol) · 8 / bandwidth down                 + round trip / 2
    energy = active power · (head + encode) + idle power · the rest + radio energy · bytes
    price = price a byte · bytes both ways + price a call + price a second · tail

The local route crosses no link: its latency is the head's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from narrows.plan.candidate import Cost, Term
from narrows.plan.profile import Cloud, Device, Link

FRAME_HEADER_BYTES = 12
_NOTHING = Term(seconds=0.0, measured=True)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The three places a request passes."""

    device: Device
    link: Link
    cloud: Cloud


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one request makes the places do.

    Args:
        head: Time of the device's part of the model, on the device.
        encode: Time of the encoder, on the device.
        tail: Time of decoder, the cloud's part of the model and the service, in the cloud.
        crosses: Whether anything is sent; the local route sends nothing.
        payload_bytes: Mean size of what the encoder gives.
        reply_bytes: Size of the answer.
        device_macs: Multiply-accumulates on the device.
        device_memory_bytes: Weights and activation peak of what runs on the device.
        device_flash_bytes: The file of it.
    """

    head: Term
    encode: Term
    tail: Term
    crosses: bool
    payload_bytes: float
    reply_bytes: float
    device_macs: int
    device_memory_bytes: int
    device_flash_bytes: int


def cost(work: Work, places: Places) -> Cost:
    """What a request costs at these places."""
    link = places.link
    up = work.payload_bytes + FRAME_HEADER_BYTES + link.overhead_bytes_up if work.crosses else 0.0
    down = work.reply_bytes + link.overhead_bytes_down if work.crosses else 0.0
    return _priced(work, places, up, down)


def moved(old_cost: Cost, old: Places, new: Places) -> Cost:
    """The same candidate's cost at other places.

    Times on device and cloud scale with the ratio of their slowdowns; queue, link and prices are
    the new ones. A scaled time is a prediction even where the old one was measured.
    """
    crosses = old_cost.bytes_up > 0
    service_s = old.cloud.service_s if crosses else 0.0
    computing = Term(
        seconds=max(0.0, old_cost.tail.seconds - service_s), measured=old_cost.tail.measured
    )
    tail = _scaled(computing, new.cloud.slowdown / old.cloud.slowdown)
    device_factor = new.device.slowdown / old.device.slowdown
    overhead_up = new.link.overhead_bytes_up - old.link.overhead_bytes_up
    overhead_down = new.link.overhead_bytes_down - old.link.overhead_bytes_down
    work = Work(
        head=_scaled(old_cost.head, device_factor),
        encode=_scaled(old_cost.encode, device_factor),
        tail=Term(
            seconds=tail.seconds + (new.cloud.service_s if crosses else 0.0),
            measured=tail.measured and new.cloud.service_s == service_s,
        ),
        crosses=crosses,
        payload_bytes=0.0,
        reply_bytes=0.0,
        device_macs=old_cost.device_macs,
        device_memory_bytes=old_cost.device_memory_bytes,
        device_flash_bytes=old_cost.device_flash_bytes,
    )
    up = old_cost.bytes_up + overhead_up if crosses else 0.0
    down = old_cost.bytes_down + overhead_down if crosses else 0.0
    return _priced(work, new, up, down)


def _scaled(term: Term, factor: float) -> Term:
    return term if factor == 1.0 else Term(seconds=term.seconds * factor, measured=False)


def _priced(work: Work, places: Places, up: float, down: float) -> Cost:
    link, cloud = places.link, places.cloud
    if work.crosses:
        half_s = link.round_trip_s / 2
        send = Term(seconds=up * 8 / link.bandwidth_up_bits_per_s + half_s)
        reply = Term(seconds=down * 8 / link.bandwidth_down_bits_per_s + half_s)
        queue, tail = Term(seconds=cloud.queue_s), work.tail
    else:
        send = reply = queue = tail = _NOTHING
    waiting_s = send.seconds + queue.seconds + tail.seconds + reply.seconds
    price = link.price_per_byte * (up + down) + cloud.price_per_s * tail.seconds
    return Cost(
        head=work.head,
        encode=work.encode,
        send=send,
        queue=queue,
        tail=tail,
        reply=reply,
        bytes_up=up,
        bytes_down=down,
        device_macs=work.device_macs,
        device_memory_bytes=work.device_memory_bytes,
        device_flash_bytes=work.device_flash_bytes,
        energy_j=_energy_j(work, places, up, down, waiting_s),
        price=price + (cloud.price_per_call if work.crosses else 0.0),
    )


def _energy_j(work: Work, places: Places, up: float, down: float, waiting_s: float) -> float | None:
    device, link = places.device, places.link
    if device.active_power_w is None or device.idle_power_w is None:
        return None
    computing_j = device.active_power_w * (work.head.seconds + work.encode.seconds)
    radio_j = link.energy_j_per_byte_up * up + link.energy_j_per_byte_down * down
    return computing_j + device.idle_power_w * waiting_s + radio_j
