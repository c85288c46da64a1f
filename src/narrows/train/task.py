"""A task with what training needs besides: a torch model, a loss, batches, an example input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.errors import TaskError
from narrows.preprocess import Preprocess
from narrows.splits import Split
from narrows.task import Task

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


class Loader(ABC):
    """Batches of inputs and labels, the same ones whenever the same epoch is asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """How many batches an epoch has."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """Inputs (n, *input_shape) and labels (n, ...) of one epoch, in its order.

        Args:
            epoch: From 0; order and augmentation depend on it and on nothing that went before.
        """


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayLoader(Loader):
    """Batches of samples that are all in memory, prepared as the task prepares them.

    Args:
        samples: (n, ...): uint8 pixels (n, H, W, C), or arrays.
        labels: (n, ...).
        preprocess: From samples to inputs.
        batch_size: Samples in a batch; the last one of a shuffled epoch is left out if it is not
            full, because normalisation over few samples misleads.
        seed: Of order and augmentation; None keeps the order and leaves the samples as they are.
        augment: From a batch of samples to another.
    """

    samples: Tensor
    labels: Tensor
    preprocess: Preprocess
    batch_size: int = 128
    seed: int | None = None
    augment: Augment | None = None

    def __len__(self) -> int:
        """How many batches an epoch has."""
        full, rest = divmod(len(self.samples), self.batch_size)
        return full + (rest > 0 and (self.seed is None or full == 0))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Inputs and labels of one epoch."""
        order = torch.arange(len(self.samples))
        generator = torch.Generator()
        if self.seed is not None:
            generator.manual_seed(_mixed(self.seed, epoch))
            order = torch.randperm(len(self.samples), generator=generator)
        for number in range(len(self)):
            places = order[number * self.batch_size : (number + 1) * self.batch_size]
            chosen = self.samples[places]
            if self.augment is not None and self.seed is not None:
                chosen = self.augment(chosen, generator)
            yield self.prepare(chosen), self.labels[places]

    def prepare(self, samples: Tensor) -> Tensor:
        """What `Preprocess.to_input` gives for each sample, for a batch at once."""
        made = self.preprocess
        pixels = made.size is not None
        axis = -1 if pixels or made.layout == "hwc" else 1
        scaled = samples.to(torch.float32) / made.scale
        scaled = (scaled - _along(made.mean, scaled, axis)) / _along(made.std, scaled, axis)
        return scaled.permute(0, 3, 1, 2) if pixels and made.layout == "chw" else scaled


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stages(Loader):
    """One loader for the first epochs and another after them, e.g. small windows, then whole ones.

    Args:
        first: For epochs below `switch`.
        then: For the others; it has as many batches.
        switch: How many epochs the first is for.
    """

    first: Loader
    then: Loader
    switch: int

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self.then)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Inputs and labels of one epoch."""
        return (self.first if epoch < self.switch else self.then).batches(epoch)


def _along(numbers: tuple[float, ...], values: Tensor, axis: int) -> Tensor:
    shape = [1] * values.ndim
    if len(numbers) > 1:
        shape[axis] = -1
    return torch.tensor(numbers, dtype=torch.float32).reshape(shape)


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


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


def crop_and_flip(
    pixels: Tensor, generator: torch.Generator, *, margin: int = 4, size: int | None = None
) -> Tensor:
    """Cut a window out of each picture, at a random place, and mirror half of them.

    Args:
        pixels: (n, H, W, C).
        generator: Where places come from.
        margin: Width of a black border that is put around the picture first.
        size: Height and width of the window; by default the picture's own.
    """
    count, height, width, _ = pixels.shape
    tall, wide = size or height, size or width
    padded = functional.pad(pixels, (0, 0, margin, margin, margin, margin))
    most = (height + 2 * margin - tall + 1, width + 2 * margin - wide + 1)
    tops, lefts = (torch.randint(0, n, (count, 1), generator=generator) for n in most)
    rows, columns = tops + torch.arange(tall), lefts + torch.arange(wide)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


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
