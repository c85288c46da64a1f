"""The training loop: epoch by epoch, checked, kept, and taken up again where it stopped.

    for each epoch:  fit set ─► loss ─► gradients ─► step        scores on choose ─► best weights
                     └────────────── checkpoint, one line of scalars ──────────────┘

The report set is never touched here.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from narrows.errors import ModelError, TaskError
from narrows.files import make_folder
from narrows.train.checkpoint import (
    BEST,
    Epoch,
    Progress,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from narrows.train.loaders import Loader
from narrows.train.precision import only_right_in_bf16
from narrows.train.settings import TrainSettings
from narrows.train.task import TrainingTask

Prepare = Callable[[nn.Module, torch.optim.Optimizer], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a training gave.

    Args:
        model: With the weights of the best epoch, on the processor, in evaluation mode.
        best: The epoch that scored highest on the choose set.
        history: Every epoch.
    """

    model: nn.Module
    best: Epoch
    history: tuple[Epoch, ...]


def train(
    task: TrainingTask,
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
    prepare: Prepare | None = None,
) -> Trained:
    """Train a copy of the task's network; go on where a checkpoint stands.

    A training that was stopped and taken up again gives, on one thread of a processor, bit for bit
    what it would have given in one go.

    Args:
        task: Network, loss and batches; nothing in it is changed.
        settings: How to train.
        folder: Where a checkpoint is kept after every epoch; without one nothing is.
        progress: Called after every epoch.
        device: As torch names it; by default a GPU if there is one.
        prepare: Told the network that is trained and its optimiser before the first step, so that a
            method can hook into steps (`register_step_post_hook`). What its hooks remember must be
            in the network's state.

    Raises:
        TaskError: The loss or a weight is no longer a number (the checkpoint of the epoch before
            stays), the network does not fit the task, or the folder's training had other settings.
        ModelError: The network cannot be run, or the folder's checkpoint is damaged or another's.
        StorageError: A checkpoint cannot be written; the one before is whole.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = _placed(copy.deepcopy(task.model), task.example, place)
    _check(task, model, place)
    optimizer = settings.build(model)
    if prepare is not None:
        prepare(model, optimizer)
    state, kept = Progress(task=task.task.name, settings=settings), None
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _checked(settings, place, model, task.example):
        torch.manual_seed(settings.seed)
        if folder is not None:
            make_folder(folder)
            state = _resumed(state, load_checkpoint(folder, model, optimizer), folder)
        while not state.finished:
            epoch = _epoch(task, model, optimizer, state, place)
            state = dataclasses.replace(state, history=(*state.history, epoch))
            if folder is not None:
                save_checkpoint(folder, state, model, optimizer)
            elif state.best is epoch:
                kept = copy.deepcopy(model.state_dict())
            if progress is not None:
                progress(epoch)
    if folder is not None:
        load_weights(model, folder / BEST)
    elif kept is not None:
        model.load_state_dict(kept)
    return Trained(model=model.cpu().eval(), best=state.best, history=state.history)


def outputs(model: nn.Module, loader: Loader) -> tuple[np.ndarray, np.ndarray]:
    """A network's answers in evaluation mode, in float32, and the labels.

    Args:
        model: Left in the mode it was in.
        loader: Its first epoch is read.
    """
    place, training = _device(model), model.training
    model.eval()
    try:
        with torch.inference_mode():
            pairs = [(model(x.to(place)).float().cpu(), y) for x, y in loader.batches(0)]
    finally:
        model.train(training)
    answers, labels = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    return answers, labels


def score(task: TrainingTask, model: nn.Module) -> float:
    """What the task's metric says of a network on the choose set; more is better."""
    return float(task.task.metric(*outputs(model, task.choose)))


def _check(task: TrainingTask, model: nn.Module, place: torch.device) -> None:
    """Refuse a network that cannot be asked this task, before an epoch is spent on it."""
    training, shape = model.training, tuple(task.example.shape)
    try:
        with torch.no_grad():
            found = model.eval()(task.example.to(place))
    except Exception as error:
        # Whatever a user's network raises is about the shape or kind of its input.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"the network cannot be run on an input of shape {shape}: {reason}"
        raise ModelError(msg) from error
    finally:
        model.train(training)
    if isinstance(found, Tensor) and found.ndim == 2:
        task.task.check_model(shape[1:], found.shape[1])


def _resumed(fresh: Progress, found: Progress | None, folder: Path) -> Progress:
    if found is None:
        return fresh
    for name in ("task", "settings"):
        asked, there = getattr(fresh, name), getattr(found, name)
        if asked != there:
            msg = f"{folder} holds a training with {name} {there}, asked was {asked}: "
            raise TaskError(msg + "take the same, or another folder")
    if not (folder / BEST).exists():
        msg = f"{folder} has a checkpoint and no {BEST}: remove the folder to start anew"
        raise ModelError(msg)
    return found


def _epoch(
    task: TrainingTask,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Progress,
    place: torch.device,
) -> Epoch:
    """One pass over the fit set, and the score after it."""
    began, number, settings = time.perf_counter(), len(state.history), state.settings
    steps, total, seen, rate = len(task.fit), 0.0, 0, 0.0
    model.train()
    for step, (x, y) in enumerate(task.fit.batches(number)):
        rate = settings.rate_at((number * steps + step + 1) / (settings.epochs * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        with _precision(settings, place):
            loss = task.loss(model, x.to(place), y.to(place)).mean()
        value = loss.item()
        if not math.isfinite(value):
            what = f"the loss is {value} in epoch {number + 1}, step {step + 1} of {steps}"
            raise _diverged(task, what, rate)
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        total, seen = total + value * len(x), seen + len(x)
    if not all(bool(value.isfinite().all()) for value in model.parameters()):
        # Or a checkpoint of them would replace the last good one.
        raise _diverged(task, f"weights are not finite after epoch {number + 1}", rate)
    if not seen:
        msg = f"task {task.task.name!r} has no batch to train on: give it samples"
        raise TaskError(msg)
    return Epoch(
        number=number + 1,
        loss=total / seen,
        score=score(task, model),
        learning_rate=rate,
        seconds=time.perf_counter() - began,
    )


def _diverged(task: TrainingTask, what: str, rate: float) -> TaskError:
    return TaskError(
        f"task {task.task.name!r}: {what}, at learning rate {rate:.3g}: lower learning_rate, set "
        "clip_norm, or look for values that are not finite in the data; the checkpoint of the "
        "epoch before is kept"
    )


def _placed(model: nn.Module, example: Tensor, place: torch.device) -> nn.Module:
    """The network where it is trained; of pictures with the channels last, which is faster."""
    if example.ndim == 4:
        return model.to(place, memory_format=torch.channels_last)
    return model.to(place)


@contextmanager
def _precision(settings: TrainSettings, place: torch.device) -> Iterator[None]:
    mixed = settings.precision == "bf16"
    if settings.precision == "auto":
        mixed = place.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(place.type, torch.bfloat16, enabled=mixed):
        yield


def _checked(
    settings: TrainSettings, place: torch.device, model: nn.Module, example: Tensor
) -> AbstractContextManager[object]:
    """Where bfloat16 may be wrong: processors."""
    if settings.precision == "bf16" and place.type == "cpu":
        return only_right_in_bf16(model, example)
    return nullcontext()


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
