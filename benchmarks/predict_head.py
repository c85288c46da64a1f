"""How well a device profile predicts heads of networks it has never seen, in float32 and int8.

    python benchmarks/predict_head.py [--out predict_head.json] [--profile device.json]

Profiles this machine (or reads a profile made on it), then, for each of ten networks that are no
probe, times its heads at several cuts, interleaved, and compares with the prediction kernel by
kernel and with one by MACs alone. Each network is taken as it is and in int8 (`quantize_static`,
ranges from random inputs), and with `--variants weights` with int8 weights alone. Takes six to ten
minutes. Needs the extra `lab`.

Times are processor times of one thread. On a shared machine even those drift by 20 % within
minutes, as neighbours come and go on the same core. So one reference network is timed during the
profile and again among each network's heads: `drift` is how much slower the machine has become,
and every error is given as it is and with the measured times divided by the drift.

The MACs-only model is given its best chance: its speed is the median over the very heads of one
variant that it is judged on, so it has no bias, only spread; `by_macs_from_probes` takes the
speed from the profile.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from narrows.config import read_json, write_json
from narrows.graph.cost import node_costs, total_macs
from narrows.graph.cuts import Cut, find_cuts
from narrows.graph.load import Model, load, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.graph.split import split
from narrows.measure.environment import Environment, environment
from narrows.measure.fitting import profile_device
from narrows.measure.latency import Schedule, compare
from narrows.measure.operators import example_input
from narrows.measure.probes import probe_networks
from narrows.measure.profiling import OperatorRates, predict_by_macs_s, predict_head_s
from narrows.plan.profile import load_device
from narrows.zoo.sources import resolve

NETWORKS = (
    "zoo:efficientnet_lite0",
    "torchvision:mobilenet_v2?pretrained=0",
    "torchvision:resnet18?pretrained=0",
    "torchvision:squeezenet1_1?pretrained=0",
    "torchvision:googlenet?pretrained=0",
    "torchvision:densenet121?pretrained=0",
    "torchvision:mnasnet1_0?pretrained=0",
    "torchvision:shufflenet_v2_x1_0?pretrained=0",
    "torchvision:mobilenet_v3_large?pretrained=0",
    "torchvision:regnet_x_400mf?pretrained=0",
)
VARIANTS = ("float32", "int8", "weights")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One head."""

    network: str
    variant: str
    cut: str
    macs: int
    macs_share: float
    measured_s: float
    low_s: float
    high_s: float
    predicted_s: float
    by_macs_from_probes_s: float
    drift: float

    def error(self, *, steady: bool = False) -> float:
        """Relative error of the prediction, with `steady` as if the machine had not drifted."""
        return self.predicted_s / self.measured_s * (self.drift if steady else 1.0) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Median absolute errors over all heads of a variant, whole networks (the last cut) apart."""

    variant: str
    heads: int
    error: float
    error_worst: float
    error_steady: float
    error_steady_worst: float
    error_by_macs: float
    error_by_macs_from_probes: float
    whole_error: float
    whole_error_steady: float
    whole_error_by_macs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All heads, and the errors of each variant."""

    environment: Environment
    rows: tuple[Row, ...]
    errors: tuple[Errors, ...]


