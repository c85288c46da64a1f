"""Sets that share no subject, or no moment; disturbances that do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from narrows.errors import TaskError
from narrows.train import training_task
from narrows.zoo.activity import PRESETS, Recording, Windows, windows
from narrows.zoo.activity_tasks import activity_task, disturbed, identity_task
from narrows.zoo.deepsense import DeepSense

LABELS = ("still", "moved")


def recordings(subjects: str = "abcd", sessions: int = 5, seconds: float = 6) -> list[Recording]:
    random, made = np.random.default_rng(0), []
    for subject in subjects:
        for session in range(sessions):
            for device in ("phone", "watch"):
                times = 100.0 * session + np.arange(0, seconds, 0.02)
                values = tuple(random.normal(size=(2, len(times), 3)).astype(np.float32))
                made.append(
                    Recording(
                        times_s=(times, times),
                        values=values,
                        labels=np.full(len(times), session % 2),
                        subject=subject,
                        device=device,
                        session=session,
                    )
                )
    return made


def cut(made: list[Recording]) -> Windows:
    return windows(made, replace(PRESETS["code"], interval_s=0.1, least=20, stride=5))


def test_no_subject_is_in_two_sets_of_an_activity_task() -> None:
    made = recordings()
    found = cut(made)
    task = activity_task("moves", made, found, LABELS, choose=["b"], report=["c"])
    subjects = np.array([each.subject for each in made])[found.recordings]
    for name, who in (("fit", "ad"), ("choose", "b"), ("report", "c")):
        mine = np.isin(subjects, list(who))
        assert np.array_equal(task.sets[name].sources, found.x[mine])
        assert np.array_equal(task.sets[name].labels, found.labels[mine])
    assert (task.input_shape, task.classes, task.kind) == ((20, 120), 2, "array")


def test_no_session_is_in_two_sets_of_an_identity_task() -> None:
    made = recordings()
    found = cut(made)
    task = identity_task("who", made, found)
    sessions = np.array([each.session for each in made])[found.recordings]
    for name, which in (("fit", (0, 1, 2)), ("choose", (3,)), ("report", (4,))):
        assert np.array_equal(task.sets[name].sources, found.x[np.isin(sessions, which)])
        assert np.unique(task.sets[name].labels).tolist() == [0, 1, 2, 3]
    assert task.labels == tuple("abcd")


@pytest.mark.parametrize("count", [3, 4, 6, 7, 9])
def test_no_session_is_lost(count: int) -> None:
    made = recordings("ab", sessions=count, seconds=3)
    found = cut(made)
    task = identity_task("who", made, found, shares=(0.34, 0.34))
    assert sum(map(len, task.sets.values())) == len(found)
    assert all(np.unique(each.labels).tolist() == [0, 1] for each in task.sets.values())


def test_no_moment_is_in_two_sets_by_time() -> None:
    made = recordings("ab", sessions=1, seconds=30)
    found = cut(made)
    task = identity_task("who", made, found, by="time")
    places = {each.tobytes(): number for number, each in enumerate(found.x)}
    ends = {"fit": (0, 18), "choose": (18, 24), "report": (24, 30)}
    for name, (first, last) in ends.items():
        mine = [places[each.tobytes()] for each in task.sets[name].sources]
        assert len(mine) > 8
        assert found.start_s[mine].min() >= first - 0.1
        assert found.stop_s[mine].max() <= last + 0.1


def test_a_network_can_be_trained_on_it() -> None:
    made = recordings("abc", sessions=1)
    task = activity_task("moves", made, cut(made), ("still",), choose=["b"], report=["c"])
    ready = training_task(task, DeepSense(1), batch_size=4, augment=disturbed)
    x, _ = next(ready.fit.batches(0))
    assert ready.model.eval()(x).shape == (4, 1)


def points(x: torch.Tensor) -> np.ndarray:
    """Back to (n, intervals, sensors, points, axes), in time."""
    parts = x.numpy().reshape(*x.shape[:2], 2, 10, 3, 2)
    return np.fft.ifft(parts[..., 0] + 1j * parts[..., 1], axis=3)


def test_a_turned_device_has_the_same_lengths_and_angles() -> None:
    x = torch.from_numpy(cut(recordings()).x[:16])
    before = points(x)
    after = points(disturbed(x, torch.Generator().manual_seed(0), most_rad=1.0))
    assert np.allclose((before**2).sum(-1), (after**2).sum(-1), atol=1e-4)
    between = [(p[:, :, 0] * p[:, :, 1]).sum(-1) for p in (before, after)]
    assert np.allclose(*between, atol=1e-4)
    assert np.abs(before - after).max() > 0.1


def test_noise_and_factors_are_as_large_as_asked() -> None:
    x = torch.from_numpy(np.repeat(cut(recordings()).x[:1], 300, 0))
    x[:, 15:] = 0
    made = disturbed(x, torch.Generator().manual_seed(0), noise=(0.5, 0.2))
    added = points(made) - points(x)
    assert np.abs(added.imag).max() < 1e-5
    spread = added.real[:, :15].std(axis=(0, 1, 3, 4))
    assert np.allclose(spread, (0.5, 0.2), rtol=0.03)
    assert not made[:, 15:].any()
    scaled = disturbed(x, torch.Generator().manual_seed(0), scale=0.1)
    ratio = (scaled[:, 0] / x[:, 0]).log()
    assert torch.allclose(ratio[:, 0], ratio[:, 59], atol=1e-4)
    assert not torch.allclose(ratio[:, 0], ratio[:, 60], atol=1e-4)
    assert 0.09 < float(ratio[:, 0].std()) < 0.11


def test_sets_that_cannot_be_are_refused() -> None:
    made = recordings("ab", sessions=2)
    found = cut(made)
    with pytest.raises(TaskError, match="no subject 'z': there are a, b"):
        activity_task("moves", made, found, LABELS, choose=["z"], report=["a"])
    with pytest.raises(TaskError, match="'a' is to choose and to report on"):
        activity_task("moves", made, found, LABELS, choose=["a"], report=["a"])
    with pytest.raises(TaskError, match=r"'fit'.* is empty"):
        activity_task("moves", made, found, LABELS, choose=["a"], report=["b"])
    with pytest.raises(TaskError, match="sum to less than 1"):
        identity_task("who", made, found, shares=(0.5, 0.5))
    with pytest.raises(TaskError, match="is empty"):
        identity_task("who", made, found)
