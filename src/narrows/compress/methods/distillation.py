"""Distillation: a smaller network learns from the answers of a larger one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.teaching import TEMPERATURE, WEIGHT, TaughtLoss
from narrows.compress.weight_layers import hold_zeros_
from narrows.compress.weight_maps import bake
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, train
from narrows.train.task import Loss, squared_error


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation(Method):
    """Train the task's network on what its teacher answers, beside the labels.

        (1 - α) · L(y, s) + α · T² · KL(softmax(t / T) ‖ softmax(s / T))

    with the answers s of the student and t of the teacher. The teacher is the network that a chain
    began with, or the task's `teacher`; the student is the task's network, which may be any: fewer
    channels, another design, or one that a method before has made smaller or sparse: weights that
    are zero stay zero in layers that have others.

    With `cut` only the head is taught: the student's layers after the one named are frozen (they
    should be the teacher's), and to the loss comes the mean squared difference of what the two
    networks have there, over the teacher's variance.

    Args:
        training: The one training it takes.
        temperature: T.
        weight: α, of the teacher's answers (0–1).
        cut: Name of a layer both networks have, with answers of the same shape.
        feature_weight: Of the difference at the cut.

    Example:
        >>> learn = Distillation(training=TrainSettings(epochs=20), temperature=4.0)

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2. At a cut: Matsubara et al., "Distilled Split Deep Neural
        Networks for Edge-Assisted Real-Time Systems", HotEdgeVideo 2019.
    """

    name: ClassVar[str] = "distillation"
    training: TrainSettings
    temperature: float = TEMPERATURE
    weight: float = WEIGHT
    cut: str | None = None
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        if not self.feature_weight >= 0:
            msg = f"feature_weight is {self.feature_weight}: expected 0 or more"
            raise ConfigError(msg)
        self._taught(squared_error, nn.Identity())

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The student, taught."""
        if task.teacher is None:
            msg = "there is no teacher: set the task's, or put the method into a chain"
            raise ConfigError(msg)
        claim_folder(folder, self, task.model)
        student, teacher = copy.deepcopy(task.model), copy.deepcopy(task.teacher).eval()
        tail = () if self.cut is None else _freeze_after_(student, self.cut, task.example)
        hold_zeros_(student)
        trained = train(
            replace(
                task,
                model=student,
                loss=partial(self._loss, self._taught(task.loss, teacher), tail),
            ),
            self.training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "distillation", self.training.epochs),
        ).model
        taught = bake(trained).eval()
        for name, before in task.model.named_parameters():
            taught.get_parameter(name).requires_grad_(before.requires_grad)
        return taught

    def _taught(self, loss: Loss, teacher: nn.Module) -> TaughtLoss:
        return TaughtLoss(
            loss=loss, teacher=teacher, temperature=self.temperature, weight=self.weight
        )

    def _loss(
        self, loss: TaughtLoss, tail: tuple[str, ...], student: nn.Module, x: Tensor, y: Tensor
    ) -> Tensor:
        """Of the labels, of the teacher's answers and, at a cut, of its features."""
        for name in tail:
            student.get_submodule(name).eval()  # its statistics are frozen, too
        with _watched(loss.teacher, self.cut) as wanted, _watched(student, self.cut) as seen:
            total = loss(student, x, y).mean()
        if self.cut is not None:
            wide, narrow = wanted[0].float(), seen[0].float()
            if wide.shape != narrow.shape:
                msg = (
                    f"at {self.cut!r} the teacher has {tuple(wide.shape)} and the student "
                    f"{tuple(narrow.shape)}: cut where both are of one shape"
                )
                raise ModelError(msg)
            difference = functional.mse_loss(narrow, wide) / wide.var().clamp(min=1e-12)
            total = total + self.feature_weight * difference
        return total


@contextmanager
def _watched(model: nn.Module, layer: str | None) -> Iterator[list[Tensor]]:
    """What a layer answers meanwhile."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return

    def keep(_: nn.Module, __: object, answer: Tensor) -> None:
        seen.append(answer)

    handle = _layer(model, layer).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = ", ".join(n for n, _ in list(model.named_children())[:12])
        msg = f"{type(model).__name__} has no layer {name!r} to cut at: it has {known}"
        raise ModelError(msg) from None


def _freeze_after_(model: nn.Module, cut: str, example: Tensor) -> tuple[str, ...]:
    """Let nothing learn that is called after the layer named, and not before; its names."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(partial(_note, order, name))
        for name, module in model.named_modules()
    ]
    _layer(model, cut)
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        for handle in handles:
            handle.remove()
    if cut not in order:
        msg = f"layer {cut!r} is not called: name one that is"
        raise ModelError(msg)
    place = order.index(cut) + 1
    head = {id(p) for name in order[:place] for p in model.get_submodule(name).parameters()}
    tail = [p for p in model.parameters() if id(p) not in head]
    if not tail:
        msg = f"nothing is learned after {cut!r}: leave cut out"
        raise ModelError(msg)
    for parameter in tail:
        parameter.requires_grad_(False)
    leaves = {name for name in order[place:] if not any(model.get_submodule(name).children())}
    return tuple(sorted(leaves - set(order[:place])))


def _note(order: list[str], name: str, *_: object) -> None:
    order.append(name)
