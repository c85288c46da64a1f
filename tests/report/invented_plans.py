"""Made-up plan records, consistent in themselves: costs, choice and map come from narrows.plan."""

from __future__ import annotations

import math
from dataclasses import replace

from narrows.measure.profiling import OperatorRates
from narrows.plan.candidate import Candidate, CodecSpec, Drop, Route, Score, Term
from narrows.plan.choose import choose
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.frontier import frontier_ids
from narrows.plan.predict import Places, Work, cost
from narrows.plan.profile import Cloud, Device, Link
from narrows.plan.record import CutRow, PlanRecord, SetSizes, Stage, VariantRow
from narrows.plan.winners import BANDWIDTHS_BITS_PER_S, ROUND_TRIPS_S, winners_map

RATES = OperatorRates(
    kernels=(),
    call_s=1e-5,
    scale=1.0,
    macs_per_s=2e10,
    lanes=0,
    threads=1,
    environment_key="0" * 12,
    network_error=0.1,
)
DEVICE = Device(
    name="cortex-a53",
    rates=RATES,
    rates_from="desktop",
    slowdown=12.0,
    threads=1,
    memory_bytes=256_000_000,
    active_power_w=2.4,
    idle_power_w=0.8,
    encode_s_per_symbol=1e-8,
    encode_overhead_s=2e-5,
    picture_encode_s_per_pixel={"jpeg": 2e-8},
    sources={"slowdown": "estimate"},
)
LINK = Link(
    name="lte-m",
    bandwidth_up_bits_per_s=0.8e6,
    bandwidth_down_bits_per_s=1.2e6,
    round_trip_s=0.06,
    jitter_s=0.02,
    overhead_bytes_up=130,
    overhead_bytes_down=110,
    price_per_byte=1e-9,
    energy_j_per_byte_up=2e-6,
    energy_j_per_byte_down=1e-6,
    sources={"round_trip_s": "measured"},
)
CLOUD = Cloud(
    name="one-core",
    rates=RATES,
    rates_from="desktop",
    slowdown=1.0,
    threads=1,
    service_s=0.001,
    queue_s=0.004,
    decode_s_per_symbol=1e-8,
    picture_decode_s_per_pixel={"jpeg": 1e-8},
    price_per_call=1e-7,
    price_per_s=2e-5,
    sources={"queue_s": "estimate"},
)
# Screened out, though without a loss on the part they were run on: nothing may count on them.
LUCKY = ("avif/r3", "cut5/pca2-ans/r3", "cut7/pca2-huffman/r3")
SHAPES = ((3, 1.0, 0.0), (32, 0.5, 0.03), (16, 0.5, 0.08), (24, 0.25, 0.18), (40, 0.125, 0.29))
LATE = ((80, 0.0625, 0.4), (112, 0.0625, 0.62), (192, 0.03125, 0.86), (320, 0.03125, 0.95))


