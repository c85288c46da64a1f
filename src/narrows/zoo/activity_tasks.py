"""Windows of motion recordings as tasks: what somebody does, and who it is.

Windows overlap, so they are never divided at random: for activities no subject is in two sets, and
for the question who it is, where every subject must be in all, no recording or no moment is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.errors import TaskError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split
from narrows.task import Task
from narrows.zoo.activity import Recording, Windows

_Bools = NDArray[np.bool_]


def activity_task(
    name: str,
    recordings: Sequence[Recording],
    cut: Windows,
    labels: Sequence[str],
    *,
    choose: Collection[str],
    report: Collection[str],
) -> Task:
    """What somebody does; no subject is in two sets.

    Args:
        name: What the report calls it.
        recordings: The windows were cut from.
        cut: The windows.
        labels: Class names.
        choose: Subjects of the choose set.
        report: Subjects of the report set; all others are fitted to.

    Raises:
        TaskError: There is no such subject, one is in both, or a set is left empty.
    """
    subjects = np.array([each.subject for each in recordings])
    for subject in (*choose, *report):
        if subject not in subjects:
            msg = f"no subject {subject!r}: there are {', '.join(sorted(set(subjects)))}"
            raise TaskError(msg)
    if both := set(choose) & set(report):
        msg = f"subject {min(both)!r} is to choose and to report on: take it out of one"
        raise TaskError(msg)
    chosen, reported = (np.isin(subjects, list(s))[cut.recordings] for s in (choose, report))
    return _task(
        name,
        cut.x,
        cut.labels,
        labels,
        {"fit": ~(chosen | reported), "choose": chosen, "report": reported},
        f"by subject: choose {', '.join(choose)}; report {', '.join(report)}; fit: the others",
    )


def identity_task(
    name: str,
    recordings: Sequence[Recording],
    cut: Windows,
    *,
    by: Literal["session", "time"] = "session",
    shares: tuple[float, float] = (0.2, 0.2),
) -> Task:
    """Who it is; every subject is in all sets, the first part of each to fit, the last to report.

    By session no recording is in two sets, and those that were taken together are in one. By time,
    for few long recordings, each is cut at the same shares of its length, and windows across a cut
    are left out. Either way a set holds later minutes of the same day: how somebody carries a
    device counts as much as how they move.

    Args:
        name: What the report calls it.
        recordings: The windows were cut from.
        cut: The windows.
        by: Where a set ends.
        shares: Of sessions, or of a recording's length, in the choose and in the report set.

    Raises:
        TaskError: The shares leave nothing to fit to, or a set is left empty.
    """
    if by not in ("session", "time") or min(shares) <= 0 or sum(shares) >= 1:
        msg = (
            f"by is {by!r} and shares are {shares}: expected 'session' or 'time' and two positive "
        )
        raise TaskError(msg + "numbers that sum to less than 1")
    names, subjects = np.unique([each.subject for each in recordings], return_inverse=True)
    start, stop = (_by_session if by == "session" else _by_time)(recordings, cut)
    first, second = 1 - sum(shares), 1 - shares[1]
    tiny = 1e-9
    masks = {
        "fit": (start < first - tiny) & (stop <= first + tiny),
        "choose": (start >= first - tiny) & (start < second - tiny) & (stop <= second + tiny),
        "report": start >= second - tiny,
    }
    what = "sessions of every subject" if by == "session" else "part of every recording"
    division = f"by {by}, in time: the last {shares[1]:.0%} of the {what} report, "
    division += f"{shares[0]:.0%} before them choose, the first fit"
    return _task(name, cut.x, subjects[cut.recordings], list(names), masks, division)


def turned(x: Tensor, generator: torch.Generator, *, most_rad: float, sensors: int = 2) -> Tensor:
    """Turn each window's device about a random axis, all sensors alike.

    Args:
        x: (n, intervals, sensors · bins · 3 · 2), of form "complex".
        generator: Where axes and angles come from.
        most_rad: The largest angle; angles are uniform.
        sensors: How many.
    """
    axes = torch.nn.functional.normalize(torch.randn(len(x), 3, generator=generator), dim=1)
    angles = most_rad * torch.rand(len(x), generator=generator)
    cross = torch.zeros(len(x), 3, 3)
    cross[:, [2, 0, 1], [1, 2, 0]] = axes
    cross[:, [1, 2, 0], [2, 0, 1]] = -axes
    turns = torch.linalg.matrix_exp(angles[:, None, None] * cross)
    parts = x.unflatten(2, (sensors, -1, 3, 2))
    return torch.einsum("nij,ntsbjc->ntsbic", turns, parts).reshape(x.shape)


def disturbed(
    x: Tensor,
    generator: torch.Generator,
    *,
    most_rad: float = 0.0,
    noise: tuple[float, ...] = (0.0, 0.0),
    scale: float = 0.0,
) -> Tensor:
    """Windows as another device, differently worn, would have recorded them; for training.

    Args:
        x: (n, intervals, sensors · bins · 3 · 2), of form "complex".
        generator: Where chance comes from.
        most_rad: Devices are turned by up to this.
        noise: Standard deviation of what is added to each point, of each sensor, in the units of
            the windows.
        scale: Standard deviation of the logarithm of a factor for each sensor.

    Example:
        >>> from functools import partial
        >>> augment = partial(disturbed, most_rad=0.3, noise=(0.5, 0.2))
        >>> augment(torch.ones(4, 20, 120), torch.Generator()).shape
        torch.Size([4, 20, 120])

    Reference:
        DeepSense's authors add noise to ten copies of each window; turns and factors are those of
        Um et al., "Data augmentation of wearable sensor data", ICMI 2017, arXiv 1706.00527.
    """
    parts = turned(x, generator, most_rad=most_rad, sensors=len(noise))
    parts = parts.unflatten(2, (len(noise), -1, 3, 2))
    factors = torch.exp(scale * torch.randn(len(x), 1, len(noise), 1, 1, 1, generator=generator))
    points = torch.randn(parts.shape[:-1], generator=generator)
    points *= torch.tensor(noise)[:, None, None]
    added = torch.view_as_real(torch.fft.fft(points, dim=3))
    there = (x != 0).any(2)[..., None, None, None, None]
    return torch.where(there, parts * factors + added, parts).reshape(x.shape)


def _by_session(
    recordings: Sequence[Recording], cut: Windows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Which share of its subject's sessions came before that of each window, twice."""
    starts, stops = np.zeros(len(recordings)), np.zeros(len(recordings))
    for subject in {each.subject for each in recordings}:
        mine = [n for n, each in enumerate(recordings) if each.subject == subject]
        sessions, order = np.unique([recordings[n].session for n in mine], return_inverse=True)
        # A session is a point, so that none lies across the end of a set.
        starts[mine] = stops[mine] = order / len(sessions)
    return starts[cut.recordings], stops[cut.recordings]


def _by_time(
    recordings: Sequence[Recording], cut: Windows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From which to which share of its recording each window lies."""
    firsts = np.array([each.times_s[0].min() for each in recordings])[cut.recordings]
    lasts = np.array([each.times_s[0].max() for each in recordings])[cut.recordings]
    return (cut.start_s - firsts) / (lasts - firsts), (cut.stop_s - firsts) / (lasts - firsts)


def _task(
    name: str,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    labels: Sequence[str],
    masks: dict[str, _Bools],
    division: str,
) -> Task:
    sets = {part: Split(sources=x[mask], labels=y[mask]) for part, mask in masks.items()}
    return Task(
        name=name,
        kind="array",
        metric=METRICS["top1"],
        preprocess=Preprocess(),
        labels=tuple(map(str, labels)),
        division=division,
        # Two windows of the same stillness may be equal; no moment is in two sets.
        overlap="allow",
        **sets,
    )
