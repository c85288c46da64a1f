"""Methods stopped half-way, and networks that are the same bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from narrows.compress import Method
from narrows.train import TrainingTask


def stop_at(words: str, method: Method, task: TrainingTask, folder: Path) -> None:
    """Apply a method until it tells a line with these words; its checkpoints stay in the folder.

    What is drawn at random afterwards, outside of it, must not change how it goes on.
    """

    def stop(told: str) -> None:
        if words in told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.apply(task, folder=folder, progress=stop)
    torch.rand(7)


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same state, bit for bit."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
