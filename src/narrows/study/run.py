"""The study itself: what is missing is measured and appended; what fails is told, the rest goes on.

A network is opened, its variants are made, looked at and judged, and then timed, one session for
each number of threads. Records are written as soon as a session ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import final

from narrows.config import write_json
from narrows.errors import NarrowsError, StorageError
from narrows.measure.sensors import NoEnergy, Sensor, find_sensors
from narrows.measure.workers import WorkerContender, open_contender
from narrows.study.assemble import Parts, assembled
from narrows.study.cells import Cell
from narrows.study.facts import VariantFacts, variant_facts
from narrows.study.journal import MODELS, SETTINGS, Journal
from narrows.study.keys import Keys
from narrows.study.models import Network, open_network, variant_file
from narrows.study.quality import Judged
from narrows.study.record import Facts, FailedRecord, MeasuredRecord, Score, reason_of
from narrows.study.scores import scores_of
from narrows.study.session import Open, Progress, run_session
from narrows.study.settings import ORIGINAL, TORCH, StudySettings, schedule_of
from narrows.study.todo import Todo, todo
from narrows.zoo.eager import eager_command


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of a study did.

    Args:
        measured: Cells that were measured now.
        failed: Cells that could not be.
    """

    measured: int
    failed: tuple[FailedRecord, ...]


