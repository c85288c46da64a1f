"""Method: a way to make a network smaller, as a value with one verb; Chain: one after another."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, final

import torch
from torch import nn

from narrows.config import to_dict
from narrows.errors import ConfigError, TaskError
from narrows.files import make_folder, write_atomic
from narrows.train import Epoch, TrainingTask

METHOD: Final = "method.json"

Tell = Callable[[str], None]


class Method(ABC):
    """A way to make a network smaller; its fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """A smaller network than the task's, on the processor, in evaluation mode.

        Args:
            task: Network, loss and batches; nothing in it is changed.
            folder: Where checkpoints are kept; the same call takes them up again and gives, on one
                thread of a processor, bit for bit the same network. Without one nothing is kept.
            progress: Told a line after every epoch.

        Raises:
            ConfigError: The settings do not fit this network or the length of its training.
            ModelError: The network cannot be run or made smaller this way.
            TaskError: The loss is no longer a number, or the folder is of another method, other
                settings or another network.
            StorageError: A checkpoint cannot be written.
        """


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Method):
    """Methods one after another, each on the network of the one before.

    The network the chain begins with is the teacher of those that take one.

    Args:
        methods: In their order.
    """

    name: ClassVar[str] = "chain"
    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        """Refuse a chain of nothing.

        Raises:
            ConfigError: There is no method.
        """
        if not self.methods:
            msg = "a chain of no methods: name at least one"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network of the last method; each has a folder of its own inside the chain's."""
        model, teacher = task.model, task.teacher or task.model
        for number, method in enumerate(self.methods, start=1):
            own = None if folder is None else folder / f"{number}-{method.name}"
            model = method.apply(
                replace(task, model=model, teacher=teacher), folder=own, progress=progress
            )
        return model


def claim_folder(folder: Path | None, method: Method, model: nn.Module) -> None:
    """Make a folder this method's, or see that it was: same settings, same weights to start from.

    Args:
        folder: For the checkpoints of one method; it is made where it is not there. Without one
            there is nothing to claim.
        method: With its settings.
        model: The network it starts from.

    Raises:
        TaskError: The folder is of another method, other settings or another network.
        StorageError: It cannot be written.
    """
    if folder is None:
        return
    asked = {"method": to_dict(method), "weights": _digest(model)}
    path = make_folder(folder) / METHOD
    if not path.exists():
        write_atomic(path, json.dumps(asked, indent=1) + "\n")
        return
    try:
        found = json.loads(path.read_text())
        found = {key: found[key] for key in asked}
    except (OSError, ValueError, KeyError, TypeError):
        msg = f"{path} cannot be read: remove the folder to start anew"
        raise TaskError(msg) from None
    if not _agree(found["method"], asked["method"]):
        msg = f"{folder} holds the work of {found['method']}, asked was {asked['method']}: "
        raise TaskError(msg + "take the same settings, or another folder")
    if found["weights"] != asked["weights"]:
        msg = f"{folder} holds the work on a network with other weights: "
        raise TaskError(msg + "take the same network, or another folder")


def epoch_teller(progress: Tell | None, what: str, epochs: int) -> Callable[[Epoch], None] | None:
    """What tells the epochs of one training as lines, for `train`.

    Args:
        progress: Told the lines; None for nobody.
        what: The training, e.g. "round 2 of 5".
        epochs: It takes at most.
    """
    if progress is None:
        return None

    def tell(epoch: Epoch) -> None:
        progress(
            f"{what}: epoch {epoch.number} of {epochs}, "
            f"loss {epoch.loss:.4g}, score {epoch.score:.4g}"
        )

    return tell


def _agree(found: Any, asked: Any) -> bool:
    """Whether settings are the same; one that was not there yet may be None now."""
    if isinstance(found, dict) and isinstance(asked, dict):
        known = all(key in asked for key in found)
        return known and all(_agree(found.get(key), value) for key, value in asked.items())
    if isinstance(found, list) and isinstance(asked, list):
        pairs = zip(found, asked, strict=False)
        return len(found) == len(asked) and all(_agree(*pair) for pair in pairs)
    return bool(found == asked)


def _digest(model: nn.Module) -> str:
    """Of all names and values of a network's state."""
    made = hashlib.sha256()
    for name, value in model.state_dict().items():
        content = value.detach().cpu().contiguous()
        made.update(f"{name} {tuple(content.shape)} {content.dtype}".encode())
        # Through bytes, because numpy has no bfloat16.
        made.update(content.reshape(-1).view(torch.uint8).numpy().tobytes())
    return made.hexdigest()
