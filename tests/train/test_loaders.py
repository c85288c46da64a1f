"""Batches are what the task prepares, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.errors import ConfigError, TaskError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split
from narrows.task import Task, array_task
from narrows.train import ArrayLoader, Mixup, Stages, crop_and_flip, training_task

NUMBERS = torch.arange(10)


def loader(**changed: object) -> ArrayLoader:
    given = {
        "samples": NUMBERS[:, None].float(),
        "labels": NUMBERS,
        "preprocess": Preprocess(),
        "batch_size": 4,
        "seed": 0,
    }
    return ArrayLoader(**(given | changed))


def seen(found: ArrayLoader | Stages, epoch: int) -> list[list[int]]:
    return [y.tolist() for _, y in found.batches(epoch)]


def test_each_epoch_has_its_own_order_whenever_it_is_asked_for() -> None:
    found = loader()
    assert seen(found, 1) == seen(found, 1) != seen(found, 0)
    assert seen(loader(seed=1), 0) != seen(found, 0)
    assert len(found) == len(seen(found, 0)) == 2
    assert len({label for batch in seen(found, 0) for label in batch}) == 8


def test_without_a_seed_all_samples_come_in_order() -> None:
    found = loader(seed=None, augment=lambda x, generator: x * 0)
    assert seen(found, 5) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(found) == 3
    assert torch.cat([x for x, _ in found.batches(0)])[:, 0].tolist() == NUMBERS.tolist()


def test_samples_fewer_than_a_batch_are_one_batch() -> None:
    assert [len(batch) for batch in seen(loader(batch_size=64), 0)] == [10]


def test_mixup_mixes_inputs_and_labels_in_the_same_shares() -> None:
    inner = loader(labels=NUMBERS % 3)
    found = Mixup(loader=inner, classes=3, alpha=0.4, seed=5)
    again = [y for _, y in found.batches(1)]
    assert len(found) == len(inner) == len(again)
    shares = []
    for (x, y), (mixed, labels), same in zip(
        inner.batches(1), found.batches(1), again, strict=True
    ):
        assert torch.equal(labels, same)
        torch.testing.assert_close(labels.sum(1), torch.ones(4))
        # Of each there is one other of the batch and one share, for all the same, that give both.
        fits = [
            {
                round(float(share), 3)
                for other in range(4)
                for share in torch.linspace(0, 1, 1001)
                if (share * x[n] + (1 - share) * x[other] - mixed[n]).abs() < 5e-3
                and (share * hot[n] + (1 - share) * hot[other] - labels[n]).abs().max() < 2e-3
            }
            for n in range(4)
            for hot in [torch.nn.functional.one_hot(y, 3).float()]
        ]
        common = set.intersection(*fits)
        assert common
        shares.append(min(common))
    assert shares[0] != shares[1]


def test_mixup_refuses_an_alpha_that_is_no_distribution() -> None:
    with pytest.raises(ConfigError, match="alpha is 0"):
        Mixup(loader=loader(), classes=10, alpha=0)


def test_stages_change_the_loader_at_their_epoch() -> None:
    first, then = loader(), loader(seed=1)
    found = Stages(first=first, then=then, switch=2)
    assert [seen(found, epoch) for epoch in (1, 2)] == [seen(first, 1), seen(then, 2)]


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("kind", ["pictures", "pixels"])
def test_inputs_are_those_the_task_gives_one_by_one(
    tmp_path: Path, layout: str, colour: str, kind: str
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (12, 9, 8, 3)).astype(np.uint8)
    channels = 1 if colour == "grey" else 3
    made = Preprocess(
        size=(6, 6),
        colour=colour,
        layout=layout,
        scale=255.0,
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.3, 0.1)[:channels],
    )
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture).save(path)
    sources = paths if kind == "pictures" else pixels
    split = Split(sources=sources, labels=np.arange(12) % 3)
    parts = {name: split.take(np.arange(n, 12, 3)) for n, name in enumerate(NAMES)}
    task = Task(name="t", kind="image", metric=METRICS["top1"], preprocess=made, **parts)
    asked = training_task(task, torch.nn.Flatten())
    (x, _), *_ = asked.choose.batches(0)
    assert np.abs(x.numpy() - task.inputs(task.choose, 0, 4)[0]).max() < 1e-6
    assert tuple(asked.example.shape[1:]) == task.input_shape


NAMES = ("fit", "choose", "report")


def test_arrays_are_scaled_along_their_channels() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6, 50))
    made = Preprocess(mean=tuple(range(6)), std=(2.0,), layout="chw")
    task = array_task("windows", x, np.arange(40) % 4, kind="series", preprocess=made)
    asked = training_task(task, torch.nn.Flatten())
    (found, _), *_ = asked.choose.batches(0)
    assert np.abs(found.numpy() - task.inputs(task.choose, 0, 10)[0]).max() < 1e-6


def test_arrays_that_cannot_be_written_are_taken() -> None:
    """As of a file mapped into memory; torch warns of them."""
    x, y = np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20)
    x.setflags(write=False)
    y.setflags(write=False)
    task = array_task("frozen", x, y)
    assert len(training_task(task, torch.nn.Linear(3, 20)).fit) > 0


def test_samples_of_several_shapes_are_refused() -> None:
    ragged = [np.zeros((1, n), np.float32) + n for n in range(1, 13)]
    split = [Split(sources=ragged[n::3], labels=np.arange(4)) for n in range(3)]
    parts = dict(zip(NAMES, split, strict=True))
    task = Task(
        name="ragged", kind="array", metric=METRICS["top1"], preprocess=Preprocess(), **parts
    )
    with pytest.raises(TaskError, match="'fit' of task 'ragged' has samples of several shapes"):
        training_task(task, torch.nn.Flatten())


def test_windows_are_cut_out_of_the_picture_or_its_border_and_half_are_mirrored() -> None:
    picture = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 5, 5, 1).expand(400, 5, 5, 1)
    generator = torch.Generator().manual_seed(0)
    cut = crop_and_flip(picture, generator, margin=0, size=3)[..., 0]
    places = {tuple(window.flatten().tolist()) for window in cut}
    plain = picture[0, ..., 0].unfold(0, 3, 1).unfold(1, 3, 1).reshape(9, 3, 3)
    every = [*plain, *(window.flip(1) for window in plain)]
    assert places == {tuple(window.flatten().tolist()) for window in every}
    shifted = crop_and_flip(picture, generator, margin=2)
    assert shifted.shape == picture.shape
    borders = (shifted == 0).flatten(1).sum(1)
    assert int(borders.min()) == 0
    assert int(borders.max()) == 25 - 9
    mirrored = (crop_and_flip(picture, generator, margin=0)[:, 0, 0, 0] == 5).float().mean()
    assert 0.4 < float(mirrored) < 0.6