def make_plan(
    *,
    names: tuple[tuple[str, int, float, float], ...] = (("lite0-224", 224, 385e6, 0.826),),
    title: str = "lite0 on cortex-a53 over lte-m",
    task: str = "photographs",
    demonstration: bool = False,
    classes: int | None = 1000,
    rates: int = 6,
    extra_cuts: int = 0,
    constraints: Constraints | None = None,
    objective: Objective = Objective.LATENCY,
    stride: int = 1,
) -> PlanRecord:
    """A plan whose numbers look like those of small networks on pictures."""
    places = Places(device=DEVICE, link=LINK, cloud=CLOUD)
    constraints = constraints or Constraints(max_drop=0.011)
    variants = tuple(_variant(name, side, macs, top, extra_cuts) for name, side, macs, top in names)
    candidates = [c for variant in variants for c in _candidates(variant, places, rates)]
    if classes is None:
        candidates = [_as_regression(candidate) for candidate in candidates]
    whole = [c for c in candidates if c.choose.n == 250]
    frontier = frontier_ids(whole)
    candidates = [replace(c, on_frontier=c.id in frontier) for c in candidates]
    whole = [c for c in candidates if c.choose.n == 250]
    chosen = choose(whole, constraints, objective, places)
    scored = replace(
        chosen,
        report=replace(chosen.choose, n=800),
        report_drop=Drop(value=0.006, low=-0.002, high=0.014),
        report_payload_bytes=chosen.payload_bytes * 1.01,
    )
    candidates = [scored if c.id == chosen.id else c for c in candidates]
    return PlanRecord(
        title=title,
        created="2026-11-22T06:00:00Z",
        task=task,
        metric="top1" if classes else "rmse",
        classes=classes,
        sets=SetSizes(fit=250, choose=250, report=800),
        demonstration=demonstration,
        variants=variants,
        candidates=tuple(candidates),
        frontier=frontier,
        chosen=chosen.id,
        explanation=f"{chosen.id} is the fastest of {len(candidates)} candidates within a point.",
        winners=winners_map(
            whole,
            constraints,
            objective,
            places,
            bandwidths_bits_per_s=BANDWIDTHS_BITS_PER_S[::stride],
            round_trips_s=ROUND_TRIPS_S[::stride],
        ),
        device=DEVICE,
        link=LINK,
        cloud=CLOUD,
        constraints=constraints,
        objective=objective,
        stages=(Stage(name="fit", seconds=31.0),),
        plain_pass_s=4.1,
        environment={"cpu_model": "a processor", "onnxruntime": "1.23"},
    )


def _variant(name: str, side: int, macs: float, top: float, extra_cuts: int) -> VariantRow:
    score = Score(n=250, accuracy=top, top5=0.95, agreement=1.0, logit_divergence=0.0)
    shapes = [(*SHAPES[0],), *SHAPES[1:], *LATE]
    for i in range(extra_cuts):
        before, after = LATE[i % 3], LATE[i % 3 + 1]
        share = before[2] + (after[2] - before[2]) * (0.2 + 0.6 * i / extra_cuts)
        shapes.append((before[0] * 4, before[1], share))
    cuts = []
    for index, (channels, scale, share) in enumerate(sorted(shapes, key=lambda s: s[2])):
        width = max(1, round(side * scale))
        cuts.append(
            CutRow(
                index=index,
                tensor=f"/features/{index}/out",
                shape=(channels, width, width),
                size_bytes=4 * channels * width * width,
                head_macs=int(macs * share),
                head_macs_share=share,
                head_weight_bytes=int(18e6 * share**2),
                head_peak_bytes=8 * 32 * side * side // 4,
                tail_macs=int(macs * (1 - share)),
                dominated_by=None,
                planned=channels in (24, 40, 80, 112, 192, 320),
            )
        )
    last = replace(
        cuts[-1], index=len(cuts), tensor="logits", shape=(1000,), size_bytes=4000,
        head_macs=int(macs), head_macs_share=1.0, tail_macs=0, planned=False,
    )  # fmt: skip
    return VariantRow(
        name=name,
        original=name,
        source=f"zoo:{name}",
        input_shape=(3, side, side),
        total_macs=int(macs),
        weight_bytes=18_000_000,
        choose=score,
        report=replace(score, n=800),
        cuts=(*cuts, last),
        refused_cuts=31,
    )


