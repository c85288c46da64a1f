"""What the records say of "quantization: -75 % size, but 1.45 × slower".

    records of a variant, a runtime and a number of threads ──► Claim, and a sentence about it

The ratios to the original are summed up by their geometric mean and their range over the networks.
A mean hides for which networks a claim holds, so these are named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from narrows.measure.energy import EnergyRecord
from narrows.measure.intervals import Estimate
from narrows.study.cells import Cell, runtime_title, threads_text
from narrows.study.record import MeasuredRecord
from narrows.study.settings import ORIGINAL

PAPER_SIZE_RATIO: Final = 0.25
PAPER_TIME_RATIO: Final = 1.45


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A variant against its original on one runtime, over the networks that have both.

    Args:
        variant, runtime, threads: Of the cells that are summed up.
        networks: How many networks.
        size: Size over that of the original: geometric mean, least and most.
        time: Time over that of the original, likewise.
        energy: Measured energy over that of the original; None without a sensor.
        drop: Accuracy lost in points of one: mean, least and most; None where nothing was judged.
        faster, slower, undecided: Names of the networks by their verdict.
        smaller_and_slower: Those for which the claim holds.
    """

    variant: str
    runtime: str
    threads: int
    networks: int
    size: Estimate
    time: Estimate
    energy: Estimate | None
    drop: Estimate | None
    faster: tuple[str, ...]
    slower: tuple[str, ...]
    undecided: tuple[str, ...]
    smaller_and_slower: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The claim in words.

        Example:
            >>> half, same = (Estimate(value=v, low=v, high=v) for v in (0.5, 1.0))
            >>> claim = Claim(
            ...     variant="int8", runtime="onnxruntime", threads=1, networks=2, size=half,
            ...     time=same, energy=None, drop=None, faster=("a",), slower=(), undecided=("b",),
            ...     smaller_and_slower=(),
            ... )
            >>> claim.sentence
            'int8 on ONNX Runtime, 1 thread: size -50.0 %, time × 1.00 (1.00 to 1.00 over
            2 networks): slower on 0, faster on 1, not told apart on 1.'
        """
        networks = "network" if self.networks == 1 else "networks"
        return (
            f"{self.variant} on {runtime_title(self.runtime)}, {threads_text(self.threads)}:"
            f" size {100 * (self.size.value - 1):+.1f} %, time × {self.time.value:.2f}"
            f" ({self.time.low:.2f} to {self.time.high:.2f} over {self.networks} {networks}):"
            f" slower on {len(self.slower)}, faster on {len(self.faster)},"
            f" not told apart on {len(self.undecided)}."
        )


def claims(records: Sequence[MeasuredRecord]) -> tuple[Claim, ...]:
    """One claim for every variant, runtime and number of threads that some network has."""
    by_cell = {record.cell: record for record in records}
    groups: dict[tuple[str, str, int], list[tuple[MeasuredRecord, MeasuredRecord]]] = {}
    for record in records:
        cell = record.cell
        base = by_cell.get(
            Cell(network=cell.network, variant=ORIGINAL, runtime=cell.runtime, threads=cell.threads)
        )
        if base is not None and record.ratio is not None:
            groups.setdefault((cell.variant, cell.runtime, cell.threads), []).append((record, base))
    return tuple(_claim(*group, pairs) for group, pairs in groups.items())


def _claim(
    variant: str,
    runtime: str,
    threads: int,
    pairs: Sequence[tuple[MeasuredRecord, MeasuredRecord]],
) -> Claim:
    verdicts: dict[str, list[str]] = {"faster": [], "slower": [], "not told apart": []}
    sizes, times, energies, drops, holds = [], [], [], [], []
    for record, base in pairs:
        assert record.ratio is not None
        verdicts[record.ratio.verdict].append(record.cell.network)
        sizes.append(record.facts.size.file_bytes / base.facts.size.file_bytes)
        times.append(time_ratio(record).value)
        if sizes[-1] < 1 and record.ratio.verdict == "slower":
            holds.append(record.cell.network)
        if record.facts.score is not None and record.facts.score.drop is not None:
            drops.append(record.facts.score.drop.value)
        spent = [energy_j(one) for one in (record, base)]
        if spent[0] is not None and spent[1]:
            energies.append(spent[0] / spent[1])
    return Claim(
        variant=variant,
        runtime=runtime,
        threads=threads,
        networks=len(pairs),
        size=_spread(sizes),
        time=_spread(times),
        energy=_spread(energies) if len(energies) == len(pairs) else None,
        drop=Estimate(value=sum(drops) / len(drops), low=min(drops), high=max(drops))
        if drops
        else None,
        faster=tuple(verdicts["faster"]),
        slower=tuple(verdicts["slower"]),
        undecided=tuple(verdicts["not told apart"]),
        smaller_and_slower=tuple(holds),
    )


def time_ratio(record: MeasuredRecord) -> Estimate:
    """Time over the original's: wall time, or CPU time where other load held the processor.

    The caller has checked that there is a ratio.
    """
    assert record.ratio is not None
    return record.ratio.cpu if record.latency.contended else record.ratio.wall


def energy_j(record: MeasuredRecord) -> float | None:
    """Measured energy of one inference, idle power deducted; None without a sensor."""
    found = record.energy
    return found.dynamic_j.median if isinstance(found, EnergyRecord) else None


def answer(found: Sequence[Claim]) -> tuple[str, ...]:
    """The answer to the claim: a summary, then which variants it holds for, in part, and not."""
    if not found:
        return ("No variant was measured beside its original: there is nothing to say yet.",)
    whole = [c for c in found if len(c.smaller_and_slower) == c.networks]
    partly = [c for c in found if c.smaller_and_slower and c not in whole]
    faster = [c for c in found if len(c.faster) == c.networks]
    others = [c for c in found if c not in (*whole, *partly, *faster)]
    summary = (
        "It depends on the format and the runtime. Of"
        f" {len(found)} combinations of variant, runtime and threads {len(whole)} were smaller and"
        f" slower on every network, {len(partly)} on some, and {len(faster)} faster on every one."
    )
    groups = (
        ("Smaller and slower on every network", whole),
        ("Smaller and slower on some", partly),
        ("Faster on every network", faster),
        ("Slower on none, but not faster on all, as far as can be told", others),
    )
    return (summary, *(f"{title}: {_listed(group)}." for title, group in groups if group))


def _listed(group: Sequence[Claim]) -> str:
    """Claims, those of one variant and runtime together."""
    together: dict[str, list[str]] = {}
    for claim in group:
        name = f"{claim.variant} on {runtime_title(claim.runtime)}"
        told = (
            f"{threads_text(claim.threads)}: {100 * (claim.size.value - 1):+.0f} % size,"
            f" × {claim.time.value:.2f} time, {len(claim.slower)} of {claim.networks} slower"
        )
        together.setdefault(name, []).append(told)
    return "; ".join(f"{name} ({'; '.join(parts)})" for name, parts in together.items())


def _spread(values: Sequence[float]) -> Estimate:
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return Estimate(value=mean, low=min(values), high=max(values))
