"""The loop learns, stops, and goes on as if it had never been stopped."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.errors import ConfigError, ModelError, StorageError, TaskError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split
from narrows.task import Task
from narrows.train import (
    Epoch,
    TrainingTask,
    TrainSettings,
    crop_and_flip,
    load_weights,
    outputs,
    train,
    training_task,
)

SETTINGS = TrainSettings(epochs=6, learning_rate=0.05)


def pictures(count: int, seed: int) -> Split:
    """Noise of 8 × 8 with a brighter top, middle or bottom."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    x = random.integers(0, 180, (count, 8, 8, 3))
    for place, label in enumerate(labels):
        x[place, 3 * label : 3 * label + 2] += 70
    return Split(sources=x.astype(np.uint8), labels=labels)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 16, 3),
    )


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(
        name="stripes",
        kind="image",
        metric=METRICS["top1"],
        preprocess=Preprocess(size=(8, 8), crop="none", scale=255.0, mean=(0.4,), std=(0.2,)),
        labels=("top", "middle", "bottom"),
        fit=pictures(400, 0),
        choose=pictures(150, 1),
        report=pictures(150, 2),
    )


@pytest.fixture
def asked(task: Task) -> TrainingTask:
    augment = partial(crop_and_flip, margin=1)
    return training_task(task, network(), batch_size=32, augment=augment, seed=3)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def stop_after(number: int) -> object:
    def stop(epoch: Epoch) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return stop


