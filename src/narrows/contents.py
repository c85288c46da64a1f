"""What a sample holds, byte for byte: to tell samples apart, and to know them again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import TaskError


def file_size(path: Path) -> int:
    """Bytes of a sample's file.

    Raises:
        TaskError: It is not there.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None


def digest(source: Path | NDArray[Any]) -> bytes:
    """Of a file's or an array's bytes, 16 of them.

    Raises:
        TaskError: The file cannot be read.

    Example:
        >>> digest(np.zeros(4)) == digest(np.zeros((2, 2)))
        True
    """
    if not isinstance(source, Path):
        return _hash(np.ascontiguousarray(source).tobytes())
    try:
        return _hash(source.read_bytes())
    except OSError as error:
        raise _unreadable(source, error) from None


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _unreadable(path: Path, error: OSError) -> TaskError:
    reason = error.strerror or str(error)
    return TaskError(f"cannot read the sample {path}: {reason}; take it out of its set")
