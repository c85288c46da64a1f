"""The key by which a measured cell is known again.

A key is a digest of everything a result depends on: the schedule, the contents of the model's file
(or the name and versions it is exported by), the method, the task's file, the runtime, the threads
and the environment. Change any of them and the cell is measured anew; change nothing and a rerun
finds it done. Of a factory only the name counts, and of a task's pictures only the file that lists
them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import onnx

from narrows.config import to_dict
from narrows.errors import InputError
from narrows.measure.backends import BACKENDS
from narrows.measure.environment import environment
from narrows.study.cells import Cell
from narrows.study.methods import METHODS
from narrows.study.settings import (
    ORIGINAL,
    TORCH,
    NetworkSettings,
    StudySettings,
    VariantSettings,
    schedule_of,
)
from narrows.zoo.names import parse
from narrows.zoo.sources import EXPORT_VERSION


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys of one cell.

    Args:
        whole: Of everything its record depends on.
        facts: The same without what concerns latency alone, threads among it.
        variant: Of the variant's file alone.
    """

    whole: str
    facts: str
    variant: str


def keys(settings: StudySettings, network: NetworkSettings, cell: Cell) -> Keys:
    """The keys of one cell.

    Raises:
        InputError: A file that the network or the variant names is not there.
    """
    variant = next(one for one in network.variants if one.name == cell.variant)
    made = variant_key(network, variant)
    facts = {
        "variant": made,
        "names": [cell.network, cell.variant, cell.runtime],
        "version": _runtime_version(cell.runtime),
        "judged": [_task_identity(network.task), settings.set, settings.samples],
        "operators": settings.operators,
        "machine": environment(threads=1).key,
    }
    whole = {
        **facts,
        "schedule": schedule_of(settings, network, cell.threads),
        "batch": network.batch,
        "energy": [settings.energy, settings.energy_s],
        "environment": environment(threads=cell.threads).key,
    }
    return Keys(whole=_digest(whole), facts=_digest(facts), variant=made)


def score_key(
    settings: StudySettings, network: NetworkSettings, variant: VariantSettings, runtime: str
) -> str:
    """Digest of what a variant's score on a runtime depends on.

    Raises:
        InputError: A file is not there.
    """
    return _digest(
        {
            "variant": variant_key(network, variant),
            "runtime": [runtime, _runtime_version(runtime)],
            "judged": [_task_identity(network.task), settings.set, settings.samples],
            "machine": environment(threads=1).key,
        }
    )


def variant_key(network: NetworkSettings, variant: VariantSettings) -> str:
    """Digest of what a variant's file is made of.

    Raises:
        InputError: A file is not there.
    """
    original = _model_identity(network.model, network.task)
    if variant.name == ORIGINAL:
        return _digest({"model": original})
    if variant.model is not None:
        return _digest({"model": _model_identity(variant.model, network.task)})
    exported = [METHODS[name] for name in variant.exported_methods]
    calibrated = any(method.calibrated for method in exported)
    seen = [_task_identity(network.task), network.calibration] if calibrated else []
    named: list[Any] = [part for method in exported for part in (method.name, method.version)]
    made: dict[str, Any] = {"model": original, "method": named, "seen": seen}
    if variant.training_lines:
        made["trained"] = [
            *(variant.training_lines, _task_identity(network.task), _lab_versions()),
            *(EXPORT_VERSION, network.train_batch, network.flip),
        ]
    return _digest(made)


def _model_identity(model: str, task: str | None) -> Any:
    source = parse(model)
    if model.endswith(".onnx"):
        return _file_identity(Path(source.name))
    # Options that are not stated are left out, so that new ones leave the keys as they were.
    named = to_dict(source)
    named = {k: v for k, v in named.items() if v is not None or k not in ("width", "classes")}
    content = _file_identity(Path(source.name)) if source.library == "file" else None
    shape = _task_identity(task) if source.library in ("file", "factory") else None
    return [content or named, EXPORT_VERSION, _lab_versions(), shape]


def _lab_versions() -> list[str]:
    """Of what networks are built, trained and exported with."""
    return [_version(name) for name in ("torch", "torchvision", "timm", "onnxscript")]


def _task_identity(task: str | None) -> Any:
    if task is None or not task.endswith(".toml"):
        return task
    return _file_identity(Path(task))


def _file_identity(path: Path) -> str:
    """Digest of a file and, for a model, of the files that hold its weights."""
    try:
        content = hashlib.sha256(path.read_bytes())
        if path.suffix == ".onnx":
            for name in _outside(path):
                content.update((path.parent / name).read_bytes())
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; give a file that is there"
        raise InputError(msg) from None
    return content.hexdigest()


def _outside(path: Path) -> list[str]:
    """Names of the files of external data; none where the model cannot be read."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:
        # Whatever protobuf raises of a damaged file is told when the model is checked.
        return []
    entries = (entry for tensor in proto.graph.initializer for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _runtime_version(runtime: str) -> str:
    if runtime == TORCH:
        return _version("torch")
    backend = BACKENDS[runtime]
    return _version(backend.distribution) + (f"+{backend.revision}" * (backend.revision > 1))


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _digest(value: object) -> str:
    text = json.dumps(to_dict(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
