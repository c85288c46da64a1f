"""Errors as one line on standard error, or as JSON."""

from __future__ import annotations

import errno
import json
import os
import sys

from narrows.errors import NarrowsError, StorageError
from narrows.files import storage_error

_FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def failed(error: NarrowsError | OSError, *, as_json: bool) -> int:
    """Say what went wrong and give the exit code.

    Args:
        error: What was raised. An OSError is told in the same way if the disk was full or the path
            forbidden; any other is a bug and is raised again.
        as_json: One JSON object, `{"error": {"type": ..., "message": ...}}`, for programs.
    """
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left, as `head` does. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not isinstance(error, NarrowsError):
        error = _as_storage_error(error)
    message = " ".join(str(error).split())
    if as_json:
        shown = json.dumps({"error": {"type": type(error).__name__, "message": message}})
    else:
        shown = f"narrows: {message}"
    print(shown, file=sys.stderr)
    return 1


def _as_storage_error(error: OSError) -> StorageError:
    if error.errno not in _FULL_OR_FORBIDDEN:
        raise error
    return storage_error(error.filename or "standard output", error)
