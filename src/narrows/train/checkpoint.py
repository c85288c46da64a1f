"""What a training leaves after every epoch, so that it can go on from there as if never stopped.

    FOLDER/last.safetensors    everything: weights, optimiser, random state, history
    FOLDER/best.safetensors    the weights of the best epoch, and nothing else
    FOLDER/scalars.jsonl       one line per epoch: loss, score, learning rate, seconds

A checkpoint is one file, written under another name and then renamed, so that whatever stops the
process leaves the one before or the new one. What is not a tensor is JSON in the file's header.
Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, InputError, ModelError
from narrows.files import write_atomic
from narrows.train.settings import TrainSettings

FORMAT: Final = 1
LAST: Final = "last.safetensors"
BEST: Final = "best.safetensors"
SCALARS: Final = "scalars.jsonl"
_KEY: Final = "narrows"
# Settings that earlier checkpoints have not.
_LATER: Final = {"best_from": 1, "final_rate": None}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the fit set.

    Args:
        number: From 1.
        loss: Mean over the fit set, as seen while training.
        score: The task's metric on the choose set after it.
        learning_rate: Of its last step.
        seconds: It took, the choose set included.
    """

    number: int
    loss: float
    score: float
    learning_rate: float
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is.

    Args:
        task: Name of the task.
        settings: What it is trained with.
        history: Every epoch so far.
    """

    task: str
    settings: TrainSettings
    history: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch:
        """The epoch with the highest score, the first of equals; the last while none can be."""
        able = self.history[self.settings.best_from - 1 :] or self.history[-1:]
        return max(able, key=lambda epoch: epoch.score)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        done, patience = len(self.history), self.settings.patience
        stale = patience is not None and done > 0 and done - self.best.number >= patience
        return done >= self.settings.epochs or stale


def save_checkpoint(
    folder: Path, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after an epoch; the best weights too where it was the best.

    Raises:
        StorageError: The folder cannot be written; the checkpoint before is untouched.
    """
    weights = model.state_dict()
    if progress.best.number == len(progress.history):
        write_atomic(folder / BEST, pack_safetensors(weights, to_dict(progress.best)))
    tensors = {f"model.{name}": value for name, value in weights.items()}
    numbers: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                numbers[f"{index}.{name}"] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    header = {"format": FORMAT, "progress": to_dict(progress), "optimizer": numbers}
    write_atomic(folder / LAST, pack_safetensors(tensors, header))
    lines = [json.dumps(to_dict(epoch)) + "\n" for epoch in progress.history]
    write_atomic(folder / SCALARS, "".join(lines))


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Take up the state a folder holds, or nothing where it holds none.

    Raises:
        ModelError: The checkpoint is damaged, or of another network.
    """
    path = folder / LAST
    if not path.exists():
        return None
    tensors, header = read_safetensors(path)
    try:
        if header.get("format") != FORMAT:
            msg = f"format {header.get('format')}, expected {FORMAT}"
            raise ConfigError(msg)
        for name, value in _LATER.items():
            header["progress"]["settings"].setdefault(name, value)
        progress = from_dict(Progress, header["progress"])
        state: dict[int, dict[str, Any]] = {}
        for key, value in {**_under("optimizer.", tensors), **header["optimizer"]}.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        random = _under("random.", tensors)
        model.load_state_dict(_under("model.", tensors))
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
    except (ConfigError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        msg = f"{path} is no checkpoint of this training: {reason}; remove the folder to start anew"
        raise ModelError(msg) from error
    return progress


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and what narrows wrote into its header.

    Raises:
        InputError: There is no such file.
        ModelError: It is not whole, or no safetensors file.
    """
    if not path.is_file():
        msg = f"no weights at {path}: give the path of a .safetensors file"
        raise InputError(msg)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        msg = f"{path} cannot be read: {error}; take another copy, or remove it to start anew"
        raise ModelError(msg) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of a file into a network.

    Raises:
        InputError: There is no such file.
        ModelError: It is damaged, or holds the weights of another network.
    """
    tensors, _ = read_safetensors(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"{path} holds the weights of another network: {reason}"
        raise ModelError(msg) from error


def pack_safetensors(tensors: Mapping[str, Tensor], header: Any) -> bytes:
    """The bytes of a safetensors file, with what `read_safetensors` gives back as its header.

    Args:
        tensors: By name.
        header: JSON.
    """
    # Copies, because parameters that are shared would be refused.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    packed: bytes = save(copies, {_KEY: json.dumps(header)})
    return packed


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
