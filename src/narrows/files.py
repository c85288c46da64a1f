"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from narrows.errors import StorageError


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file that is there whole or not at all, under a temporary name in its own folder.

    Raises:
        StorageError: The disk is full or the path cannot be written. Nothing is left behind, and
            an older file of this name is untouched.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(path, error, len(content)) from error


def storage_error(path: str | Path, error: OSError, size_bytes: int | None = None) -> StorageError:
    """What to raise when a write to `path` failed: what was asked, what was found, what to do."""
    size = "" if size_bytes is None else f" {size_bytes} bytes"
    advice = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "the disk quota is used up: free some space",
        errno.EACCES: "no permission: choose another folder",
        errno.EPERM: "no permission: choose another folder",
        errno.EROFS: "the disk is read-only: choose another folder",
        errno.ENOENT: "its folder does not exist: make it first",
        errno.ENOTDIR: "its folder is a file: choose another folder",
        errno.EEXIST: "there is a file of that name: choose another folder",
        errno.EISDIR: "there is a folder of that name: choose another name",
    }.get(error.errno or 0, error.strerror or str(error))
    found = StorageError(f"cannot write{size} to {path}: {advice}; nothing was written")
    found.errno = error.errno  # with a file name set too, str() would show only these
    return found
