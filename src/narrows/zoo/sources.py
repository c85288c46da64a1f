"""A model by the name a user gives it, to ONNX, and to the preprocessing it was trained with.

`narrows.zoo.names` lists the forms of name. An export takes seconds to minutes, so it is kept in
the user's cache folder, named by the source and the versions that made it. A factory's is not: its
code may change.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx

from narrows.config import write_atomic
from narrows.contents import digest
from narrows.errors import InputError, MissingExtra, ModelError
from narrows.files import storage_error
from narrows.graph.packed_model import unpack_model
from narrows.packed import SUFFIX, PackedFile
from narrows.preprocess import Preprocess, with_size
from narrows.references import call_reference
from narrows.task import Task, load_task
from narrows.zoo.export import export
from narrows.zoo.families import Family
from narrows.zoo.libraries import (
    timm_network,
    timm_preprocess,
    torchvision_network,
    torchvision_preprocess,
)
from narrows.zoo.members import build_member, member
from narrows.zoo.names import Source, parse

if TYPE_CHECKING:
    from torch import nn

# Part of every cached name; a change of how models are exported raises it.
EXPORT_VERSION: Final = 1
_VERSIONS: Final = ("torch", "torchvision", "timm", "onnxscript")


def resolve(
    model: str | Path, *, input_shape: tuple[int, ...] | None = None
) -> Path | onnx.ModelProto:
    """The ONNX file, or model, of what a user named.

    Args:
        model: As the head of `narrows.zoo.names` lists.
        input_shape: Shape of one input; needed for a network that does not tell it, of a file of
            `save_network` or a factory.

    Raises:
        InputError: There is no such file, or no such form of name.
        MissingExtra: It needs packages that are not installed.
        ModelError: There is no such network, or it cannot be built or exported.
    """
    source = parse(str(model))
    if source.library == "file":
        path = Path(source.name)
        if not path.is_file():
            msg = f"no model file {path}: give an .onnx or a {SUFFIX} file"
            raise InputError(msg)
        if path.suffix == ".onnx":
            return path
        packed = PackedFile.open(path)
        if packed.kind != "network":
            return unpack_model(packed)
        shape = _known(source, input_shape)
        return _kept(source, lambda: (_load_network(path), shape), about=shape)
    if source.library == "factory":
        return _from_factory(source, input_shape)
    if source.library == "zoo":
        member(source)
    return _kept(source, lambda: _build(source))


def network(model: str, *, untrained: bool = False) -> tuple[nn.Module, tuple[int, ...]]:
    """The torch network of a name, and the shape of one input.

    Args:
        model: A zoo:, timm: or torchvision: name.
        untrained: Take random weights where the name states none and there are none.

    Raises:
        InputError: It is another form of name.
        MissingExtra: It needs packages that are not installed.
        ModelError: There is no such network, or it cannot be built.
    """
    source = parse(model)
    if source.library in ("file", "factory"):
        msg = f"{model!r} names no torch network: give zoo:NAME, timm:NAME or torchvision:NAME"
        raise InputError(msg)
    return _build(source, untrained=untrained)


def preset(model: str | Path) -> Preprocess | None:
    """The preprocessing a model was trained with, or None where its name does not tell.

    Raises:
        MissingExtra: Its library is not installed.
        ModelError: There is no such network.
    """
    source = parse(str(model))
    if source.library == "zoo":
        found = member(source)
        return found.preprocess if isinstance(found, Family) else found.preprocess(source.size)
    if source.library == "timm":
        known = timm_preprocess(source.name)
    elif source.library == "torchvision":
        known = torchvision_preprocess(source.name)
    else:
        return None
    return known if source.size is None or known is None else with_size(known, source.size)


def resolve_for(model: str | Path, task: str | Path) -> tuple[Path | onnx.ModelProto, Task]:
    """A model and the task it is asked, each filling in what the other leaves open.

    The task takes the model's own preprocessing where it states none; a factory's network takes
    the task's input shape.

    Args:
        model: As the head of `narrows.zoo.names` lists.
        task: A TOML file, or `module:factory`.

    Raises:
        InputError: There is no such file, or no such form of name.
        TaskError: The task does not fit together.
        MissingExtra: It needs packages that are not installed.
        ModelError: There is no such network, or it cannot be built or exported.
    """
    asked = load_task(task, preprocess=preset(model))
    return resolve(model, input_shape=asked.input_shape), asked


def cache_folder() -> Path:
    """Where exports are kept: $NARROWS_CACHE, or the user's cache folder."""
    if own := os.environ.get("NARROWS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "narrows"


def _kept(
    source: Source, build: Callable[[], tuple[nn.Module, tuple[int, ...]]], about: object = None
) -> Path:
    """The export of a network in the cache, made now unless it is there."""
    cached = cache_folder() / _cached_name(source, about)
    if not cached.is_file():
        module, shape = build()
        proto = export(module, shape, name=source.name)
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(cached.parent, error) from error
        write_atomic(cached, proto.SerializeToString())
    return cached


def _cached_name(source: Source, about: object) -> str:
    """Name of an export's file: of the source, what else is known of it, and all versions."""
    versions: list[object] = [EXPORT_VERSION, about]
    for package in _VERSIONS:
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            # Reported when the network is built; a cached export of another version is not it.
            continue
    if source.library == "file":
        versions.append(digest(Path(source.name)).hex())
    if source.weights is not None and isinstance(found := member(source), Family):
        versions.append(digest(found.weights(source.weights)).hex())
    key = hashlib.sha256(repr((source, versions)).encode()).hexdigest()[:12]
    return re.sub(r"[^\w.-]", "_", f"{source.library}-{source.name}") + f"-{key}.onnx"


def _from_factory(source: Source, input_shape: tuple[int, ...] | None) -> Path | onnx.ModelProto:
    given: Any = call_reference(source.name)
    if isinstance(given, str | Path):
        return Path(given)
    if isinstance(given, onnx.ModelProto):
        return given
    if not hasattr(given, "state_dict"):
        msg = f"{source.name!r} gave a {type(given).__name__}: expected an nn.Module or ONNX model"
        raise ModelError(msg)
    return export(given, _known(source, input_shape), name=source.name)


def _known(source: Source, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if input_shape is None:
        msg = f"the input shape of {source.name!r} is not known: give a task, it has one"
        raise ModelError(msg)
    return input_shape


def _load_network(path: Path) -> nn.Module:
    try:
        from narrows.store import load_network
    except ImportError:
        msg = f"{path}, a network to be exported,"
        raise MissingExtra(msg, "lab") from None
    return load_network(path)


def _build(source: Source, *, untrained: bool = False) -> tuple[nn.Module, tuple[int, ...]]:
    """The network and the shape of its input."""
    if source.library == "zoo":
        return build_member(source, untrained=untrained)
    builder = timm_network if source.library == "timm" else torchvision_network
    return builder(source.name, size=source.size, pretrained=source.pretrained, seed=source.seed)
