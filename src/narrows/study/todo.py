"""What of a study is still to be measured, and about how long that takes."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from narrows.errors import ConfigError, NarrowsError
from narrows.measure.schedule import Schedule
from narrows.study.cells import Cell, cells
from narrows.study.keys import Keys, keys
from narrows.study.record import MeasuredRecord, Record
from narrows.study.settings import NetworkSettings, StudySettings, schedule_of

# Seconds, as a few dozen networks took them: a process to start and warm up, the facts of a
# variant, a sample to decode and judge by one model.
_START_S: Final = 1.5
_VARIANT_S: Final = 3.0
_JUDGE_S: Final = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """What is missing of one network.

    Args:
        network: Which.
        cells: The cells to measure, and their keys.
        failed: Cells whose keys cannot even be told, and why.
    """

    network: NetworkSettings
    cells: Mapping[Cell, Keys]
    failed: Mapping[Cell, str]


def todo(
    settings: StudySettings, records: Iterable[Record], *, only: Sequence[str] = ()
) -> tuple[Todo, ...]:
    """The cells without a record of their key, network by network.

    Args:
        settings: The study.
        records: What was recorded so far; what failed is tried again.
        only: Names of networks, with `*` and `?`; empty for all.

    Raises:
        ConfigError: A name of `only` matches no network.
    """
    done = {record.key for record in records if isinstance(record, MeasuredRecord)}
    names = chosen(settings, only)
    found = []
    for network in settings.networks:
        if network.name not in names:
            continue
        missing: dict[Cell, Keys] = {}
        failed: dict[Cell, str] = {}
        for cell in cells(settings):
            if cell.network != network.name:
                continue
            try:
                key = keys(settings, network, cell)
            except NarrowsError as error:
                failed[cell] = str(error)
                continue
            if key.whole not in done:
                missing[cell] = key
        if missing or failed:
            found.append(Todo(network=network, cells=missing, failed=failed))
    return tuple(found)


def chosen(settings: StudySettings, only: Sequence[str]) -> set[str]:
    """Names of the networks that patterns match; of all where there is no pattern.

    Raises:
        ConfigError: A pattern matches none.
    """
    names = [network.name for network in settings.networks]
    found: set[str] = set()
    for pattern in only:
        matched = [name for name in names if fnmatch.fnmatch(name.lower(), pattern.lower())]
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            msg = f"--only {pattern!r} is no network: {hint}there are {', '.join(names)}"
            raise ConfigError(msg)
        found.update(matched)
    return found if only else set(names)


def estimated_s(settings: StudySettings, todos: Sequence[Todo], records: Iterable[Record]) -> float:
    """About how long the missing cells take, exports and quantization left out.

    A call takes as long as it did when its cell was last measured, and is short where it never was.

    Args:
        settings: The study.
        todos: What is missing.
        records: What was recorded so far.
    """
    known = {r.cell: r.latency.median for r in records if isinstance(r, MeasuredRecord)}
    total_s = 0.0
    for one in todos:
        for threads in settings.threads:
            here = [cell for cell in one.cells if cell.threads == threads]
            total_s += _session_s(schedule_of(settings, one.network, threads), here, known)
        total_s += _VARIANT_S * len({cell.variant for cell in one.cells})
        if one.network.task is not None:
            judged = {(cell.variant, cell.runtime) for cell in one.cells}
            total_s += _JUDGE_S * (settings.samples or 1000) * len(judged)
    return total_s


def _session_s(schedule: Schedule, here: Sequence[Cell], known: Mapping[Cell, float]) -> float:
    """One session: its rounds, and the starts of its processes."""
    if not here:
        return 0.0
    calls = schedule.min_calls + 1
    slot_s = sum(max(schedule.round_s, calls * known.get(cell, 0.0)) for cell in here)
    rounds_s = min(schedule.limit_s, max(schedule.session_s, schedule.rounds * slot_s))
    starts_s = (schedule.respawns + 1) * sum(_START_S + 10 * known.get(cell, 0.0) for cell in here)
    return max(rounds_s, slot_s) + starts_s
