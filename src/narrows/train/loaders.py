"""Batches for training: the same ones whenever the same epoch is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from narrows.errors import ConfigError
from narrows.preprocess import Preprocess

Batch = tuple[Tensor, Tensor]
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
        generator = _generator(self.seed or 0, epoch)
        if self.seed is not None:
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


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixup(Loader):
    """Another loader's batches, each input mixed with one more of its batch, the labels alike.

        λ · x + (1 - λ) · x',  λ · y + (1 - λ) · y',  λ ~ Beta(α, α), one for each batch

    Args:
        loader: Of inputs (n, ...) and class numbers (n).
        classes: How many; labels become shares of them (n, classes), which cross-entropy takes.
        alpha: α; the larger, the more is mixed.
        seed: Of pairs and λ.

    Raises:
        ConfigError: α is not positive.

    Example:
        >>> x, y = torch.rand(2, 3), torch.tensor([0, 1])
        >>> two = ArrayLoader(samples=x, labels=y, preprocess=Preprocess())
        >>> [(inputs, labels)] = Mixup(loader=two, classes=2, alpha=0.4).batches(0)
        >>> labels.sum(1)
        tensor([1., 1.])

    Reference:
        Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
        arXiv 1710.09412, section 2.
    """

    loader: Loader
    classes: int
    alpha: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no distribution."""
        if not self.alpha > 0:
            msg = f"alpha is {self.alpha}: expected more than 0"
            raise ConfigError(msg)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self.loader)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Inputs and shares of classes of one epoch."""
        chance = np.random.default_rng((self.seed, epoch))
        for x, y in self.loader.batches(epoch):
            share = float(chance.beta(self.alpha, self.alpha))
            others = torch.from_numpy(chance.permutation(len(x)))
            labels = functional.one_hot(y, self.classes).to(x.dtype)
            yield share * x + (1 - share) * x[others], share * labels + (1 - share) * labels[others]


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


def _along(numbers: tuple[float, ...], values: Tensor, axis: int) -> Tensor:
    shape = [1] * values.ndim
    if len(numbers) > 1:
        shape[axis] = -1
    return torch.tensor(numbers, dtype=torch.float32).reshape(shape)


def _generator(seed: int, epoch: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, epoch)).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
