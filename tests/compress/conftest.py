"""A small task that is learned in a moment, and one thread, on which trainings repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, train, training_task


@pytest.fixture(autouse=True)
def repeatable(one_thread: None) -> None:
    """Every test of this folder is on one thread."""


@pytest.fixture(scope="session")
def clouds() -> TrainingTask:
    """Three clouds of 12 features, and a network that tells them apart."""
    random = np.random.default_rng(0)
    y = np.arange(600) % 3
    centres = random.normal(size=(3, 12))
    x = (centres[y] + random.normal(size=(600, 12))).astype(np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.4), nn.Linear(24, 3))
    task = training_task(array_task("three clouds", x, y), model, batch_size=10, seed=1)
    settings = TrainSettings(epochs=4, learning_rate=0.05)
    trained = train(task, settings, device="cpu").model
    return training_task(task.task, trained, batch_size=10, seed=1)