def timeless(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns_far_better_than_chance_on_pictures_it_never_saw(
    asked: TrainingTask, optimizer: str
) -> None:
    before = copy.deepcopy(asked.model)
    settings = replace(
        SETTINGS, optimizer=optimizer, learning_rate={"sgd": 0.05, "adamw": 0.01}[optimizer]
    )
    trained = train(asked, settings)
    swapped = replace(asked.task, choose=asked.task.report, report=asked.task.choose)
    unseen = training_task(swapped, network()).choose
    assert asked.task.metric(*outputs(trained.model, unseen)) > 0.8
    assert trained.history[-1].loss < trained.history[0].loss
    assert same(asked.model, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_stopped_and_resumed_equals_one_that_was_not(
    asked: TrainingTask, optimizer: str, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, learning_rate=0.01)
    whole = train(asked, settings, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(asked, settings, folder=tmp_path / "parts", progress=stop_after(2))
    torch.rand(7)  # another process would be elsewhere in its random numbers
    parts = train(asked, settings, folder=tmp_path / "parts")
    assert same(whole.model, parts.model)
    assert timeless(whole.history) == timeless(parts.history)


def test_a_training_stopped_in_the_middle_of_an_epoch_goes_on_from_the_one_before(
    asked: TrainingTask, tmp_path: Path
) -> None:
    calls = 0

    def stopping(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 30:  # of 12 steps in an epoch
            raise KeyboardInterrupt
        return functional.cross_entropy(model(x), y)

    whole = train(asked, SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train(replace(asked, loss=stopping), SETTINGS, folder=tmp_path)
    assert len((tmp_path / "scalars.jsonl").read_text().splitlines()) == 2
    parts = train(asked, SETTINGS, folder=tmp_path)
    assert same(whole.model, parts.model)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_finished_training_is_not_done_again(asked: TrainingTask, tmp_path: Path) -> None:
    first = train(asked, SETTINGS, folder=tmp_path)
    again = train(asked, SETTINGS, folder=tmp_path, progress=stop_after(1))
    assert again.history == first.history
    assert same(first.model, again.model)


def test_patience_stops_it_and_the_best_weights_are_kept(
    asked: TrainingTask, tmp_path: Path
) -> None:
    scores = iter([0.2, 0.7, 0.4, 0.6, 0.9])
    metric = replace(METRICS["top1"], score=lambda outputs, labels: next(scores))
    watched = replace(asked, task=replace(asked.task, metric=metric))
    stopped = train(watched, replace(SETTINGS, epochs=60, patience=2), folder=tmp_path)
    assert [epoch.score for epoch in stopped.history] == [0.2, 0.7, 0.4, 0.6]
    assert stopped.best.number == 2
    whole = train(asked, replace(SETTINGS, epochs=20))
    assert len(whole.history) == 20
    fresh = network()
    load_weights(fresh, tmp_path / "best.safetensors")
    assert same(fresh, stopped.model)


def test_the_best_epoch_is_not_before_best_from(asked: TrainingTask, tmp_path: Path) -> None:
    found = {}
    for first, patience, folder in ((1, None, None), (3, None, None), (3, 1, tmp_path)):
        scores = iter([0.9, 0.8, 0.4, 0.6, 0.5, 0.1])
        metric = replace(METRICS["top1"], score=lambda outputs, labels, s=scores: next(s))
        watched = replace(asked, task=replace(asked.task, metric=metric))
        settings = replace(SETTINGS, best_from=first, patience=patience)
        found[first, patience] = train(watched, settings, folder=folder)
    assert [done.best.number for done in found.values()] == [1, 4, 4]
    assert len(found[3, 1].history) == 5
    assert same(found[3, None].model, found[3, 1].model)
    assert not same(found[1, None].model, found[3, 1].model)


def test_weights_that_are_no_numbers_never_replace_a_good_checkpoint(
    asked: TrainingTask, tmp_path: Path
) -> None:
    calls = 0

    def breaking(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        loss = functional.cross_entropy(model(x), y)
        # A finite loss whose gradient is none, in the last step of the second epoch.
        return loss + (model[0].bias[0] * 0).sqrt() if calls == 24 else loss

    with pytest.raises(TaskError, match=r"weights are not finite after epoch 2.*before is kept"):
        train(replace(asked, loss=breaking), SETTINGS, folder=tmp_path)
    assert len((tmp_path / "scalars.jsonl").read_text().splitlines()) == 1
    assert same(train(asked, SETTINGS, folder=tmp_path).model, train(asked, SETTINGS).model)


def test_a_checkpoint_without_later_settings_is_taken_up(
    asked: TrainingTask, tmp_path: Path
) -> None:
    first = train(asked, SETTINGS, folder=tmp_path)
    path = tmp_path / "last.safetensors"
    content = path.read_bytes()
    for later in (rb"\"best_from\": 1, ", rb"\"final_rate\": null, "):
        assert content.count(later) == 1
        content = content.replace(later, b" " * len(later))
    path.write_bytes(content)
    assert train(asked, SETTINGS, folder=tmp_path, progress=stop_after(1)).best == first.best


def test_what_hooks_into_steps_is_resumed_too(asked: TrainingTask, tmp_path: Path) -> None:
    def clipped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def clip(*_: object) -> None:
            with torch.no_grad():
                model[0].weight.clamp_(-0.05, 0.05)

        optimizer.register_step_post_hook(clip)

    whole = train(asked, SETTINGS, prepare=clipped)
    assert whole.model[0].weight.abs().max() <= 0.05
    with pytest.raises(KeyboardInterrupt):
        train(asked, SETTINGS, folder=tmp_path, progress=stop_after(2), prepare=clipped)
    assert same(whole.model, train(asked, SETTINGS, folder=tmp_path, prepare=clipped).model)


def test_an_exponential_schedule_falls_by_the_same_share_in_every_step() -> None:
    settings = TrainSettings(
        epochs=1, learning_rate=1.0, schedule="exponential", final_rate=1e-4, warmup=0.0
    )
    rates = [settings.rate_at(share) for share in (0.0, 0.25, 0.5, 1.0)]
    assert rates == pytest.approx([1.0, 0.1, 0.01, 1e-4])
    with pytest.raises(ConfigError, match="takes a final_rate"):
        replace(settings, final_rate=None)
    with pytest.raises(ConfigError, match="above 0 to learning_rate"):
        replace(settings, final_rate=2.0)


def test_scalars_are_one_line_of_json_for_each_epoch(asked: TrainingTask, tmp_path: Path) -> None:
    trained = train(asked, SETTINGS, folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["score"] for row in rows] == [epoch.score for epoch in trained.history]
    assert rows[0]["learning_rate"] > rows[-1]["learning_rate"] == 0
    assert all(row["seconds"] > 0 and row["loss"] > 0 for row in rows)


def test_mixed_precision_learns_too_and_leaves_weights_in_float32(asked: TrainingTask) -> None:
    trained = train(asked, replace(SETTINGS, precision="bf16"), device="cpu")
    assert trained.best.score > 0.8
    assert {value.dtype for value in trained.model.state_dict().values()} == {
        torch.float32,
        torch.int64,
    }


def test_a_loss_that_is_no_number_is_told_with_its_place(
    asked: TrainingTask, tmp_path: Path
) -> None:
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(model(x), y) * float("nan")

    train(asked, replace(SETTINGS, epochs=1), folder=tmp_path)
    with pytest.raises(TaskError, match=r"loss is nan in epoch 1, step 1 of 12.*learning_rate"):
        train(replace(asked, loss=loss), SETTINGS, folder=tmp_path / "other")
    with pytest.raises(TaskError, match="'stripes': the loss is"):
        train(asked, replace(SETTINGS, learning_rate=1e30, warmup=0.0))


def test_a_folder_of_another_training_is_refused(asked: TrainingTask, tmp_path: Path) -> None:
    train(asked, replace(SETTINGS, epochs=1), folder=tmp_path)
    with pytest.raises(TaskError, match=r"holds a training with settings .*epochs=1"):
        train(asked, SETTINGS, folder=tmp_path)
    other = replace(asked, model=nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    with pytest.raises(ModelError, match="no checkpoint of this training"):
        train(other, replace(SETTINGS, epochs=1), folder=tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_damaged_checkpoint_is_told(asked: TrainingTask, tmp_path: Path, keep: int) -> None:
    train(asked, replace(SETTINGS, epochs=1), folder=tmp_path)
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"last\.safetensors cannot be read"):
        train(asked, replace(SETTINGS, epochs=1), folder=tmp_path)


def test_a_checkpoint_of_another_format_or_without_its_header_is_told(
    asked: TrainingTask, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=1)
    train(asked, settings, folder=tmp_path)
    path = tmp_path / "last.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(rb"{\"format\": 1", rb"{\"format\": 7"))
    with pytest.raises(ModelError, match="format 7, expected 1"):
        train(asked, settings, folder=tmp_path)
    path.write_bytes((tmp_path / "best.safetensors").read_bytes())
    with pytest.raises(ModelError, match="no checkpoint of this training"):
        train(asked, settings, folder=tmp_path)
    path.write_bytes(content)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no best\.safetensors"):
        train(asked, settings, folder=tmp_path)


def test_a_network_that_does_not_fit_is_told_before_it_is_trained(asked: TrainingTask) -> None:
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(TaskError, match=r"3 class names .* the model has 2 outputs"):
        train(replace(asked, model=wrong), SETTINGS)
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(191, 3))
    with pytest.raises(ModelError, match=r"cannot be run on an input of shape \(1, 3, 8, 8\)"):
        train(replace(asked, model=narrow), SETTINGS)


def test_a_folder_that_cannot_be_made_is_told(asked: TrainingTask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="its folder is a file"):
        train(asked, SETTINGS, folder=tmp_path / "file" / "inside")


def test_random_numbers_of_the_caller_are_left_as_they_were(asked: TrainingTask) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(asked, replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("warmup", 1.0),
        ("patience", 0),
        ("best_from", 0),
        ("best_from", 7),
        ("clip_norm", 0.0),
        ("optimizer", "adam"),
        ("final_rate", 1e-3),
        ("precision", "f16"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is "):
        replace(SETTINGS, **{name: value})
