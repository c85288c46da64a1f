"""The coarsest rounding of weights that keeps a model's answers, found on the choose set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Coder
from narrows.errors import ConfigError, MeasureError
from narrows.graph.load import Model, load
from narrows.graph.ort import session
from narrows.graph.packed_model import pack_model
from narrows.graph.round_weights import RoundedModel, WeightRounder
from narrows.measure.divergence import divergences, scale_of
from narrows.measure.intervals import Z95
from narrows.measure.judging import outputs_of
from narrows.measure.quality import paired_drop_by_metric
from narrows.task import Task

_BATCH: Final = 16
_DRAWS: Final = 200
_OCTAVE: Final = 8
_FINEST, _COARSEST = -96, 32  # eighths of an octave


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One step that was tried.

    Args:
        step: Of the rounding.
        drop: Of the task's metric on the choose set, against the model before.
        error: Standard error of the drop.
        agreement: Share of the answers that are the same (classes); None without classes.
        divergence: Mean KL of the answers before to those after, in nats; None without classes.
    """

    step: float
    drop: float
    error: float
    agreement: float | None
    divergence: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A rounding, and how it was found.

    Args:
        rounded: The model on its grids.
        trials: In the order in which they were made; the last that kept is the one found.
        step: Of the rounding.
    """

    rounded: RoundedModel
    trials: tuple[Trial, ...]
    step: float


def coarsest(
    model: Model,
    rounder: WeightRounder,
    task: Task,
    *,
    max_drop: float = 0.01,
    max_divergence: float = 0.02,
    threads: int = 1,
    progress: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Search the coarsest step, by halving, that keeps drop and divergence on the choose set.

    A drop counts as kept within its own standard error: of few examples it is known no better. The
    divergence of the answers is known much better and keeps the search from going too far.

    Args:
        model: Before rounding.
        rounder: Of it.
        task: Whose choose set decides.
        max_drop: Most of the metric that may be lost.
        max_divergence: Most divergence in nats, for classes; 0.02 keeps about 97 % of answers.
        threads: Threads inside an operator.
        progress: Told every trial.

    Raises:
        ConfigError: A bound has no meaning.
        MeasureError: Not even the finest step keeps them.
    """
    for name, value in (("max_drop", max_drop), ("max_divergence", max_divergence)):
        if not 0 <= value < math.inf:
            msg = f"{name} is {value}: expected a number from 0 on"
            raise ConfigError(msg)
    reference, labels = _answers(model, task, threads)
    trials: list[Trial] = []

    def keeps(level: int) -> bool:
        step = math.exp2(level / _OCTAVE)
        found, _ = _answers(load(rounder.rounded(step).proto), task, threads)
        trials.append(_trial(task, step, reference, found, labels))
        progress(trials[-1])
        near = trials[-1].divergence is None or trials[-1].divergence <= max_divergence
        return near and trials[-1].drop - trials[-1].error <= max_drop

    low, high = _FINEST, _COARSEST
    if not keeps(low):
        last = trials[-1]
        msg = (
            f"rounding with a step of {last.step:.2g} already loses {last.drop:.3g}, at a "
            f"divergence of {last.divergence}: allow more, or leave weights out"
        )
        raise MeasureError(msg)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    step = math.exp2(low / _OCTAVE)
    return Found(rounded=rounder.rounded(step), trials=tuple(trials), step=step)


def finest(rounder: WeightRounder, size_bytes: int, *, coder: Coder, tries: int = 9) -> float:
    """The finest step, about, whose packed file is no larger than asked.

    Args:
        rounder: Of the model.
        size_bytes: Of the packed file, everything counted.
        coder: Of the file.
        tries: Files that are made, each as long as packing takes.

    Raises:
        ConfigError: Even the coarsest file is larger.
    """
    low, high = math.exp2(_FINEST / _OCTAVE), math.exp2(_COARSEST / _OCTAVE)
    smallest = _size_bytes(rounder, high, coder)
    if smallest > size_bytes:
        msg = (
            f"{size_bytes} bytes asked for: with the coarsest step the file has {smallest}, most "
            "of it no weights"
        )
        raise ConfigError(msg)
    for _ in range(tries - 1):
        step = math.sqrt(low * high)
        if _size_bytes(rounder, step, coder) <= size_bytes:
            high = step
        else:
            low = step
    return high


def _size_bytes(rounder: WeightRounder, step: float, coder: Coder) -> int:
    made = rounder.rounded(step)
    return len(pack_model(made.proto, grids=made.grids, coder=coder))


def _answers(
    model: Model, task: Task, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """Outputs and labels of the choose set."""
    chosen, running = task.sets["choose"], session(model.proto, threads=threads)
    outputs, labels = [], []
    for start in range(0, len(chosen), _BATCH):
        inputs, asked = task.inputs(chosen, start, start + _BATCH)
        outputs.append(outputs_of(model, running, inputs))
        labels.append(asked)
    return np.concatenate(outputs), np.concatenate(labels)


def _trial(
    task: Task,
    step: float,
    reference: NDArray[np.float32],
    found: NDArray[np.float32],
    labels: NDArray[np.generic],
) -> Trial:
    drop, low, high = paired_drop_by_metric(task.metric, labels, reference, found, draws=_DRAWS)
    agreement = divergence = None
    if task.metric.chance_hits is not None:
        agreement = float((reference.argmax(1) == found.argmax(1)).mean())
        found_kl = divergences(reference, found, scale_of(reference))
        divergence = float(found_kl.mean())
    return Trial(
        step=step,
        drop=drop,
        error=(high - low) / (2 * Z95),
        agreement=agreement,
        divergence=divergence,
    )
