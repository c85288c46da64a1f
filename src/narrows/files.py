"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from narrows.errors import StorageError

_TRIAL_BYTES = 1 << 16


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file that is there whole or not at all, under a temporary name in its own folder.

    Raises:
        StorageError: The disk is full or the path cannot be written. Nothing is left behind, and
            an older file of this name is untouched.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    with _temporary(path, content) as temporary:
        temporary.replace(path)


def check_writable(path: str | Path, size_bytes: int = _TRIAL_BYTES) -> None:
    """Refuse a file that could not be written, before the long work whose result it is to hold.

    Args:
        path: The file. It is not touched; a trial file beside it is written and removed.
        size_bytes: About how large it will be.

    Raises:
        StorageError: The disk is full or the path cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise storage_error(path, OSError(errno.EISDIR, ""))
    with _temporary(path, bytes(size_bytes)) as temporary:
        temporary.unlink()


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is not there.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


@contextmanager
def folders(*paths: Path) -> Iterator[None]:
    """Make folders with their parents, to be filled inside this context.

    If that fails, those that were made here and are still empty are removed again.

    Raises:
        StorageError: One cannot be made.
    """
    made: list[Path] = []
    try:
        for path in paths:
            made += [place for place in (path, *path.parents) if not place.exists()]
            make_folder(path)
        yield
    except BaseException:
        for place in sorted(made, key=lambda found: -len(found.parts)):
            with suppress(OSError):  # never made, or something is in it
                place.rmdir()
        raise


@contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    """A file with this content beside `path`; gone in the end unless it has been renamed."""
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
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
