"""What the header of a packed file says of a tensor.

    {"name": "fc.weight", "dtype": "float32", "shape": [10, 84],
     "quantizer": {"name": "scaled", "step": 0.01},   null where the tensor itself holds integers
     "coder": "adaptive",                             null where the values are stored as they are
     "arrays": [["quantizer.rows", "int8", [10], "adaptive", 9], …, ["symbols", "int32", …]]}

The part is those arrays one after the other; the last number is how many bytes each takes. A "raw"
array is little-endian, an "adaptive" one holds integers coded by `Adaptive`. The last array is
"values", raw, or "symbols", coded by the tensor's coder, whose own tables are "coder.…". Values
may follow a "mask" of ones and zeros: then they are those at its ones, and the others are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, final

from narrows.coding.arrays import DTYPES
from narrows.coding.coders.symbols import MAX_SYMBOLS
from narrows.errors import CorruptData

MOST_AXES: Final = 8
_MOST_ARRAYS: Final = 16
_KEYS: Final = {"name", "dtype", "shape", "quantizer", "coder", "arrays"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An array within a part.

    Args:
        key: "quantizer.…" or "coder.…" of a table, "symbols" or "values".
        dtype: Element type.
        shape: Of the array.
        coding: "raw", "adaptive", or the name of a coder.
        size_bytes: Within the part.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    size_bytes: int


def read_entry(
    entry: Mapping[str, Any],
) -> tuple[str, str, tuple[int, ...], tuple[Stored, ...]]:
    """Name, element type, shape and arrays of a tensor.

    Raises:
        CorruptData: It is no entry that `pack_tensor` makes.
    """
    if not isinstance(entry, Mapping) or set(entry) != _KEYS or type(entry["name"]) is not str:
        msg = "the header does not say what one of its tensors is; pack the model again"
        raise CorruptData(msg)
    name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
    arrays = entry["arrays"]
    if not isinstance(arrays, list) or not 1 <= len(arrays) <= _MOST_ARRAYS:
        raise damaged(name, "it names no arrays")
    if dtype not in DTYPES or not _is_shape(shape):
        raise damaged(name, f"it is said to be {dtype!r} {shape!r}")
    stored = []
    for array in arrays:
        good = isinstance(array, list) and len(array) == 5 and _is_shape(array[2])
        if not good or array[1] not in DTYPES or type(array[4]) is not int or array[4] < 0:
            raise damaged(name, f"{array!r} is no array")
        key, kind, size, coding, size_bytes = array
        stored.append(
            Stored(
                key=str(key),
                dtype=kind,
                shape=tuple(size),
                coding=str(coding),
                size_bytes=size_bytes,
            )
        )
    return name, dtype, tuple(shape), tuple(stored)


def _is_shape(shape: Any) -> bool:
    good = isinstance(shape, list) and len(shape) <= MOST_AXES
    return good and all(type(n) is int and n >= 0 for n in shape) and prod(shape) <= MAX_SYMBOLS


def damaged(name: str, reason: str) -> CorruptData:
    """What is said of a tensor that cannot be read."""
    return CorruptData(f"tensor {name!r} of the packed file is damaged: {reason}; copy it again")
