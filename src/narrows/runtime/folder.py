"""Write a bundle's folder: whole, tried, and put in place by one rename, or not there at all."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy

from narrows import config
from narrows.coding.base import Table
from narrows.errors import BundleError, StorageError
from narrows.files import storage_error, write_atomic
from narrows.graph.packed_model import pack_model
from narrows.packed import PackedFile
from narrows.plan.candidate import Route
from narrows.runtime.bundle import MANIFEST, Bundle, read_bundle
from narrows.runtime.manifest import PACKED, TABLES, Manifest, Part
from narrows.runtime.network import zeros
from narrows.runtime.payload import Payloads


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An ONNX part that is to be written.

    Args:
        proto: The network.
        values_bytes: What its values take for one sample.
        like: The packed file that it was made of; it is then packed as well.
    """

    proto: onnx.ModelProto
    values_bytes: int
    like: PackedFile | None = None


def write_folder(
    path: Path,
    fields: Mapping[str, object],
    *,
    contents: Mapping[str, Content],
    table: Table,
    replace: bool = False,
) -> Bundle:
    """Write a bundle and read it back.

    `narrows.runtime.assemble` decides what goes in.

    Args:
        path: The folder to make; what is missing above it is made too.
        fields: Fields of `Manifest` but `parts` and `onnxruntime`.
        contents: ONNX parts by file name.
        table: The coder's table; empty for none.
        replace: Whether a bundle already there gives way.

    Raises:
        BundleError: There is something at `path`, or the parts do not fit together.
        StorageError: The disk is full or the path cannot be written; nothing is left behind.
    """
    if path.exists() and not (replace and (path / MANIFEST).is_file()):
        what = "a bundle already" if (path / MANIFEST).is_file() else "something else"
        msg = f"cannot write a bundle to {path}: {what} is there; choose another folder or replace"
        raise BundleError(msg)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _fill(temporary, fields, contents, table)
        _try(read_bundle(temporary))
        _swap(temporary, path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise storage_error(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_bundle(path)


def _fill(
    folder: Path, fields: Mapping[str, object], contents: Mapping[str, Content], table: Table
) -> None:
    parts = []
    for file, content in contents.items():
        data = content.proto.SerializeToString()
        if content.like is not None:
            file, data = PACKED[file], pack_model(content.proto, like=content.like)
        parts.append(_written(folder / file, data, values_bytes=content.values_bytes))
    if table:
        arrays = {name: np.ascontiguousarray(array) for name, array in table.items()}
        parts.append(_written(folder / TABLES, safetensors.numpy.save(arrays), values_bytes=0))
    version = onnxruntime.__version__
    whole = Manifest(**fields, onnxruntime=version, parts=tuple(parts))  # type: ignore[arg-type]
    config.write_json(folder / MANIFEST, whole)


def _written(file: Path, data: bytes, *, values_bytes: int) -> Part:
    write_atomic(file, data)
    digest = hashlib.sha256(data).hexdigest()
    return Part(file=file.name, sha256=digest, size_bytes=len(data), values_bytes=values_bytes)


def _try(bundle: Bundle) -> None:
    """Answer zeros on every way the bundle has."""
    payloads, manifest = Payloads(bundle), bundle.manifest
    if manifest.has_model:
        bundle.model().one(zeros(manifest.input))
    if manifest.route is Route.SPLIT:
        symbols, _ = bundle.head().one(zeros(manifest.input))
        bundle.tail().one(payloads.unpack(payloads.pack(symbols)))


def _swap(temporary: Path, path: Path) -> None:
    """Put a finished folder in place; an older bundle is moved aside first and then removed."""
    if not path.exists():
        temporary.rename(path)
        return
    older = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.old")
    path.rename(older)
    try:
        temporary.rename(path)
    except OSError:
        older.rename(path)
        raise
    shutil.rmtree(older, ignore_errors=True)
