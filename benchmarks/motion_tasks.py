"""Three tasks of motion recordings: what exercise, what movement, and who it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.contents import digest
from narrows.splits import Split
from narrows.task import Task
from narrows.train.task import Augment
from narrows.zoo.activity import GRAVITY, Spectra, Windows, windows
from narrows.zoo.activity_files import read_recordings, watch_recordings
from narrows.zoo.activity_tasks import activity_task, disturbed, identity_task

TEMPOS: Final = (1.0, 0.8, 1.2)
# Subjects to choose and to report on, by turns.
FOLDS: Final = ((7, (8, 9, 10)), (4, (5, 6, 7)), (1, (2, 3, 4)))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A task, how its windows are disturbed for training, and each report window's recording."""

    task: Task
    disturb: Augment
    recordings: NDArray[np.int64]


def exercises(_: Path, seed: int) -> Ready:
    """Which of seven exercises of the shoulder a watch sees, in windows of 2 s.

    Ten people; the seed says which three are reported on. Training sees every recording at three
    tempos. The recordings come with the Python package seglearn.
    """
    from seglearn.datasets import load_watch

    recordings, labels = watch_recordings(load_watch())
    how = Spectra(interval_s=0.1, stride=2, least=20)
    cut = windows(recordings, how)
    choose, report = FOLDS[seed % len(FOLDS)]
    task = activity_task(
        "exercises", recordings, cut, labels, choose=[str(choose)], report=list(map(str, report))
    )
    fitted = [each for each in recordings if int(each.subject) not in (choose, *report)]
    parts = [windows(fitted, replace(how, interval_s=factor * 0.1)) for factor in TEMPOS]
    fit = Split(
        sources=np.concatenate([part.x for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )
    return _ready(replace(task, fit=fit), cut, every=5, most_rad=0.3)


def movements(data: Path, _: int) -> Ready:
    """Whether somebody sits, stands up, walks, turns or sits down, for most of a window of 2 s.

    23 people with a phone and a watch; 15 to 17 choose, 18 to 23 report.
    """
    recordings, labels = read_recordings(data)
    cut = windows(recordings, Spectra(interval_s=0.1, stride=1, least=20, scales=(GRAVITY, 1.0)))
    choose, report = ([str(n) for n in range(*ends)] for ends in ((15, 18), (18, 24)))
    task = activity_task("movements", recordings, cut, labels, choose=choose, report=report)
    return _ready(task, cut, every=5, most_rad=0.3)


def identity(data: Path, _: int) -> Ready:
    """Which of these 23 people it is, in windows of 5 s, from the last fifth of their turns."""
    recordings, _labels = read_recordings(data)
    cut = windows(recordings, Spectra(interval_s=0.25, stride=1, least=20, scales=(GRAVITY, 1.0)))
    return _ready(identity_task("identity", recordings, cut), cut, every=4, most_rad=0.2)


TASKS: Final[dict[str, Callable[[Path, int], Ready]]] = {
    "exercises": exercises,
    "identity": identity,
    "movements": movements,
}


def _ready(task: Task, cut: Windows, *, every: int, most_rad: float) -> Ready:
    """Training takes windows that begin at each interval, the other sets only some of these."""
    thin = {
        name: task.sets[name].take(np.arange(0, len(task.sets[name]), every))
        for name in ("choose", "report")
    }
    task = replace(task, **thin)
    owner = {digest(row): number for row, number in zip(cut.x, cut.recordings, strict=True)}
    owners = np.array([owner[digest(row)] for row in task.report.sources])
    disturb = partial(disturbed, most_rad=most_rad, noise=(0.05, 0.1), scale=0.1)
    return Ready(task=task, disturb=disturb, recordings=owners)
