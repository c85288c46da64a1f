"""Numbers and names out of sysfs, where a file is one line of text and may go at any time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from narrows.errors import MeasureError

_LONGEST = 4096


def read_number(path: str) -> int:
    """The whole number in a file, not negative.

    The file is opened anew each time: an open one would go on telling its last value after the
    device has gone.

    Raises:
        MeasureError: The file has gone, cannot be read or holds something else.
    """
    text = read_line(path)
    try:
        value = int(text)
    except ValueError:
        shown = text[:40]
        msg = f"{path} should hold a whole number and holds {shown!r}: is this sensor broken?"
        raise MeasureError(msg) from None
    if value < 0:
        msg = (
            f"{path} shows {value}: energy, power, voltage and current of a consumer are not"
            " negative; turn the shunt round, or leave this rail out"
        )
        raise MeasureError(msg)
    return value


def read_line(path: str) -> str:
    """The text of a file without the spaces around it.

    Raises:
        MeasureError: The file has gone or cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            return os.read(file, _LONGEST).decode("utf-8", "replace").strip()
        finally:
            os.close(file)
    except OSError as error:
        raise MeasureError(f"cannot read {path}: {_why(error, path)}") from None


def line_or_none(path: Path) -> str | None:
    """The text of a file, or None where there is none or nothing in it."""
    try:
        return read_line(str(path)) or None
    except MeasureError:
        return None


def number_or_none(path: Path) -> int | None:
    """The whole number in a file, or None where there is no such file or number."""
    text = line_or_none(path)
    return int(text) if text is not None and text.isdecimal() else None


def _why(error: OSError, path: str) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission; run: sudo chmod a+r {path}"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return "it is not there (any more); was the sensor unplugged or its driver unloaded?"
    if error.errno in (errno.EAGAIN, errno.ENODATA, errno.EIO, errno.ETIMEDOUT):
        return f"the device does not answer ({error.strerror}); is its channel enabled?"
    return error.strerror or str(error)
