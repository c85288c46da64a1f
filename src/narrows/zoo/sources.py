"""What a user calls a model, to ONNX, and to the preprocessing it was trained with.

    flowers.onnx                        a file
    zoo:efficientnet_lite0?size=192     a network of this package with its weights
    zoo:cifar_vgg16?weights=FILE        a reduced family with weights that `narrows.train` left; a
                                        folder stands for the file NAME.safetensors in it
    timm:resnet50?pretrained=0          timm's networks, with random weights if asked
    torchvision:mobilenet_v2            torchvision's
    package.module:factory              a function without arguments that gives an nn.Module, an
                                        onnx.ModelProto, or the path of an ONNX file

An export takes seconds to minutes, so it is kept in the user's cache folder, named by the source
and the versions that made it. A factory's is not: its code may change.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final, get_args
from urllib.parse import parse_qsl

import onnx

from narrows.config import write_atomic
from narrows.contents import digest
from narrows.errors import InputError, ModelError
from narrows.files import storage_error
from narrows.preprocess import Preprocess, with_size
from narrows.references import call_reference, is_reference
from narrows.task import Task, load_task
from narrows.zoo.cifar import PREPROCESS
from narrows.zoo.efficientnet_lite import LITES, Lite
from narrows.zoo.export import export
from narrows.zoo.families import FAMILIES, SIZE, Family
from narrows.zoo.libraries import (
    timm_network,
    timm_preprocess,
    torchvision_network,
    torchvision_preprocess,
)

if TYPE_CHECKING:
    from torch import nn

Library = Literal["file", "zoo", "timm", "torchvision", "factory"]
# Part of every cached name; a change of how models are exported raises it.
EXPORT_VERSION: Final = 1
_ZOO: Final = LITES | FAMILIES
_VERSIONS: Final = ("torch", "torchvision", "timm", "onnxscript")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as named by a user.

    Args:
        library: Where it comes from.
        name: What it is called there.
        size: Height and width of the input, if not the network's own.
        pretrained: Whether to load trained weights.
        seed: Of random weights.
        weights: File or folder of a reduced family's weights.
    """

    library: Library
    name: str
    size: int | None = None
    pretrained: bool = True
    seed: int = 0
    weights: str | None = None


def parse(model: str) -> Source:
    """Read a model's name.

    Raises:
        InputError: It is none of the forms above, or an option is not known.

    Example:
        >>> parse("timm:resnet50?pretrained=0").pretrained
        False
    """
    if model.endswith(".onnx"):
        return Source(library="file", name=model)
    bare, _, query = model.partition("?")
    prefix, colon, name = bare.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - {"size", "pretrained", "seed", "weights"}:
        known = "size, pretrained, seed, weights"
        msg = f"unknown option {min(unknown)!r} in {model!r}: known are {known}"
        raise InputError(msg)
    if "weights" in options and prefix != "zoo":
        msg = f"{model!r}: only networks of the zoo take weights; export yours to ONNX"
        raise InputError(msg)
    libraries = get_args(Library)
    if colon and prefix in libraries[1:4]:
        library, name = prefix, name
    elif is_reference(bare):
        library, name = "factory", bare
    else:
        msg = (
            f"no model {model!r}: give a .onnx file, zoo:NAME ({', '.join(_ZOO)}), timm:NAME, "
            "torchvision:NAME or package.module:factory"
        )
        raise InputError(msg)
    return Source(
        library=cast(Library, library),
        name=name,
        size=_whole(options.get("size"), model),
        pretrained=options.get("pretrained", "1").lower() not in ("0", "false", "no"),
        seed=_whole(options.get("seed"), model) or 0,
        weights=options.get("weights"),
    )


def resolve(
    model: str | Path, *, input_shape: tuple[int, ...] | None = None
) -> Path | onnx.ModelProto:
    """The ONNX file, or model, of what a user named.

    Args:
        model: As the head of this module lists.
        input_shape: Shape of one input; needed for a factory that gives an nn.Module.

    Raises:
        InputError: There is no such file, or no such form of name.
        MissingExtra: It needs packages that are not installed.
        ModelError: There is no such network, or it cannot be built or exported.
    """
    source = parse(str(model))
    if source.library == "file":
        path = Path(source.name)
        if not path.is_file():
            msg = f"no model file {path}: give the path of an .onnx file"
            raise InputError(msg)
        return path
    if source.library == "factory":
        return _from_factory(source, input_shape)
    if source.library == "zoo":
        _member(source)
    cached = cache_folder() / _cached_name(source)
    if not cached.is_file():
        module, shape = _build(source)
        proto = export(module, shape, name=str(model))
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(cached.parent, error) from error
        write_atomic(cached, proto.SerializeToString())
    return cached


