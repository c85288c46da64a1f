"""Records of narrows measure as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from narrows.cli.columns import print_columns
from narrows.cli.inspect_files import make_console, plain, sides
from narrows.units import (
    bytes_text,
    joules_text,
    macs_text,
    percent_text,
    seconds_text,
)

if TYPE_CHECKING:
    from rich.console import Console

    from narrows.measure.breakdown import Breakdown
    from narrows.measure.energy_estimate import EnergyEstimate
    from narrows.measure.loadgen import LoadGenRecord
    from narrows.measure.model_record import ModelRecord, RuntimeRecord
    from narrows.measure.record import Measurement

_LAYERS = 8


def print_record(record: ModelRecord) -> None:
    """All of a record but its raw samples, on standard output."""
    console = make_console()
    all_runtimes = [*record.runtimes, *(record.against.runtimes if record.against else ())]
    _print_head(console, record)
    _print_latency(console, record, all_runtimes)
    _print_fresh(console, all_runtimes)
    rows = list(_facts(record, all_runtimes))
    console.print()
    width = max(len(title) for title, _ in rows)
    for title, text in rows:
        console.print(f"{title:<{width}}  {plain(text)}")
    for parts in record.breakdowns:
        _print_operators(console, parts)
    if record.breakdowns:
        _print_layers(console, record.breakdowns[0])
    if record.flags:
        console.print("\n[bold]careful[/]")
        prefix = f"{record.model} on " if record.against is None else ""
        for flag in record.flags:
            console.print(f"  [yellow]{plain(flag.removeprefix(prefix))}[/]")


def _print_head(console: Console, record: ModelRecord) -> None:
    here = record.latency.environment
    fed = ", ".join(f"{name} {sides(shape)}" for name, shape in record.inputs.items())
    facts = [fed if fed.startswith("input ") else f"input {fed}"] if fed else []
    facts.append(bytes_text(record.file_bytes))
    if record.size is not None:
        facts.append(f"{record.size.parameters:,} parameters")
    if record.macs is not None:
        facts.append(f"{macs_text(record.macs)}")
    console.print(f"[bold]{plain(record.model)}[/]  {plain(' · '.join(facts))}")
    many = "thread" if here.threads == 1 else "threads"
    console.print(
        f"machine  {plain(here.cpu_model)}, {here.cores} cores, {here.threads} {many} used, load"
        f" {here.load_average_1m} (key {here.key})"
    )


def _print_latency(
    console: Console, record: ModelRecord, runtimes: Sequence[RuntimeRecord]
) -> None:
    if record.latency.rule == "paper":
        rows = [["mean, by the paper's rule", "precision", "latency", "95 %", "CPU time"]]
        rows[0] += ["p90", "p99", "calls"]
    else:
        coverage = percent_text(min(one.latency.coverage for one in runtimes))
        rows = [["latency", "precision", "p50", coverage, "CPU time", "p90", "p99", "rounds"]]
    for one in runtimes:
        taken = one.latency
        rows.append(
            [
                f"{_label(one, runtimes)} {one.version}",
                one.precision,
                seconds_text(taken.estimate),
                _interval(taken),
                seconds_text(taken.cpu.estimate),
                seconds_text(taken.p90),
                "–" if taken.p99 is None else seconds_text(taken.p99),
                str(len(taken.rounds)),
            ]
        )
    print_columns(console, rows)
    prefix = f"{record.model} on " if record.against is None else ""
    for pair in record.ratios:
        low, high = pair.ratio.interval
        name, base = (plain(label.removeprefix(prefix)) for label in (pair.name, pair.base))
        times = "CPU time" if "cpu_" in pair.ratio.name else "time"
        console.print(
            f"  {name}: [bold]{pair.verdict}[/]; {pair.ratio.median:.3f}"
            f" ({low:.3f} to {high:.3f}) × the {times} of {base}"
        )


def _print_fresh(console: Console, runtimes: Sequence[RuntimeRecord]) -> None:
    count = len(runtimes[0].cold.peak_bytes.samples)
    many = "fresh process" if count == 1 else f"{count} fresh processes"
    rows = [[many, "import", "load", "first call", "peak memory", "of it the model"]]
    for one in runtimes:
        cold = one.cold
        rows.append(
            [
                _label(one, runtimes),
                *(_spread(taken) for taken in (cold.import_s, cold.load_s, cold.first_s)),
                f"{bytes_text(cold.peak_bytes.median)}",
                f"{bytes_text(max(0.0, cold.model_bytes))}",
            ]
        )
    print_columns(console, rows)


def _facts(record: ModelRecord, runtimes: Sequence[RuntimeRecord]) -> Iterable[tuple[str, str]]:
    told = [_energy(one) for one in runtimes]
    if len(set(told)) == 1:  # one reason for all
        yield "energy", told[0]
    else:
        for one, text in zip(runtimes, told, strict=True):
            yield "energy", f"{_where(one, runtimes)}{text}"
    if record.estimated is not None:
        yield "estimated", _estimated(record.estimated)
    if record.execution is not None:
        yield "int8", record.execution.text
    if record.unknown_operators:
        unknown = ", ".join(f"{op} ({n})" for op, n in record.unknown_operators.items())
        yield "no MAC rule", unknown
    if record.judged is not None:
        yield "quality", _quality(record)
    for one in runtimes:
        for name, taken in one.presets.items():
            yield name, f"{_where(one, runtimes)}{_preset(name, taken)}"
        if one.loadgen is not None:
            yield "LoadGen", f"{_where(one, runtimes)}{_loadgen(one.loadgen)}"


def _where(one: RuntimeRecord, runtimes: Sequence[RuntimeRecord]) -> str:
    return f"{_label(one, runtimes)}: " if len(runtimes) > 1 else ""


def _energy(one: RuntimeRecord) -> str:
    from narrows.measure.energy import EnergyRecord

    if not isinstance(one.energy, EnergyRecord):
        return f"none ({one.energy.reason})"
    total, dynamic = one.energy.total_j, one.energy.dynamic_j
    ends = [
        f"{joules_text(low)} to {joules_text(high)}"
        for low, high in (dynamic.interval, total.interval)
    ]
    warned = "".join(f"; {warning}" for warning in one.energy.warnings)
    return (
        f"{joules_text(dynamic.median)} above idle ({ends[0]}), {joules_text(total.median)} in all"
        f" ({ends[1]}); idle {one.energy.idle_power_w.median:.3g} W, load"
        f" {one.energy.load_power_w.median:.3g} W; {one.energy.sensor}:"
        f" {', '.join(one.energy.rails)}{warned}"
    )


def _estimated(found: EnergyEstimate) -> str:
    parts = {"arithmetic": found.compute_j, "weights": found.weights_j}
    parts["activations"] = found.activations_j
    told = ", ".join(f"{title} {joules_text(energy_j)}" for title, energy_j in parts.items())
    return (
        f"{joules_text(found.energy_j)} a sample ({told}): not measured, by a table of operator"
        " energies of a 45 nm process"
    )


def _quality(record: ModelRecord) -> str:
    judged = record.judged
    assert judged is not None
    found, classes = judged.quality, judged.classes
    if classes is not None:
        parts = [f"accuracy {classes.accuracy.text()}"]
        parts += [f"top-{k} {share.text()}" for k, share in classes.top.items() if k != "1"]
        macro = classes.macro
        parts.append(
            f"macro precision {macro.precision.text()}, recall {macro.recall.text()}, F1"
            f" {macro.f1.text()}"
        )
        parts.append(f"calibration error {classes.calibration.ece.text()}")
    else:
        parts = []
    if found.metric is not None and judged.metric not in ("top1", "top5"):
        parts.append(f"{judged.metric} {found.metric:.4g}")
    return f"{', '.join(parts)} (n = {found.n}, {judged.task}, {judged.split} set)"


def _preset(name: str, taken: Measurement) -> str:
    if name == "mlperf":
        return (
            f"p90 {seconds_text(taken.p90)} ({len(taken.samples)} calls in"
            f" {sum(taken.samples):.0f} s)"
        )
    rates = sorted(len(part) / sum(part) for part in taken.rounds)
    return (
        f"{rates[len(rates) // 2]:.4g} inferences/s (median of {len(rates)} inputs,"
        f" {rates[0]:.4g} to {rates[-1]:.4g})"
    )


def _loadgen(found: LoadGenRecord) -> str:
    verdict = "VALID" if found.valid else f"INVALID ({'; '.join(found.reasons)})"
    short = "" if found.by_the_rules else ", shorter than MLPerf's rules ask for"
    rate = f"{found.samples_per_s:.4g} samples/s"
    if found.scenario == "single-stream":
        rate = f"p90 {seconds_text(found.p90_s)}, median {seconds_text(found.median_s)}, {rate}"
    return f"{found.scenario}: {rate} of {found.samples} samples; {verdict}{short}"


def _print_operators(console: Console, parts: Breakdown) -> None:
    titles = [f"operators in {parts.backend}", "time", "share", "count", "int8", "MACs"]
    rows = [[*titles, "MACs/byte", "of the limit"]]
    for row in parts.by_type:
        rows.append(
            [
                row.kind,
                seconds_text(row.time_s),
                percent_text(row.share),
                str(row.count or ""),
                str(row.int8 or ""),
                macs_text(row.macs) if row.macs else "",
                f"{row.macs_per_byte:.2g}" if row.macs else "",
                "" if row.limit_share is None else percent_text(row.limit_share),
            ]
        )
    rows.append(["the whole", seconds_text(parts.total_s), percent_text(1.0)] + [""] * 5)
    print_columns(console, rows)
    roof = parts.roofline
    if roof is not None:
        console.print(
            f"  limits of the machine: {macs_text(roof.macs_per_s)}/s in f32,"
            f" {macs_text(roof.int8_macs_per_s)}/s in int8,"
            f" {bytes_text(roof.bandwidth_bytes_per_s)}/s; all of one sample"
        )
    if parts.contention:
        console.print(f"  [yellow]contended: {plain(', '.join(parts.contention))}[/]")


def _print_layers(console: Console, parts: Breakdown) -> None:
    rows = [["slowest layers", "time", "share", "of the limit", "limit", "kernel"]]
    slowest = sorted((row for row in parts.rows if row.kernel), key=lambda row: -row.time_s)
    for layer in slowest[:_LAYERS]:
        rows.append(
            [
                " + ".join(layer.layers) or layer.kind,
                seconds_text(layer.time_s),
                percent_text(layer.share),
                "" if layer.limit_share is None else percent_text(layer.limit_share),
                layer.limit or "",
                layer.kernel,
            ]
        )
    print_columns(console, rows)


def _label(one: RuntimeRecord, runtimes: Sequence[RuntimeRecord]) -> str:
    """The runtime, and the model where there are two."""
    alone = len({other.model for other in runtimes}) == 1
    return one.backend if alone else f"{one.model} on {one.backend}"


def _interval(taken: Measurement) -> str:
    low, high = (seconds_text(end) for end in taken.interval)
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if high.endswith(f" {unit}") else f"{low} to {high}"


def _spread(taken: Measurement) -> str:
    return f"{seconds_text(taken.median)} ({_interval(taken)})"
