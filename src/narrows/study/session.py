"""One session: all contenders of a network at one number of threads, in the same rounds.

Because they share rounds, the ratio of any two is taken inside each round. Energy is measured
afterwards, one contender after the other, because a sensor sees the whole machine. A contender that
does not start, or ends in the middle, is left out with its reason, and the others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

from narrows.errors import NarrowsError
from narrows.measure.contender import Clock
from narrows.measure.energy import EnergyRecord, NoEnergy, measure_energy
from narrows.measure.intervals import Estimate
from narrows.measure.latency import Comparison, compare
from narrows.measure.record import Measurement
from narrows.measure.schedule import Schedule
from narrows.measure.sensors import Sensor
from narrows.measure.workers import Greeting, WorkerContender
from narrows.study.cells import Cell
from narrows.study.record import Ratio, reason_of
from narrows.study.settings import ORIGINAL

Open = Callable[[], WorkerContender]
Progress = Callable[[str, int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What a session says of one cell.

    Args:
        latency: Of one inference.
        ratio: To the original on the same runtime; None for it, and where it failed.
        greeting: The cold start of its first process.
        precision: What it computes in.
        energy: Of one inference, or why there is none.
    """

    latency: Measurement
    ratio: Ratio | None
    greeting: Greeting
    precision: str
    energy: EnergyRecord | NoEnergy


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a session gave.

    Args:
        timed: Of each cell that was measured.
        failed: Of each other, why not.
    """

    timed: Mapping[Cell, Timed]
    failed: Mapping[Cell, str]


def run_session(
    contenders: Mapping[Cell, Open],
    *,
    schedule: Schedule,
    sensor: Sensor | NoEnergy,
    energy_s: float,
    progress: Progress,
    clock: Clock | None = None,
) -> Session:
    """Open contenders, measure them in the same rounds, and close them.

    Args:
        contenders: How each cell's contender is opened; all of one network and number of threads.
        schedule: How long and how often.
        sensor: What reads energy, or why nothing does.
        energy_s: Length of its load and idle windows.
        progress: Told what is being done, the steps done and to do.
        clock: Where time comes from.
    """
    failed: dict[Cell, str] = {}
    with contextlib.ExitStack() as closing:
        opened = dict(_opened(contenders, failed, closing, progress))
        greetings = {cell: contender.greeting for cell, contender in opened.items()}
        comparison = _compared(opened, failed, schedule, clock, progress)
        timed: dict[Cell, Timed] = {}
        for number, (cell, contender) in enumerate(opened.items()):
            if isinstance(sensor, Sensor):
                progress(f"energy of {cell}", number, len(opened))
            try:
                timed[cell] = Timed(
                    latency=comparison.measurements[str(cell)],
                    ratio=_ratio(comparison, cell),
                    greeting=greetings[cell],
                    precision=contender.precision,
                    energy=measure_energy(contender, sensor, load_s=energy_s, idle_s=energy_s),
                )
            except NarrowsError as error:
                failed[cell] = str(error)
    return Session(timed=timed, failed=failed)


def _opened(
    contenders: Mapping[Cell, Open],
    failed: dict[Cell, str],
    closing: contextlib.ExitStack,
    progress: Progress,
) -> Iterator[tuple[Cell, WorkerContender]]:
    for number, (cell, start) in enumerate(contenders.items()):
        progress(f"start {cell}", number, len(contenders))
        try:
            contender = start()
        except (NarrowsError, MemoryError) as error:
            failed[cell] = reason_of(error)
        else:
            closing.callback(contender.close)
            yield cell, contender


def _compared(
    opened: dict[Cell, WorkerContender],
    failed: dict[Cell, str],
    schedule: Schedule,
    clock: Clock | None,
    progress: Progress,
) -> Comparison:
    """The rounds; where a contender ends in the middle, once more without it."""
    while opened:
        title = next(iter(opened)).network
        runs = {str(cell): contender for cell, contender in opened.items()}
        try:
            return compare(
                runs,
                schedule=schedule,
                clock=clock,
                progress=partial(progress, f"time {title}"),
            )
        except NarrowsError as error:
            guilty = [cell for cell, one in opened.items() if str(error).startswith(one.name)]
            for cell in guilty or list(opened):
                failed[cell] = str(error)
                opened.pop(cell).close()
            for contender in opened.values():
                contender.respawn()
    return Comparison(measurements={})


def _ratio(comparison: Comparison, cell: Cell) -> Ratio | None:
    base = Cell(network=cell.network, variant=ORIGINAL, runtime=cell.runtime, threads=cell.threads)
    if cell == base or str(base) not in comparison.measurements:
        return None
    wall, cpu = (_estimate(comparison.ratio(str(cell), str(base), cpu=c)) for c in (False, True))
    return Ratio(wall=wall, cpu=cpu, verdict=comparison.verdict(str(cell), str(base)))


def _estimate(found: Measurement) -> Estimate:
    low, high = found.interval
    return Estimate(value=found.median, low=low, high=high)
