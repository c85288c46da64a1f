"""What the training methods of `narrows compress` make of a network: the pruned columns of a study.

Checkpoints are kept beside the study's models until the variant is made, so that a study that was
stopped goes on inside a training.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx

from narrows.compress import Chain
from narrows.compress.catalog import method_of
from narrows.study.settings import NetworkSettings, VariantSettings
from narrows.train import crop_and_flip
from narrows.zoo.export import export
from narrows.zoo.trainable import training_task_of


def trained_variant(
    network: NetworkSettings, variant: VariantSettings, work: Path, note: Callable[[str], None]
) -> onnx.ModelProto:
    """Apply a variant's training methods to a network, and export what they make.

    Args:
        network: The network, whose task has the sets to fit and choose on.
        variant: One of its variants.
        work: Folder of checkpoints; removed at the end.
        note: Told of every epoch.

    Raises:
        NarrowsError: The network has no torch form, a method does not fit it, or a training fails.
    """
    asked = training_task_of(
        network.model,
        network.task,
        batch_size=network.train_batch,
        augment=crop_and_flip if network.flip else None,
    )
    title = f"{variant.name} of {network.name}"
    methods = tuple(method_of(line) for line in variant.training_lines)
    made = Chain(methods=methods).apply(
        asked, folder=work, progress=lambda line: note(f"{title}: {line}")
    )
    proto = export(made, tuple(asked.example.shape[1:]), name=title)
    shutil.rmtree(work, ignore_errors=True)
    return proto
