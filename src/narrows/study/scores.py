"""Scores of a network's variants, each kept as soon as it is known.

To judge takes long and, unlike to time, needs no quiet machine. Scores are therefore files of their
own, named by the digest of all they depend on, and `prepare` makes them beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from narrows.config import read_json, write_json
from narrows.errors import NarrowsError
from narrows.files import storage_error
from narrows.study.journal import SCORES
from narrows.study.keys import score_key
from narrows.study.models import Network
from narrows.study.quality import Judged, judge_all
from narrows.study.record import Score
from narrows.study.session import Progress
from narrows.study.settings import ORIGINAL, StudySettings


def scores_of(
    settings: StudySettings,
    network: Network,
    files: Mapping[str, Path],
    wanted: Iterable[Judged],
    *,
    folder: Path,
    progress: Progress,
) -> dict[Judged, Score | str]:
    """The score of each variant and runtime, judged now where it was not before.

    Args:
        settings: The study.
        network: The network.
        files: Variant → its file.
        wanted: Which to judge.
        folder: Of the study.
        progress: Told what is being done, the steps done and to do.

    Returns:
        Scores, or why there is none; nothing for a network without a task, or with random weights.

    Raises:
        TaskError: The task does not fit the original.
        StorageError: The disk is full.
    """
    if network.task is None or network.random_weights:
        return {}
    places = {one: _place(settings, network, one, folder) for one in wanted}
    found: dict[Judged, Score | str] = {}
    for one, path in places.items():
        if (kept := _kept(path)) is not None:
            found[one] = kept
    missing = set(places) - set(found)
    if not missing:
        return found
    # The originals are what drops and agreement are against.
    beside = {(ORIGINAL, runtime) for _, runtime in missing}
    judged = missing | beside | {(ORIGINAL, settings.runtimes[0])}
    ordered = [(variant, runtime) for runtime in settings.runtimes for variant in files]
    made = judge_all(
        {one: files[one[0]] for one in ordered if one in judged},
        network.model,
        network.task,
        split=settings.set,
        samples=settings.samples,
        progress=partial(progress, f"judge {network.settings.name}"),
    )
    for one in missing:
        found[one] = made[one]
        _keep(places[one], made[one])
    return found


def _place(settings: StudySettings, network: Network, one: Judged, folder: Path) -> Path:
    variant = next(v for v in network.settings.variants if v.name == one[0])
    return folder / SCORES / f"{score_key(settings, network.settings, variant, one[1])}.json"


def _kept(path: Path) -> Score | None:
    """A score that was made before; None where there is none that can be read."""
    try:
        return read_json(path, Score)
    except NarrowsError:
        return None


def _keep(path: Path, score: Score | str) -> None:
    if isinstance(score, str):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    write_json(path, score)
