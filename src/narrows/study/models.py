"""The ONNX file of every variant of a network: found, exported or made, once, and kept.

Originals stay where they are: the user's file, or the export in the cache of `narrows.zoo.sources`.
What a method makes is kept in the study's folder under a name that ends in the digest of all it was
made of, so that a rerun finds it and a changed setting does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.files import storage_error, write_atomic
from narrows.graph.load import Model, load
from narrows.study.keys import variant_key
from narrows.study.methods import METHODS
from narrows.study.settings import ORIGINAL, NetworkSettings, VariantSettings
from narrows.task import Task
from narrows.zoo.names import parse
from narrows.zoo.sources import resolve, resolve_for

_BATCH: Final = 16
_SEED: Final = 0

Note = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the study, opened.

    Args:
        settings: What the study's file says of it.
        path: File of the original.
        model: The original, checked.
        task: What it is judged on, or None.
    """

    settings: NetworkSettings
    path: Path
    model: Model
    task: Task | None

    @property
    def random_weights(self) -> bool:
        """Whether its weights were asked to be random; then no accuracy means anything."""
        return parse(self.settings.model).is_random


def open_network(settings: NetworkSettings, folder: Path) -> Network:
    """Find or export a network and check it.

    Args:
        settings: The network.
        folder: Where models of this study are kept.

    Raises:
        NarrowsError: There is no such network or task, it cannot be exported, or it does not run.
        StorageError: The disk is full.
    """
    if settings.task is None:
        source, task = resolve(settings.model), None
    else:
        source, task = resolve_for(settings.model, settings.task)
    original = next(variant for variant in settings.variants if variant.name == ORIGINAL)
    if isinstance(source, onnx.ModelProto):
        path = _kept(settings, original, folder)
        _write(path, source)
    else:
        path = source
    return Network(settings=settings, path=path, model=load(path), task=task)


def variant_file(network: Network, variant: VariantSettings, folder: Path, note: Note) -> Path:
    """The file of a variant, made now unless it is there.

    Args:
        network: The network.
        variant: One of its variants.
        folder: Where models of this study are kept.
        note: Told what is being made.

    Raises:
        InputError: A variant's file is not there.
        NarrowsError: The method cannot be applied.
        StorageError: The disk is full.
    """
    if variant.name == ORIGINAL:
        return network.path
    if variant.model is not None:
        path = Path(variant.model)
        if not path.is_file():
            msg = f"no model file {path} for variant {variant.name!r}: give a file that is there"
            raise InputError(msg)
        found = resolve(path, input_shape=network.model.input.shape)
        assert isinstance(found, Path)
        return found
    path = _kept(network.settings, variant, folder)
    if not path.is_file():
        note(f"make {variant.name} of {network.settings.name}")
        _write(path, _made(network, variant, path, note))
    return path


def _made(network: Network, variant: VariantSettings, path: Path, note: Note) -> onnx.ModelProto:
    """What a variant's methods make of the original, one after another."""
    lines = variant.training_lines
    if lines and not variant.exported_methods:
        from narrows.study.trained import trained_variant

        return trained_variant(network.settings, variant, path.with_suffix(".work"), note)
    model = network.model
    if lines:
        # Trained once, also where it is a variant by itself.
        alone = VariantSettings(name=f"{variant.name}, trained", methods=lines)
        beside = (one for one in network.settings.variants if one.methods == lines)
        model = load(variant_file(network, next(beside, alone), path.parent, note))
    *first, last = variant.exported_methods
    samples = list(_samples(network))
    for name in first:
        model = load(METHODS[name].make(model, samples))
    return METHODS[last].make(model, samples)


def _samples(network: Network) -> Iterator[NDArray[Any]]:
    """Batches in the model's input layout: of the task's fit set, or random numbers."""
    given, count = network.model.input, network.settings.calibration
    random = np.random.default_rng(_SEED)
    task = network.task
    total = count if task is None else min(count, len(task.fit))
    for start in range(0, total, _BATCH):
        size = min(_BATCH, total - start)
        if task is None:
            batch = random.standard_normal((size, *given.shape), dtype=np.float32)
        else:
            batch = task.inputs(task.fit, start, start + size)[0]
        yield np.ascontiguousarray(np.moveaxis(batch, 0, given.batch_axis or 0).astype(given.dtype))


def _kept(settings: NetworkSettings, variant: VariantSettings, folder: Path) -> Path:
    stem = re.sub(r"[^\w.-]+", "_", f"{settings.name}-{variant.name}")
    return folder / f"{stem}-{variant_key(settings, variant)}.onnx"


def _write(path: Path, proto: onnx.ModelProto) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    write_atomic(path, proto.SerializeToString())
