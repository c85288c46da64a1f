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
from narrows.train.loaders import Augment
from narrows.zoo.activity import GRAVITY, Spectra, Windows, windows
from narrows.zoo.activity_files import read_recordings, watch_recordings
from narrows.zoo.activity_tasks import activity_task, disturbed, identity_task

TEMPOS: Final = (1.0, 0.8, 1.2)
INTERVAL_S: Final = 0.2  # ten points, as the watch records
# Subjects to choose and to report on, by turns. How to train was found by fitting to 1 to 7 and
# judging on 8 to 10, which are never reported on.
FOLDS: Final = ((8, (1, 2)), (9, (3, 4)), (10, (5, 6, 7)))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A task, and each report window's recording.

    Args:
        task: Of windows.
        disturb: What is done to windows for training.
        mixup: α of the mixtures that are trained on; 0 mixes nothing.
        recordings: Number of the recording of each report window.
    """

    task: Task
    disturb: Augment
    mixup: float = 0.0
    recordings: NDArray[np.int64]


def exercises(_: Path, seed: int) -> Ready:
    """Which of seven exercises of the shoulder a watch sees, in windows of 4 s.

    Ten people; the seed says which two or three are reported on. Training sees every recording at
    three tempos. The recordings come with the Python package seglearn.
    """
    from seglearn.datasets import load_watch

    recordings, labels = watch_recordings(load_watch())
    how = Spectra(interval_s=INTERVAL_S, stride=2, least=20)
    cut = windows(recordings, how)
    choose, report = FOLDS[seed % len(FOLDS)]
    task = activity_task(
        "exercises", recordings, cut, labels, choose=[str(choose)], report=list(map(str, report))
    )
    fitted = [each for each in recordings if int(each.subject) not in (choose, *report)]
    parts = [windows(fitted, replace(how, interval_s=factor * INTERVAL_S)) for factor in TEMPOS]
    fit = Split(
        sources=np.concatenate([part.x for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )
    return _ready(replace(task, fit=fit), cut, every=2, most_rad=0.3)


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
    """Which of these 23 people it is, in windows of 5 s, from the last fifth of their turns.

    How they carry the devices counts, so for training these are not turned; windows are mixed.
    """
    recordings, _labels = read_recordings(data)
    cut = windows(recordings, Spectra(interval_s=0.25, stride=1, least=20, scales=(GRAVITY, 1.0)))
    task = identity_task("identity", recordings, cut)
    return replace(_ready(task, cut, every=4, most_rad=0.0, scale=0.0), mixup=0.4)


TASKS: Final[dict[str, Callable[[Path, int], Ready]]] = {
    "exercises": exercises,
    "identity": identity,
    "movements": movements,
}


def _ready(task: Task, cut: Windows, *, every: int, most_rad: float, scale: float = 0.1) -> Ready:
    """Training takes windows that begin at each interval, the other sets only some of these."""
    thin = {
        name: task.sets[name].take(np.arange(0, len(task.sets[name]), every))
        for name in ("choose", "report")
    }
    task = replace(task, **thin)
    owner = {digest(row): number for row, number in zip(cut.x, cut.recordings, strict=True)}
    owners = np.array([owner[digest(row)] for row in task.report.sources])
    disturb = partial(disturbed, most_rad=most_rad, noise=(0.05, 0.1), scale=scale)
    return Ready(task=task, disturb=disturb, recordings=owners)
