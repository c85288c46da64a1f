"""A task with what training needs besides: a torch model, a loss, batches, an example input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.errors import TaskError
from narrows.splits import Split
from narrows.task import Task
from narrows.train.loaders import ArrayLoader, Augment, Batch, Loader

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingTask:
    """A task, and what it takes to train a network for it.

    Args:
        task: Data, preprocessing, labels and metric.
        model: The network; training copies it and leaves it as it is.
        loss: Of a model, inputs and labels: one value for each sample, whose mean is trained on, or
            that mean (methods that need each sample's then refuse it). It calls the model itself,
            so that a teacher, a mask or a sum over time are a matter of the loss.
        fit: Batches that are trained on.
        choose: Batches the best epoch is chosen on.
        example: One batch of inputs, for tracing and export.
        teacher: A network to learn from, for methods that take one; a chain of methods takes the
            network it begins with.
    """

    task: Task
    model: nn.Module
    loss: Loss
    fit: Loader
    choose: Loader
    example: Tensor
    teacher: nn.Module | None = None


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a classifier's output for each sample, with smoothed labels if asked."""
    return functional.cross_entropy(
        model(x).float(), y, label_smoothing=smoothing, reduction="none"
    )


def squared_hinge(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The squared hinge of a classifier's outputs for each sample: mean of max(0, 1 − t · s)².

    t is +1 for the class of the sample and −1 for the others; shares of classes (n, classes) lie
    between.

    Example:
        >>> scores = torch.tensor([[2.0, 0.5]])
        >>> squared_hinge(lambda x: scores, torch.zeros(1), torch.tensor([0])).tolist()
        [1.125]
    """
    scores = model(x).float()
    shares = y if y.ndim == scores.ndim else functional.one_hot(y, scores.shape[1])
    return (1 - (2 * shares - 1) * scores).clamp(min=0).square().mean(1)


def training_task(
    task: Task,
    model: nn.Module,
    *,
    loss: Loss | None = None,
    batch_size: int = 128,
    augment: Augment | None = None,
    seed: int = 0,
    smoothing: float = 0.0,
) -> TrainingTask:
    """A training task whose samples are held in memory: pictures are decoded once, as uint8.

    Args:
        task: Data, preprocessing, labels and metric.
        model: The network.
        loss: By default cross-entropy of class numbers, and squared error of other targets.
        batch_size: Samples in a batch.
        augment: Applied to each batch of the fit set, before it is scaled.
        seed: Of order and augmentation.
        smoothing: Share of the label spread over all classes, in cross-entropy.

    Raises:
        TaskError: The samples of a set have different shapes.
        InputError: A picture cannot be read.
    """
    fit, choose = (_tensors(task, name) for name in ("fit", "choose"))
    made = task.preprocess
    numbers = task.fit.labels.dtype.kind != "f"
    return TrainingTask(
        task=task,
        model=model,
        loss=loss or (partial(cross_entropy, smoothing=smoothing) if numbers else squared_error),
        fit=ArrayLoader(
            samples=fit[0],
            labels=fit[1],
            preprocess=made,
            batch_size=batch_size,
            seed=seed,
            augment=augment,
        ),
        choose=ArrayLoader(
            samples=choose[0], labels=choose[1], preprocess=made, batch_size=batch_size
        ),
        example=torch.zeros(1, *task.input_shape),
    )


def squared_error(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared error of a model's outputs for each sample, over all of them."""
    return functional.mse_loss(model(x).float(), y, reduction="none").reshape(len(y), -1).mean(1)


def _tensors(task: Task, name: str) -> Batch:
    """Samples and labels of a set; of pictures their pixels after resizing and cropping."""
    split: Split = task.sets[name]
    made, sources = task.preprocess, split.sources
    ready = isinstance(sources, np.ndarray) and (
        made.size is None or sources.shape[1:] == (*made.size, made.channels)
    )
    if ready and (made.size is None or (made.colour != "bgr" and made.resize is None)):
        found = np.require(sources, requirements=("C", "W"))
    else:
        rows = [task.pixels(e) if task.kind == "image" else np.asarray(e.source) for e in split]
        if len({row.shape for row in rows}) > 1:
            shapes = sorted({row.shape for row in rows})[:3]
            msg = f"set {name!r} of task {task.name!r} has samples of several shapes ({shapes}): "
            raise TaskError(msg + "cut or pad them to one")
        found = np.stack(rows)
    return torch.from_numpy(found), torch.from_numpy(
        np.require(split.labels, requirements=("C", "W"))
    )