def _candidates(variant: VariantRow, places: Places, rates: int) -> list[Candidate]:
    side, macs = variant.input_shape[-1], variant.total_macs
    found = [_candidate(variant, "local", Route.LOCAL, None, None, 0, 0.0, places, 1.0)]
    for name, gain in (("jpeg", 1.0), ("webp", 0.85), ("avif", 0.6)):
        for rate in range(rates):
            spec = CodecSpec(name=name, quality=90 - 14 * rate, scale=1.0)
            size = gain * 46_000 * (side / 224) ** 2 * 0.62**rate
            loss = 0.004 * 1.9**rate - 0.003
            found.append(
                _candidate(
                    variant, f"{name}/r{rate}", Route.IMAGE, None, spec, size, loss, places, 0
                )
            )
    raw = CodecSpec(name="pixels")
    found.append(_candidate(variant, "raw", Route.RAW, None, raw, 3 * side**2, 0.0, places, 0))
    for cut in (c for c in variant.cuts if c.planned):
        values = math.prod(cut.shape)
        for coder, gain in (("huffman", 1.12), ("ans", 1.0)):
            for rate in range(rates):
                spec = CodecSpec(name=f"pca2-{coder}", block=2, step=0.3 * 1.5**rate,
                                 step_share=0.2 * 1.5**rate, dead_zone=0.1)  # fmt: skip
                early = 1.6 - 1.1 * cut.head_macs_share
                size = gain * values * 0.26 * early * 0.6**rate
                loss = 0.0015 * 2.2**rate * early - 0.002
                ident = f"cut{cut.index}/{spec.name}/r{rate}"
                args = (Route.SPLIT, cut, spec, size, loss, places, cut.head_macs / macs)
                found.append(_candidate(variant, ident, *args))
    return found


def _candidate(
    variant: VariantRow,
    ident: str,
    route: Route,
    cut: CutRow | None,
    spec: CodecSpec | None,
    size: float,
    loss: float,
    places: Places,
    share: float,
) -> Candidate:
    speed, macs = RATES.macs_per_s, variant.total_macs
    work = Work(
        head=Term(seconds=places.device.slowdown * share * macs / speed, measured=False),
        encode=Term(seconds=0.004 if route is Route.IMAGE else 3e-4 if cut else 0.0),
        tail=Term(seconds=(1 - share) * macs / speed + 0.0015, measured=True),
        crosses=route is not Route.LOCAL,
        payload_bytes=size,
        reply_bytes=60,
        device_macs=int(share * macs),
        device_memory_bytes=int(4e6 + 18e6 * share),
        device_flash_bytes=int(18e6 * share),
    )
    n = 120 if loss > 0.08 or ident in LUCKY else 250
    loss = 0.0 if ident in LUCKY else loss
    agreement = max(0.0, 0.995 - 2 * abs(loss))
    score = replace(variant.choose, n=n, accuracy=variant.choose.accuracy - loss)
    score = replace(score, agreement=agreement, logit_divergence=4 * loss**2)
    return Candidate(
        id=f"{variant.name}/{ident}",
        variant=variant.name,
        route=route,
        cut=cut.index if cut else None,
        tensor=cut.tensor if cut else None,
        codec=spec,
        rate_index=None if spec is None else int(ident[-1]) if ident[-2:-1] == "r" else None,
        payload_bytes=size,
        payload_bytes_p95=size * 1.4,
        choose=score,
        choose_drop=Drop(value=loss, low=loss - 0.009, high=loss + 0.009),
        cost=cost(work, places),
    )


def _as_regression(candidate: Candidate) -> Candidate:
    score = replace(candidate.choose, top5=None, agreement=None, logit_divergence=None)
    return replace(candidate, choose=replace(score, accuracy=-2.0 - candidate.choose_drop.value))


def nine_networks(*, extra_cuts: int = 24, rates: int = 6) -> PlanRecord:
    """Three networks at three input sizes, every cut."""
    names = []
    for name, macs, top in (
        ("lite0", 385e6, 0.826),
        ("lite1", 600e6, 0.838),
        ("lite2", 860e6, 0.846),
    ):
        for side, less in ((160, 0.045), (192, 0.02), (224, 0.0)):
            names.append((f"{name}-{side}", side, macs * (side / 224) ** 2, top - less))
    title = "EfficientNet-Lite × input size"
    more = {"extra_cuts": extra_cuts, "rates": rates, "stride": 4}
    return make_plan(names=tuple(names), title=title, **more)
