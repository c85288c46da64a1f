"""Where data sets are: the folder that the variable NARROWS_DATA names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from narrows.errors import InputError

VARIABLE: Final = "NARROWS_DATA"


def data_folder(inner: str, what: str) -> Path:
    """The folder $NARROWS_DATA, or the one of this data set in it.

    Args:
        inner: The data set's own folder, where several are kept side by side.
        what: What messages call the data set.

    Raises:
        InputError: The variable is not set.
    """
    stated = os.environ.get(VARIABLE)
    if not stated:
        msg = f"the folder of {what} is not known: set {VARIABLE} to it"
        raise InputError(msg)
    own = Path(stated) / inner
    return own if own.is_dir() else Path(stated)