class Reference:
    """One small network, timed now and then to see how fast the machine is."""

    def __init__(self) -> None:
        model = load(next(probe_networks(1, seed=77)))
        self.running = session(model.proto)
        self.feeds = {model.input.name: example_input(model)}
        self.profile_s = float("nan")

    def run(self) -> object:
        """Run it once."""
        return self.running.run(None, self.feeds)

    def watched_profile(self) -> OperatorRates:
        """Profile this machine; the reference's time is the median of ten during the profile."""
        times_s: list[float] = []
        schedule = Schedule(target=None, rounds=1, round_s=0.0, min_calls=15, session_s=0.0)

        def progress(done: int, total: int) -> None:
            if done % (total // 10) == 0:
                taken = compare({"reference": self.run}, schedule=schedule)
                times_s.append(taken.measurements["reference"].cpu.median)

        rates = profile_device(progress=progress)
        self.profile_s = median(times_s)
        return rates


def variant_of(model: Model, variant: str) -> Model:
    """The model as it is, in int8, or with int8 weights alone."""
    if variant == "weights":
        return load(quantize_weights(model))
    if variant == "float32":
        return model
    rng = np.random.default_rng(0)
    shape = (1, *model.input.shape)
    samples = [rng.standard_normal(shape, dtype=np.float32) for _ in range(3)]
    return load(quantize_static(model, samples))


def heads(
    name: str, variant: str, model: Model, rates: OperatorRates, reference: Reference
) -> list[Row]:
    """Measured and predicted times of a network's heads."""
    whole_macs = total_macs(model)
    cuts = _spread(find_cuts(model).cuts)
    protos = {cut.index: split(model, cut).head for cut in cuts}
    feeds = {model.input.name: example_input(model)}
    running = {str(index): session(proto) for index, proto in protos.items()}
    schedule = Schedule(target=None, rounds=8, round_s=0.02, min_calls=5, session_s=6.0)
    runs = {index: lambda s=s: s.run(None, feeds) for index, s in running.items()}
    taken = compare({**runs, "reference": reference.run}, schedule=schedule).measurements
    drift = taken["reference"].cpu.median / reference.profile_s
    rows = []
    for cut in cuts:
        costs = node_costs(load(protos[cut.index]))
        cpu = taken[str(cut.index)].cpu
        rows.append(
            Row(
                network=name.partition("?")[0],
                variant=variant,
                cut=f"{cut.index} {cut.tensor}",
                macs=cut.head_macs,
                macs_share=cut.head_macs / whole_macs,
                measured_s=cpu.median,
                low_s=cpu.interval[0],
                high_s=cpu.interval[1],
                predicted_s=predict_head_s(costs, rates),
                by_macs_from_probes_s=predict_by_macs_s(costs, rates),
                drift=1.0 if math.isnan(drift) else drift,
            )
        )
    return rows


def _spread(cuts: tuple[Cut, ...]) -> list[Cut]:
    """The cuts nearest to the asked shares of the MACs, the last one for the whole."""
    inner = [cut for cut in cuts if 0 < cut.head_macs_share < 1]
    near = [min(inner, key=lambda c: abs(c.head_macs_share - share)) for share in SHARES[:-1]]
    return list({cut.index: cut for cut in (*near, cuts[-1])}.values())


def errors(rows: list[Row], variant: str) -> Errors:
    """Errors over all heads and over whole networks of one variant."""
    rows = [row for row in rows if row.variant == variant]
    speed = median(row.macs / row.measured_s for row in rows)
    whole = [row for row in rows if row.macs_share == 1]

    def error_by_macs(part: list[Row]) -> float:
        return median(abs(row.macs / speed / row.measured_s - 1) for row in part)

    return Errors(
        variant=variant,
        heads=len(rows),
        error=median(abs(row.error()) for row in rows),
        error_worst=max(abs(row.error()) for row in rows),
        error_steady=median(abs(row.error(steady=True)) for row in rows),
        error_steady_worst=max(abs(row.error(steady=True)) for row in rows),
        error_by_macs=error_by_macs(rows),
        error_by_macs_from_probes=median(
            abs(row.by_macs_from_probes_s / row.measured_s - 1) for row in rows
        ),
        whole_error=median(abs(row.error()) for row in whole),
        whole_error_steady=median(abs(row.error(steady=True)) for row in whole),
        whole_error_by_macs=error_by_macs(whole),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("predict_head.json"))
    parser.add_argument("--profile", type=Path, help="made on this machine; else made now")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=("float32", "int8"))
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    asked = parser.parse_args()
    reference = Reference()
    rates = load_device(asked.profile).rates if asked.profile else reference.watched_profile()
    print(f"probe networks, in the fit: {rates.network_error:.1%}")
    titles = f"{'predicted':>10} {'steady':>9} {'by MACs':>9}  drift"
    print(f"{'network':28} {'variant':8} {'cut':24} {'MACs':>6} {'ms':>7} {titles}")
    rows: list[Row] = []
    for name in asked.networks:
        model = load(resolve(name))
        for variant in asked.variants:
            made = variant_of(model, variant)
            for row in heads(name, variant, made, rates, reference):
                rows.append(row)
                print_row(row)
    found = Result(
        environment=environment(),
        rows=tuple(rows),
        errors=tuple(errors(rows, variant) for variant in asked.variants),
    )
    write_json(asked.out, found)
    assert read_json(asked.out, Result) == found
    for entry in found.errors:
        print_errors(entry)


def print_row(row: Row) -> None:
    naive = row.by_macs_from_probes_s / row.measured_s - 1
    print(
        f"{row.network[-28:]:28} {row.variant:8} {row.cut[:24]:24} {row.macs_share:6.0%}"
        f" {row.measured_s * 1e3:7.2f} {row.error():+10.1%} {row.error(steady=True):+9.1%}"
        f" {naive:+9.1%}  {row.drift:5.2f}",
        flush=True,
    )


def print_errors(found: Errors) -> None:
    print(
        f"{found.variant}: median error over {found.heads} heads {found.error:.1%}"
        f" (worst {found.error_worst:.1%}), with drift taken out {found.error_steady:.1%}"
        f" (worst {found.error_steady_worst:.1%}); by MACs with the best speed"
        f" {found.error_by_macs:.1%}, with the profile's {found.error_by_macs_from_probes:.1%};"
        f" whole networks {found.whole_error:.1%}, with drift taken out"
        f" {found.whole_error_steady:.1%}, by MACs {found.whole_error_by_macs:.1%}"
    )


if __name__ == "__main__":
    main()
