"""A teacher's answers as part of a task's loss, for every method that trains."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.errors import ConfigError
from narrows.train import TrainingTask
from narrows.train.task import Loss

TEMPERATURE: Final = 4.0
WEIGHT: Final = 0.9


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaughtLoss:
    """The loss of the labels and of a teacher's answers, for each sample.

        (1 - α) · L(y, s) + α · T² · KL(softmax(t / T) ‖ softmax(s / T))

    with the answers s of the network and t of the teacher.

    Args:
        loss: L.
        teacher: In evaluation mode.
        temperature: T.
        weight: α (0–1).

    Raises:
        ConfigError: A value is out of its range.

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
    """

    loss: Loss
    teacher: nn.Module
    temperature: float = TEMPERATURE
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not self.temperature > 0:
            msg = f"temperature is {self.temperature}: expected more than 0"
            raise ConfigError(msg)
        if not 0 <= self.weight <= 1:
            msg = f"weight is {self.weight}: expected 0 to 1"
            raise ConfigError(msg)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(n,), or a scalar for each of them where the labels' loss is one."""
        answers = _Kept(model)
        with torch.no_grad():
            soft = self.teacher.to(x.device)(x).float() / self.temperature
        labelled = self.loss(answers, x, y)
        learned = answers.last.float() / self.temperature
        kl = functional.kl_div(
            learned.log_softmax(-1), soft.log_softmax(-1), reduction="none", log_target=True
        )
        each = kl.flatten(1).sum(1)
        return (1 - self.weight) * labelled + self.weight * self.temperature**2 * each


def taught(
    task: TrainingTask, *, temperature: float = TEMPERATURE, weight: float = WEIGHT
) -> TrainingTask:
    """The same task, where a network also learns what the teacher answers.

    Whatever trains on it, any method of pruning among them, is distilled on the way.

    Args:
        task: Its teacher, or else its own network as it is now, is the teacher.
        temperature: As of `TaughtLoss`.
        weight: As of `TaughtLoss`.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> from narrows.compress import DynamicNetworkSurgery, taught
        >>> found = DynamicNetworkSurgery(training=settings).apply(taught(task))  # doctest: +SKIP
    """
    teacher = copy.deepcopy(task.teacher or task.model).eval()
    loss = TaughtLoss(loss=task.loss, teacher=teacher, temperature=temperature, weight=weight)
    return replace(task, loss=loss)


@final
class _Kept:
    """A network that remembers its last answer, so that the task's loss need not tell it."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.last = torch.zeros(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.last = self._model(*inputs)
        return self.last
