"""Candidates and places made up for tests."""

from dataclasses import replace
from typing import Any

from narrows.measure.profiling import OperatorRates
from narrows.plan.candidate import Candidate, CodecSpec, Drop, Route, Score, Term
from narrows.plan.predict import Places, Work, cost
from narrows.plan.profile import Cloud, Device, Link

RATES = OperatorRates(
    kernels=(),
    call_s=0.0,
    scale=1.0,
    macs_per_s=1e9,
    lanes=0,
    threads=1,
    environment_key="test",
    network_error=0.0,
)
DEVICE = Device(
    name="board",
    rates=RATES,
    rates_from="test",
    slowdown=1.0,
    threads=1,
    memory_bytes=None,
    active_power_w=2.0,
    idle_power_w=0.5,
    encode_s_per_symbol=1e-8,
    encode_overhead_s=1e-5,
    picture_encode_s_per_pixel={"jpeg": 2e-8, "webp": 1e-7, "avif": 1e-6},
    sources={},
)
LINK = Link(
    name="link",
    bandwidth_up_bits_per_s=1e6,
    bandwidth_down_bits_per_s=4e6,
    round_trip_s=0.02,
    jitter_s=0.0,
    overhead_bytes_up=150,
    overhead_bytes_down=100,
    price_per_byte=1e-9,
    energy_j_per_byte_up=1e-6,
    energy_j_per_byte_down=1e-7,
    sources={},
)
CLOUD = Cloud(
    name="cloud",
    rates=RATES,
    rates_from="test",
    slowdown=1.0,
    threads=1,
    service_s=0.001,
    queue_s=0.0,
    decode_s_per_symbol=2e-8,
    picture_decode_s_per_pixel={"jpeg": 1e-8, "webp": 2e-8, "avif": 5e-8},
    price_per_call=1e-7,
    price_per_s=1e-5,
    sources={},
)
PLACES = Places(device=DEVICE, link=LINK, cloud=CLOUD)


def candidate(
    name: str,
    *,
    route: Route = Route.SPLIT,
    cut: int | None = 3,
    head_s: float = 0.01,
    tail_s: float = 0.01,
    payload_bytes: float = 1000.0,
    accuracy: float = 0.8,
    drop: float = 0.0,
    agreement: float | None = 0.98,
    macs: int = 1000,
    memory_bytes: int = 1000,
    places: Places = PLACES,
    **changes: Any,
) -> Candidate:
    crosses = route is not Route.LOCAL
    work = Work(
        head=Term(seconds=head_s, measured=True),
        encode=Term(seconds=0.0),
        tail=Term(seconds=tail_s + places.cloud.service_s if crosses else 0.0),
        crosses=crosses,
        payload_bytes=payload_bytes if crosses else 0.0,
        reply_bytes=4000.0 if crosses else 0.0,
        device_macs=macs,
        device_memory_bytes=memory_bytes,
        device_flash_bytes=memory_bytes // 2,
    )
    made = Candidate(
        id=name,
        variant="net",
        route=route,
        cut=cut if route is Route.SPLIT else None,
        tensor="x" if route is Route.SPLIT else None,
        codec=CodecSpec(name="pca1-ans") if crosses else None,
        rate_index=None,
        payload_bytes=work.payload_bytes,
        payload_bytes_p95=work.payload_bytes,
        choose=Score(
            n=100, accuracy=accuracy, top5=None, agreement=agreement, logit_divergence=0.01
        ),
        choose_drop=Drop(value=drop, low=drop - 0.01, high=drop + 0.01),
        cost=cost(work, places),
    )
    return replace(made, **changes)