def network(model: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The torch network of a name, and the shape of one input.

    Args:
        model: A zoo:, timm: or torchvision: name.

    Raises:
        InputError: It is another form of name.
        MissingExtra: It needs packages that are not installed.
        ModelError: There is no such network, or it cannot be built.
    """
    source = parse(model)
    if source.library in ("file", "factory"):
        msg = f"{model!r} names no torch network: give zoo:NAME, timm:NAME or torchvision:NAME"
        raise InputError(msg)
    return _build(source)


def preset(model: str | Path) -> Preprocess | None:
    """The preprocessing a model was trained with, or None where its name does not tell.

    Raises:
        MissingExtra: Its library is not installed.
        ModelError: There is no such network.
    """
    source = parse(str(model))
    if source.library == "zoo":
        member = _member(source)
        return PREPROCESS if isinstance(member, Family) else member.preprocess(source.size)
    if source.library == "timm":
        found = timm_preprocess(source.name)
    elif source.library == "torchvision":
        found = torchvision_preprocess(source.name)
    else:
        return None
    return found if source.size is None or found is None else with_size(found, source.size)


def resolve_for(model: str | Path, task: str | Path) -> tuple[Path | onnx.ModelProto, Task]:
    """A model and the task it is asked, each filling in what the other leaves open.

    The task takes the model's own preprocessing where it states none; a factory's network takes
    the task's input shape.

    Args:
        model: As the head of this module lists.
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


def _whole(text: str | None, model: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        msg = f"{text!r} in {model!r} is no whole number"
        raise InputError(msg)
    return int(text)


def _cached_name(source: Source) -> str:
    versions: list[object] = [EXPORT_VERSION]
    for package in _VERSIONS:
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            # Reported when the network is built; a cached export of another version is not it.
            continue
    if source.weights is not None:
        versions.append(digest(FAMILIES[source.name].weights(source.weights)).hex())
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
    if input_shape is None:
        msg = f"the input shape of {source.name!r} is not known: give a task, it has one"
        raise ModelError(msg)
    return export(given, input_shape, name=source.name)


def _build(source: Source) -> tuple[nn.Module, tuple[int, ...]]:
    """The network and the shape of its input."""
    if source.library == "zoo":
        member = _member(source)
        if isinstance(member, Family):
            return _family(member, source), (3, SIZE, SIZE)
        size = source.size or member.size
        return member.build(), (3, size, size)
    builder = timm_network if source.library == "timm" else torchvision_network
    return builder(source.name, size=source.size, pretrained=source.pretrained, seed=source.seed)


def _member(source: Source) -> Lite | Family:
    if source.name not in _ZOO:
        msg = f"no network {source.name!r} in the zoo: it has {', '.join(_ZOO)}"
        raise ModelError(msg)
    member = _ZOO[source.name]
    if isinstance(member, Lite) and source.weights is not None:
        msg = f"zoo:{source.name} has weights of its own: leave out weights={source.weights}"
        raise InputError(msg)
    if isinstance(member, Family) and source.size not in (None, SIZE):
        msg = f"zoo:{source.name} takes pictures of {SIZE} × {SIZE}, asked was {source.size}"
        raise InputError(msg)
    return member


def _family(family: Family, source: Source) -> nn.Module:
    """A reduced family with the weights stated, or with random ones where these are asked for."""
    if source.weights is None and source.pretrained:
        msg = (
            f"zoo:{family.name} comes without weights: give ?weights=FILE.safetensors "
            "(benchmarks/train_families.py trains them), or ?pretrained=0 for random ones"
        )
        raise ModelError(msg)
    weights = family.weights(source.weights) if source.weights is not None else None
    return family.build(weights=weights, seed=source.seed).eval()
