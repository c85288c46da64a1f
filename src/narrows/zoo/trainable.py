"""A network by a user's name as torch runs it, with the task it is asked: to be made smaller."""

from __future__ import annotations

from typing import Final

from torch import nn

from narrows.errors import ModelError, TaskError
from narrows.packed import SUFFIX
from narrows.references import call_reference
from narrows.store import load_network
from narrows.task import load_task
from narrows.train import TrainingTask, training_task
from narrows.train.loaders import Augment
from narrows.zoo.bilstm import ctc
from narrows.zoo.names import parse
from narrows.zoo.sources import network, preset

# Of strings, which a network's steps are not aligned with.
_STRINGS: Final = ("wer", "wer-letters")


def torch_network(model: str, *, untrained: bool = False) -> nn.Module | TrainingTask:
    """The torch network of a name, or the training task that a factory gives.

    Args:
        model: zoo:, timm: or torchvision: name, a .narrows file of `save_network`, or
            module:factory.
        untrained: Take random weights where the name states none and there are none.

    Raises:
        InputError: It is another form of name, or there is no such file.
        ModelError: There is no network, or it cannot be built.
        MissingExtra: It needs packages that are not installed.
    """
    source = parse(model)
    if source.library == "file" and model.endswith(SUFFIX):
        return load_network(model)
    if source.library != "factory":
        return network(model, untrained=untrained)[0]
    found = call_reference(model)
    if not isinstance(found, nn.Module | TrainingTask):
        msg = f"{model!r} gives a {type(found).__name__}: expected an nn.Module or a TrainingTask"
        raise ModelError(msg)
    return found


def training_task_of(
    model: str,
    task: str | None,
    *,
    batch_size: int = 64,
    augment: Augment | None = None,
    seed: int = 0,
    untrained: bool = False,
) -> TrainingTask:
    """A network with the task it is asked, ready to be trained.

    The loss is cross-entropy or squared error, as the labels are, and CTC where the metric is the
    word error rate.

    Args:
        model: As `torch_network` takes it.
        task: Task file or module:factory; None for a factory that gives a training task.
        batch_size: Samples in a batch.
        augment: Applied to each batch of the fit set.
        seed: Of order and augmentation.
        untrained: Take random weights where the name states none and there are none.

    Raises:
        TaskError: There are two tasks or none, or the task does not fit together.
        InputError: There is no such form of name, or no such file.
        ModelError: There is no network, or it cannot be built.
        MissingExtra: It needs packages that are not installed.
    """
    found = torch_network(model, untrained=untrained)
    if isinstance(found, TrainingTask):
        if task is not None:
            msg = f"{model!r} gives a TrainingTask, which has its task: leave the task out"
            raise TaskError(msg)
        return found
    if task is None:
        msg = f"{model!r} is a network alone: give a task"
        raise TaskError(msg)
    asked = load_task(task, preprocess=preset(model))
    return training_task(
        asked,
        found,
        loss=ctc if asked.metric.name in _STRINGS else None,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
    )