def run_study(
    settings: StudySettings,
    folder: Path,
    *,
    only: Sequence[str] = (),
    progress: Progress = lambda what, done, total: None,
) -> Outcome:
    """Measure what is missing of a study.

    Args:
        settings: The study.
        folder: Where its records and models are kept; made if it is not there.
        only: Names of networks, with `*` and `?`; empty for all.
        progress: Told what is being done, the steps done and to do.

    Raises:
        StorageError: The disk is full, or another process measures into the folder. What was
            recorded before is kept; a rerun goes on from there.
        ConfigError: `only` names no network, or the records are damaged.
    """
    journal = Journal(folder=folder)
    with journal.locked():
        records = journal.read()
        todos = todo(settings, records, only=only)
        write_json(folder / SETTINGS, settings)
        run = _Run(
            settings=settings,
            journal=journal,
            progress=progress,
            sensor=_sensor(settings),
            known={r.facts_key: r.facts for r in records if isinstance(r, MeasuredRecord)},
        )
        for one in todos:
            run.measure(one)
    return Outcome(measured=len(run.measured), failed=tuple(run.failed))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run: what it writes to, and what it has done."""

    settings: StudySettings
    journal: Journal
    progress: Progress
    sensor: Sensor | NoEnergy
    known: dict[str, Facts]
    measured: list[Cell] = field(default_factory=list)
    failed: list[FailedRecord] = field(default_factory=list)

    def measure(self, one: Todo) -> None:
        """Measure what is missing of a network, and record it cell by cell."""
        for cell, reason in one.failed.items():
            self._fail(cell, "", reason)
        left = dict(one.cells)
        try:
            self._measure(one, left)
        except StorageError:
            raise
        except Exception as error:
            # Exporters and runtimes raise errors of every kind; the other networks go on.
            for cell, key in left.items():
                self._fail(cell, key.whole, reason_of(error))

    def _measure(self, one: Todo, left: dict[Cell, Keys]) -> None:
        self.progress(f"open {one.network.name}", 0, 1)
        network = open_network(one.network, self.journal.folder / MODELS)
        files, broken = self._files(network, left)
        new = [cell for cell, key in left.items() if key.facts not in self.known]
        variants, unread = self._variants(network, files, {cell.variant for cell in new})
        scores = self._scores(network, files, new)
        for cell in [cell for cell in left if cell.variant in broken | unread]:
            self._fail(cell, left.pop(cell).whole, (broken | unread)[cell.variant])
        for threads in self.settings.threads:
            here = [cell for cell in left if cell.threads == threads]
            if not here:
                continue
            session = run_session(
                self._contenders(network, files, here),
                schedule=schedule_of(self.settings, one.network, threads),
                sensor=self.sensor,
                energy_s=self.settings.energy_s,
                progress=self.progress,
            )
            parts = Parts(
                network=network,
                variants=variants,
                scores=scores,
                known=self.known,
                session=f"{one.network.name}, {datetime.now().astimezone().isoformat()}",
            )
            for cell in here:
                if cell in session.timed:
                    self._add(assembled(cell, left[cell], session.timed[cell], parts))
                else:
                    self._fail(cell, left[cell].whole, session.failed[cell])
                del left[cell]

    def _files(
        self, network: Network, left: Mapping[Cell, Keys]
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """The file of each variant that is missing, and of those that cannot be made, why."""
        files: dict[str, Path] = {}
        broken: dict[str, str] = {}
        wanted = {cell.variant for cell in left} | {ORIGINAL}
        for variant in network.settings.variants:
            if variant.name not in wanted:
                continue
            try:
                files[variant.name] = variant_file(
                    network, variant, self.journal.folder / MODELS, self._note
                )
            except StorageError:
                raise
            except Exception as error:
                # Whatever a method raises concerns its own variant.
                broken[variant.name] = reason_of(error)
        return files, broken

    def _variants(
        self, network: Network, files: Mapping[str, Path], wanted: set[str]
    ) -> tuple[dict[str, VariantFacts], dict[str, str]]:
        found: dict[str, VariantFacts] = {}
        unread: dict[str, str] = {}
        for name, path in files.items():
            if name not in wanted:
                continue
            self._note(f"look at {name} of {network.settings.name}")
            try:
                found[name] = variant_facts(
                    path,
                    network.model,
                    is_original=name == ORIGINAL,
                    threads=self.settings.threads[0],
                    runtimes=self.settings.runtimes if self.settings.operators else (),
                )
            except NarrowsError as error:
                unread[name] = str(error)
        return found, unread

    def _scores(
        self, network: Network, files: Mapping[str, Path], new: Sequence[Cell]
    ) -> Mapping[Judged, Score | str]:
        """The scores that new cells need."""
        return scores_of(
            self.settings,
            network,
            files,
            {(cell.variant, cell.runtime) for cell in new if cell.runtime != TORCH},
            folder=self.journal.folder,
            progress=self.progress,
        )

    def _contenders(
        self, network: Network, files: Mapping[str, Path], here: Sequence[Cell]
    ) -> dict[Cell, Open]:
        """The cells of a session, and the originals their ratios are to."""
        wanted = dict.fromkeys(here)
        for cell in here:
            if cell.runtime != TORCH:
                wanted[replace(cell, variant=ORIGINAL)] = None
        return {cell: partial(_open, cell, network, files) for cell in wanted}

    def _add(self, record: MeasuredRecord) -> None:
        self.journal.append(record)
        self.known[record.facts_key] = record.facts
        self.measured.append(record.cell)

    def _fail(self, cell: Cell, key: str, reason: str) -> None:
        record = FailedRecord(cell=cell, key=key, reason=reason)
        self.journal.append(record)
        self.failed.append(record)

    def _note(self, what: str) -> None:
        self.progress(what, 0, 1)


def _open(cell: Cell, network: Network, files: Mapping[str, Path]) -> WorkerContender:
    batch = network.settings.batch
    if cell.runtime == TORCH:
        command = eager_command(network.settings.model, cell.threads, batch=batch)
        return WorkerContender(str(cell), command, cell.threads)
    return open_contender(
        files[cell.variant],
        backend=cell.runtime,
        threads=cell.threads,
        name=str(cell),
        batch=batch,
    )


def _sensor(settings: StudySettings) -> Sensor | NoEnergy:
    if settings.energy == "off":
        return NoEnergy(reason="energy was not asked for")
    return find_sensors().pick()
