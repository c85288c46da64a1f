"""A random forest on hand-made features of motion windows: what a network has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from narrows.task import Task

Floats = NDArray[np.floating]
TREES = 200
_BANDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
_PARTS = 8


def forest_answers(task: Task, seed: int) -> NDArray[np.int64]:
    """Classes of the report set, by a forest with or without features of the windows' parts.

    The one that scores more on the choose set answers.

    Args:
        task: With windows of two sensors of three axes, complex spectra of 10 points.
        seed: Of the forests.
    """
    scores, answers = [], []
    for parts in (False, True):
        fit, choose, report = (
            _all_features(np.asarray(each.sources), parts=parts) for each in task.sets.values()
        )
        forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
        forest.fit(fit, task.fit.labels)
        scores.append(forest.score(choose, task.choose.labels))
        answers.append(forest.predict(report))
    return np.asarray(answers[int(np.argmax(scores))])


def _all_features(x: Floats, *, parts: bool) -> Floats:
    pieces = np.array_split(x, 1 + len(x) // 4096)
    return np.concatenate([features(piece, parts=parts) for piece in pieces])


def features(x: Floats, *, parts: bool) -> Floats:
    """(n, features) of windows (n, intervals, 120).

    Of each axis and of each sensor's length of the vector: mean, deviation, extremes, quartiles,
    mean change from point to point, power of twelve bands, the strongest frequency; and how the
    axes correlate.
    """
    pairs = x.reshape(*x.shape[:2], 2, 10, 3, 2)
    points = np.fft.ifft(pairs[..., 0] + 1j * pairs[..., 1], axis=3).real
    axes = points.transpose(0, 2, 4, 1, 3).reshape(len(x), 2, 3, -1)
    length = np.sqrt((axes**2).sum(2, keepdims=True))
    signals = np.concatenate([axes, length], 2).reshape(len(x), 8, -1)
    centred = signals - signals.mean(2, keepdims=True)
    power = np.abs(np.fft.rfft(centred, axis=2)[:, :, 1:]) ** 2
    scaled = centred / np.sqrt((centred**2).sum(2, keepdims=True) + 1e-12)
    correlation = np.einsum("nit,njt->nij", scaled, scaled)[:, *np.triu_indices(8, 1)]
    found = [
        *(signals.mean(2), signals.std(2), signals.min(2), signals.max(2)),
        *np.percentile(signals, (25, 50, 75), axis=2),
        np.abs(np.diff(signals, axis=2)).mean(2),
        np.log(np.add.reduceat(power, _BANDS, axis=2) + 1e-6).reshape(len(x), -1),
        power.argmax(2),
        correlation,
    ]
    if parts:
        cut = signals.reshape(len(x), 8, _PARTS, -1)
        found += [cut.mean(3).reshape(len(x), -1), cut.std(3).reshape(len(x), -1)]
    return np.concatenate(found, 1)
