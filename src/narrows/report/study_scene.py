"""The folder of a study as what its figures and tables are about.

    study.json, records.jsonl ──read_study──► StudyScene ──► figures, page, tables.md

Of every cell the last record counts. Cells that are in the study's file and have no record yet are
missing, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from narrows.config import from_dict, read_json, to_dict
from narrows.errors import InputError
from narrows.report.scene import clean
from narrows.study.cells import Cell, cells
from narrows.study.claims import Claim, claims
from narrows.study.journal import SETTINGS, Journal
from narrows.study.record import FailedRecord, MeasuredRecord, Record
from narrows.study.settings import ORIGINAL, TORCH, StudySettings


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyScene:
    """What the report of a study shows.

    Args:
        title: Heading.
        networks, variants, runtimes, threads: In the order of the study's file; only those that
            something was measured of.
        records: One for each cell that was measured.
        failed: One for each cell that could not be.
        missing: How many cells have not been tried.
        claims: Each variant against its original.
    """

    title: str
    networks: tuple[str, ...]
    variants: tuple[str, ...]
    runtimes: tuple[str, ...]
    threads: tuple[int, ...]
    records: tuple[MeasuredRecord, ...]
    failed: tuple[FailedRecord, ...]
    missing: int
    claims: tuple[Claim, ...]

    def get(self, network: str, variant: str, runtime: str, threads: int) -> MeasuredRecord | None:
        """The record of a cell, or None."""
        wanted = Cell(network=network, variant=variant, runtime=runtime, threads=threads)
        return next((record for record in self.records if record.cell == wanted), None)

    def any_of(self, network: str, variant: str) -> MeasuredRecord | None:
        """Some record of a variant, for what every runtime and thread count share."""
        own = (r for r in self.records if (r.cell.network, r.cell.variant) == (network, variant))
        return next((r for r in own if r.cell.runtime != TORCH), None)

    def changed(self) -> Iterator[tuple[str, str]]:
        """Network and variant, originals left out, in the order of the study."""
        for network in self.networks:
            for variant in self.variants:
                if variant != ORIGINAL and self.any_of(network, variant):
                    yield network, variant

    def failures(self) -> list[str]:
        """What failed, cells of one network and reason together."""
        groups: dict[tuple[str, str], list[Cell]] = {}
        for record in self.failed:
            groups.setdefault((record.cell.network, record.reason), []).append(record.cell)
        return [f"{_those(own)}: {reason}" for (_, reason), own in groups.items()]

    @property
    def compiled(self) -> tuple[str, ...]:
        """The runtimes that variants are compared on: all but the eager baseline."""
        return tuple(runtime for runtime in self.runtimes if runtime != TORCH)

    @property
    def scope(self) -> str:
        """What the times were taken on."""
        here = self.records[0].latency.environment
        places = {record.latency.environment.cpu_model for record in self.records}
        more = "" if len(places) == 1 else f" AND {len(places) - 1} OTHER MACHINES, not comparable"
        return f"{here.cpu_model}, {here.cores} cores, onnxruntime {here.onnxruntime}{more}"


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study."""
    return (folder / SETTINGS).is_file()


def read_study(folder: str | Path) -> StudyScene:
    """Read a study's folder, with every text made safe to show.

    Raises:
        InputError: There is no study, or nothing of it is measured yet.
        ConfigError: A file is damaged or of another version.
    """
    folder = Path(folder)
    settings = read_json(folder / SETTINGS, StudySettings)
    last: dict[Cell, Record] = {record.cell: record for record in Journal(folder=folder).read()}
    wanted = cells(settings)
    found = [last[cell] for cell in wanted if cell in last]
    measured = [_cleaned(record) for record in found if isinstance(record, MeasuredRecord)]
    if not measured:
        msg = f"{folder} holds no measured cell of its study: run `narrows study` to its end"
        raise InputError(msg)
    own = [record.cell for record in measured]
    return StudyScene(
        title=clean(settings.name),
        networks=tuple(dict.fromkeys(cell.network for cell in own)),
        variants=_ordered([cell.variant for cell in own], clean([c.variant for c in wanted])),
        runtimes=_ordered([cell.runtime for cell in own], [c.runtime for c in wanted]),
        threads=tuple(n for n in settings.threads if any(cell.threads == n for cell in own)),
        records=tuple(measured),
        failed=tuple(
            from_dict(FailedRecord, clean(to_dict(record)))
            for record in found
            if isinstance(record, FailedRecord)
        ),
        missing=len(wanted) - len(found),
        claims=claims(measured),
    )


def _those(own: list[Cell]) -> str:
    return str(own[0]) if len(own) == 1 else f"{own[0].network}, {len(own)} cells"


def _cleaned(record: MeasuredRecord) -> MeasuredRecord:
    return from_dict(MeasuredRecord, clean(to_dict(record)))


def _ordered(present: list[str], order: list[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(order) if name in present)
