"""How well a device profile predicts heads of networks it has never seen.

    python benchmarks/predict_head.py [--out predict_head.json] [--profile device.json]

Profiles this machine (or reads a profile made on it), then, for each of ten networks that are no
probe, times its heads at several cuts, interleaved, and compares with the prediction kernel by
kernel and with one by MACs alone. Times are processor times of one thread, so that other load on
the machine hardly shows. Takes three to six minutes. Needs the extra `lab`.

The MACs-only model is given its best chance: its speed is the median over the very heads it is
judged on, so it has no bias, only spread; `by_macs_from_probes` takes the speed from the profile.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from narrows.config import read_json, write_json
from narrows.graph.cost import node_costs, total_macs
from narrows.graph.cuts import Cut, find_cuts
from narrows.graph.load import load, session
from narrows.graph.split import split
from narrows.measure.environment import Environment, environment
from narrows.measure.fitting import profile_device
from narrows.measure.latency import Schedule, compare
from narrows.measure.operators import example_input
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
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One head."""

    network: str
    cut: str
    macs: int
    macs_share: float
    measured_s: float
    low_s: float
    high_s: float
    predicted_s: float
    by_macs_from_probes_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All heads, and the median absolute errors, whole networks (the last cut) apart."""

    environment: Environment
    rows: tuple[Row, ...]
    error: float
    error_worst: float
    error_by_macs: float
    error_by_macs_from_probes: float
    whole_error: float
    whole_error_by_macs: float


def heads(name: str, rates: OperatorRates) -> list[Row]:
    """Measured and predicted times of a network's heads."""
    model = load(resolve(name))
    whole_macs = total_macs(model)
    cuts = _spread(find_cuts(model).cuts)
    protos = {cut.index: split(model, cut).head for cut in cuts}
    feeds = {model.input.name: example_input(model)}
    running = {str(index): session(proto) for index, proto in protos.items()}
    schedule = Schedule(rounds=8, round_s=0.02, min_calls=5, session_s=6.0)
    taken = compare(
        {index: lambda s=s: s.run(None, feeds) for index, s in running.items()}, schedule=schedule
    ).measurements
    rows = []
    for cut in cuts:
        costs = node_costs(load(protos[cut.index]))
        cpu = taken[str(cut.index)].cpu
        rows.append(
            Row(
                network=name.partition("?")[0],
                cut=f"{cut.index} {cut.tensor}",
                macs=cut.head_macs,
                macs_share=cut.head_macs / whole_macs,
                measured_s=cpu.median,
                low_s=cpu.interval[0],
                high_s=cpu.interval[1],
                predicted_s=predict_head_s(costs, rates),
                by_macs_from_probes_s=predict_by_macs_s(costs, rates),
            )
        )
    return rows


def _spread(cuts: tuple[Cut, ...]) -> list[Cut]:
    """The cuts nearest to the asked shares of the MACs, the last one for the whole."""
    inner = [cut for cut in cuts if 0 < cut.head_macs_share < 1]
    near = [min(inner, key=lambda c: abs(c.head_macs_share - share)) for share in SHARES[:-1]]
    return list({cut.index: cut for cut in (*near, cuts[-1])}.values())


def result(rows: list[Row]) -> Result:
    """Errors over all heads and over whole networks."""
    speed = median(row.macs / row.measured_s for row in rows)
    whole = [row for row in rows if row.macs_share == 1]

    def error(part: list[Row]) -> float:
        return median(abs(row.predicted_s / row.measured_s - 1) for row in part)

    def error_by_macs(part: list[Row]) -> float:
        return median(abs(row.macs / speed / row.measured_s - 1) for row in part)

    return Result(
        environment=environment(),
        rows=tuple(rows),
        error=error(rows),
        error_worst=max(abs(row.predicted_s / row.measured_s - 1) for row in rows),
        error_by_macs=error_by_macs(rows),
        error_by_macs_from_probes=median(
            abs(row.by_macs_from_probes_s / row.measured_s - 1) for row in rows
        ),
        whole_error=error(whole),
        whole_error_by_macs=error_by_macs(whole),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("predict_head.json"))
    parser.add_argument("--profile", type=Path, help="made on this machine; else made now")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    asked = parser.parse_args()
    rates = load_device(asked.profile).rates if asked.profile else profile_device()
    print(f"probe networks, in the fit: {rates.network_error:.1%}")
    print(f"{'network':34} {'cut':30} {'MACs':>6} {'ms':>7} {'predicted':>10} {'by MACs':>9}")
    rows: list[Row] = []
    for name in asked.networks:
        for row in heads(name, rates):
            rows.append(row)
            off, naive = (
                value / row.measured_s - 1 for value in (row.predicted_s, row.by_macs_from_probes_s)
            )
            print(
                f"{row.network:34} {row.cut[:30]:30} {row.macs_share:6.0%}"
                f" {row.measured_s * 1e3:7.2f} {off:+10.1%} {naive:+9.1%}",
                flush=True,
            )
    found = result(rows)
    write_json(asked.out, found)
    assert read_json(asked.out, Result) == found
    print(
        f"median error over {len(rows)} heads: {found.error:.1%} (worst {found.error_worst:.1%});"
        f" by MACs with the best speed {found.error_by_macs:.1%}, with the profile's"
        f" {found.error_by_macs_from_probes:.1%}\n"
        f"whole networks: {found.whole_error:.1%}; by MACs {found.whole_error_by_macs:.1%}"
    )


if __name__ == "__main__":
    main()
