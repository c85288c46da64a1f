"""What a study measures, cell by cell, and the key by which a measured cell is known again.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, final

import onnx

from narrows.config import to_dict
from narrows.errors import InputError
from narrows.measure.environment import environment
from narrows.study.methods import METHODS
from narrows.study.settings import (
    ORIGINAL,
    TORCH,
    NetworkSettings,
    StudySettings,
    VariantSettings,
)
from narrows.zoo.sources import EXPORT_VERSION, parse

_PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "litert": ("ai-edge-litert",),
    TORCH: ("torch",),
}
_TITLES: Final[Mapping[str, str]] = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    TORCH: "PyTorch eager",
}
_SCHEDULE: Final = (
    "target",
    "rounds",
    "round_s",
    "min_calls",
    "session_s",
    "limit_s",
    "respawns",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One thing to measure.

    Args:
        network: Name of the network.
        variant: Name of its variant.
        runtime: Name of the backend, or "torch" for the eager baseline.
        threads: Threads inside one inference.
    """

    network: str
    variant: str
    runtime: str
    threads: int

    def __str__(self) -> str:
        """As progress and messages name it."""
        return f"{self.network} · {self.variant} · {self.runtime} · {threads_text(self.threads)}"


def runtime_title(runtime: str) -> str:
    """What a reader sees of a runtime.

    Example:
        >>> runtime_title("onnxruntime"), runtime_title("torch")
        ('ONNX Runtime', 'PyTorch eager')
    """
    return _TITLES.get(runtime, runtime)


def threads_text(threads: int) -> str:
    """A number of threads in words.

    Example:
        >>> threads_text(1), threads_text(2)
        ('1 thread', '2 threads')
    """
    return f"{threads} thread{'' if threads == 1 else 's'}"


def cells(settings: StudySettings) -> tuple[Cell, ...]:
    """Every cell, network by network, and in a network one session after another."""
    return tuple(cell for network in settings.networks for cell in _cells(settings, network))


def _cells(settings: StudySettings, network: NetworkSettings) -> Iterator[Cell]:
    # An ONNX file says nothing about the network PyTorch would run.
    has_baseline = settings.baseline is not None and not network.model.endswith(".onnx")
    for threads in settings.threads:
        for variant in network.variants:
            for runtime in settings.runtimes:
                yield Cell(
                    network=network.name, variant=variant.name, runtime=runtime, threads=threads
                )
        if has_baseline:
            yield Cell(network=network.name, variant=ORIGINAL, runtime=TORCH, threads=threads)


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
        "versions": _versions(cell.runtime),
        "judged": [_task_identity(network.task), settings.set, settings.samples],
        "operators": settings.operators,
        "machine": environment(threads=1).key,
    }
    schedule = {name: getattr(settings, name) for name in _SCHEDULE}
    whole = {
        **facts,
        "schedule": schedule,
        "batch": network.batch,
        "energy": [settings.energy, settings.energy_s],
        "environment": environment(threads=cell.threads).key,
    }
    return Keys(whole=_digest(whole), facts=_digest(facts), variant=made)


def variant_key(network: NetworkSettings, variant: VariantSettings) -> str:
    """Digest of what a variant's file is made of.

    Raises:
        InputError: A file is not there.
    """
    original = _model_identity(network.model, network.task)
    if variant.name == ORIGINAL:
        return _digest({"model": original})
    if variant.model is not None:
        return _digest({"model": _file_identity(Path(variant.model))})
    assert variant.method is not None
    method = METHODS[variant.method]
    seen = [_task_identity(network.task), network.calibration] if method.calibrated else []
    return _digest({"model": original, "method": [method.name, method.version], "seen": seen})


def _model_identity(model: str, task: str | None) -> Any:
    source = parse(model)
    if source.library == "file":
        return _file_identity(Path(source.name))
    versions = [_version(name) for name in ("torch", "torchvision", "timm", "onnxscript")]
    shape = _task_identity(task) if source.library == "factory" else None
    return [to_dict(source), EXPORT_VERSION, versions, shape]


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


def _versions(runtime: str) -> list[str]:
    return [_version(package) for package in _PACKAGES.get(runtime, (runtime,))]


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _digest(value: object) -> str:
    text = json.dumps(to_dict(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
