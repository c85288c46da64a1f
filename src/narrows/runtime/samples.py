"""Inputs for a bundle: pictures or arrays, from files, folders or a stream.

A stream is what a camera process writes to our standard input: one path a line, or the files
themselves, each after its length in four little-endian bytes.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.runtime.manifest import Manifest
from narrows.splits import PICTURE_SUFFIXES

STANDARD_INPUT: Final = "-"
MAX_BLOB_BYTES: Final = 1 << 28

_ARRAYS: Final = frozenset([".npy"])
_LENGTH: Final = struct.Struct("<I")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one or more samples come from.

    Args:
        name: For people: a path, or "input 3" of a stream.
        content: A file, or the bytes of one.
    """

    name: str
    content: Path | bytes


def sources(
    inputs: Iterable[str], manifest: Manifest, stream: BinaryIO, *, blobs: bool = False
) -> Iterator[Source]:
    """What the arguments name, in order; folders sorted and with what lies below them.

    Args:
        inputs: Files, folders, or "-" for the stream.
        manifest: Says whether pictures or arrays are looked for in folders.
        stream: Standard input; read only as far as asked.
        blobs: Whether the stream holds files, each after its length, instead of paths.

    Raises:
        InputError: A folder holds nothing of the kind, or a stream of files is cut short.
    """
    endings = PICTURE_SUFFIXES if manifest.takes_pictures else _ARRAYS
    for text in inputs:
        path = Path(text)
        if text == STANDARD_INPUT:
            yield from _blobs(stream) if blobs else _paths(stream)
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings)
            if not found:
                msg = f"no input in folder {path}: looked for {', '.join(sorted(endings))}"
                raise InputError(msg)
            yield from (Source(name=str(file), content=file) for file in found)
        else:
            yield Source(name=text, content=path)


def _paths(stream: BinaryIO) -> Iterator[Source]:
    for line in stream:
        text = line.decode("utf-8", "surrogateescape").strip()
        if text:
            yield Source(name=text, content=Path(text))


def _blobs(stream: BinaryIO) -> Iterator[Source]:
    number = 0
    while head := stream.read(_LENGTH.size):
        size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_BLOB_BYTES + 1
        if size > MAX_BLOB_BYTES:
            msg = f"input {number} of the stream has no length below {MAX_BLOB_BYTES} before it"
            raise InputError(msg)
        data = stream.read(size)
        if len(data) != size:
            msg = f"the stream ends in input {number}: {size} bytes announced, {len(data)} came"
            raise InputError(msg)
        yield Source(name=f"input {number}", content=data)
        number += 1


def samples(source: Source, manifest: Manifest) -> Iterator[tuple[str, NDArray[Any]]]:
    """The samples in a source, with their names; an array file may hold several.

    Raises:
        InputError: It cannot be read, is not of the kind, or has another shape than the model's.
    """
    if manifest.takes_pictures and manifest.preprocess is not None:
        yield source.name, manifest.preprocess.pixels(source.content)
        return
    array = _array(source)
    wanted = manifest.input.shape
    if array.shape == wanted:
        yield source.name, array
    elif array.shape[1:] == wanted:
        for index, sample in enumerate(array):
            yield f"{source.name}[{index}]", sample
    else:
        msg = f"{source.name} holds {array.shape}; model {manifest.model!r} takes arrays {wanted}"
        raise InputError(msg)


def _array(source: Source) -> NDArray[Any]:
    """An .npy file whose length is what its header says."""
    name = source.name
    try:
        content = source.content
        data = content if isinstance(content, bytes) else content.read_bytes()
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            msg = f"{name} is an .npy file of version {version}: save it with numpy.save"
            raise InputError(msg)
        read = np.lib.format.read_array_header_1_0
        read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            # NumPy advises to save files of Python 2 again; they are read all the same.
            warnings.simplefilter("ignore")
            shape, column_first, dtype = read(file)
        start, count = file.tell(), int(np.prod(shape, dtype=object))
        if dtype.kind not in "fiub" or count * dtype.itemsize != len(data) - start:
            msg = f"{name} is not a whole .npy file of numbers: it says {dtype} {shape}"
            raise InputError(msg)
    except OSError as error:
        msg = f"cannot read {name}: {error.strerror}"
        raise InputError(msg) from None
    except InputError:
        raise
    except Exception as error:  # the header is parsed as Python, which raises what it likes
        msg = f"{name} is not an .npy file: {error}"
        raise InputError(msg) from None
    array = np.frombuffer(data, dtype, count, start)
    return array.reshape(shape, order="F" if column_first else "C")
