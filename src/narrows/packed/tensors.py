"""One tensor as a part of a packed file: symbols with the tables to read them, or its values.

Its entry in the header is described in `narrows.packed.entries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS, QUANTIZERS, Coder, Quantizer, Table
from narrows.coding.arrays import ArrayCodec
from narrows.coding.coders import Adaptive
from narrows.coding.coders.symbols import MAX_SYMBOLS
from narrows.config import from_dict, to_dict
from narrows.errors import CodecError, CorruptData, NarrowsError
from narrows.packed.entries import MOST_AXES, Stored, damaged, read_entry
from narrows.packed.exact import exact_grids
from narrows.packed.grid import Grid

_INTEGERS: Final = ("int8", "uint8", "int16", "uint16", "int32")  # which int32 holds
_LEAST_CODED: Final = 16


def pack_tensor(
    name: str, values: NDArray[Any], grid: Grid | None, coder: Coder
) -> tuple[dict[str, Any], bytes]:
    """A tensor as its entry in the header and its part.

    Args:
        name: Of the tensor.
        values: Numbers.
        grid: On which float32 values lie. Without one, integers are coded, and of other values
            whatever takes the fewest bytes: on a grid that they turn out to lie on, without their
            zeros, or as they are.
        coder: Of symbols.

    Raises:
        CodecError: The values do not lie on the grid, or are of a type that cannot be stored.
    """
    if values.ndim > MOST_AXES or values.size > MAX_SYMBOLS:
        msg = (
            f"{values.shape} has more than {MOST_AXES} axes or {MAX_SYMBOLS} numbers, which a "
            "packed file cannot hold: divide it"
        )
        raise CodecError(msg)
    if grid is not None and values.size:
        return _on_grid(name, values, grid, coder)
    if values.dtype.name in _INTEGERS and values.size >= _LEAST_CODED:
        return _entry(name, values, None, coder, _coded(values.astype(np.int32), coder))
    made = [_entry(name, values, None, None, [_raw("values", values)])]
    if values.dtype.name == "float32" and values.size >= _LEAST_CODED and np.isfinite(values).all():
        made += [_on_grid(name, values, one, coder) for one in exact_grids(values)]
        made += _sparse(name, values)
    return min(made, key=lambda tried: len(tried[1]))


def unpack_tensor(entry: Mapping[str, Any], part: bytes) -> tuple[NDArray[Any], Grid | None]:
    """A tensor, and the grid it lies on.

    Args:
        entry: Of the header; anything JSON can say.
        part: Of the file.

    Raises:
        CorruptData: They are not what `pack_tensor` made.
    """
    name, dtype, shape, stored = read_entry(entry)
    if sum(one.size_bytes for one in stored) != len(part):
        raise damaged(name, f"its arrays do not fill the {len(part)} bytes of its part")
    try:
        return _unpacked(entry, name, dtype, shape, stored, part)
    except (NarrowsError, KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise damaged(name, " ".join(str(error).split())[:200]) from error


def _unpacked(
    entry: Mapping[str, Any],
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    stored: Iterable[Stored],
    part: bytes,
) -> tuple[NDArray[Any], Grid | None]:
    *tables, last = stored
    found: dict[str, NDArray[Any]] = {}
    place = 0
    for one in tables:
        if one.key in found:
            raise CodecError(f"it has two arrays {one.key!r}")
        found[one.key] = _read_array(one, part[place : place + one.size_bytes])
        place += one.size_bytes
    data = part[place:]
    if entry["coder"] is None:
        if last.key != "values" or last.dtype != dtype or not set(found) <= {"mask"}:
            raise CodecError("it has neither values nor a coder")
        return _placed(_read_array(last, data), found.get("mask"), shape), None
    coder = CODERS[entry["coder"]]()
    if (last.key, last.dtype, last.coding) != ("symbols", "int32", coder.name):
        raise CodecError("its last array is not its symbols")
    own = isinstance(coder, Adaptive)  # needs no table in the file
    table = _table(coder, last.shape) if own else _under("coder.", found)
    symbols = coder.decode(data, last.shape, table)
    if last.shape == (1, prod(shape)):
        symbols = symbols.reshape(shape)
    if entry["quantizer"] is None:
        if symbols.shape != shape or dtype not in _INTEGERS:
            raise CodecError(f"symbols {last.shape} are no {dtype} {shape}")
        values = symbols.astype(dtype)
        if not np.array_equal(values, symbols):
            raise CodecError(f"its symbols leave {dtype}")
        return values, None
    quantizer = from_dict(QUANTIZERS[entry["quantizer"]["name"]], entry["quantizer"])
    grid = Grid(quantizer=quantizer, table=_under("quantizer.", found))
    grid.check_fits(symbols.shape, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        values = grid.values(symbols)
    if not np.isfinite(values).all():
        msg = "its table makes numbers that are not finite"
        raise CodecError(msg)
    if values.shape != shape or values.dtype.name != dtype:
        raise CodecError(f"it decodes to {values.dtype} {values.shape}, not {dtype} {shape}")
    return values, grid


def _on_grid(
    name: str, values: NDArray[Any], grid: Grid, coder: Coder
) -> tuple[dict[str, Any], bytes]:
    tables = [_array(f"quantizer.{key}", array) for key, array in grid.table.items()]
    symbols = grid.symbols(values)
    stored = [*tables, *_coded(symbols, coder, whole=symbols.size == values.size)]
    return _entry(name, values, grid.quantizer, coder, stored)


def _coded(
    symbols: NDArray[np.int32], coder: Coder, *, whole: bool = True
) -> list[tuple[Stored, bytes]]:
    """Symbols, and before them what their coder needs.

    Tables for each row cost more than they save where rows are short: then all are one row, if
    there is a symbol for each value, so that the rows are known again.
    """
    if isinstance(coder, Adaptive) or not whole:
        return _coded_as(symbols, coder)
    tried = (_coded_as(one, coder) for one in (symbols, symbols.reshape(1, -1)))
    return min(tried, key=lambda made: sum(len(data) for _, data in made))


def _coded_as(symbols: NDArray[np.int32], coder: Coder) -> list[tuple[Stored, bytes]]:
    table = _table(coder, symbols)
    needed = {} if isinstance(coder, Adaptive) else table
    data = coder.encode(symbols, table)
    told = Stored(
        key="symbols",
        dtype="int32",
        shape=symbols.shape,
        coding=coder.name,
        size_bytes=len(data),
    )
    return [*(_array(f"coder.{key}", array) for key, array in needed.items()), (told, data)]


def _sparse(name: str, values: NDArray[np.float32]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The numbers that are not zero, after a mask of them."""
    mask = values != 0
    if not mask.all():
        stored = [_array("mask", mask.astype(np.uint8)), _raw("values", values[mask])]
        yield _entry(name, values, None, None, stored)


def _entry(
    name: str,
    values: NDArray[Any],
    quantizer: Quantizer | None,
    coder: Coder | None,
    stored: list[tuple[Stored, bytes]],
) -> tuple[dict[str, Any], bytes]:
    entry = {
        "name": name,
        "dtype": values.dtype.name,
        "shape": list(values.shape),
        "quantizer": None if quantizer is None else to_dict(quantizer),
        "coder": None if coder is None else coder.name,
        "arrays": [[o.key, o.dtype, list(o.shape), o.coding, o.size_bytes] for o, _ in stored],
    }
    return entry, b"".join(data for _, data in stored)


def _array(key: str, array: NDArray[Any]) -> tuple[Stored, bytes]:
    """A table's array, coded where that takes fewer bytes."""
    raw = _raw(key, array)
    if array.dtype.name not in _INTEGERS or array.size < _LEAST_CODED:
        return raw
    symbols = array.astype(np.int32)
    data = Adaptive().encode(symbols, _table(Adaptive(), symbols.shape))
    if len(data) >= raw[0].size_bytes:
        return raw
    told = Stored(
        key=key,
        dtype=array.dtype.name,
        shape=array.shape,
        coding=Adaptive.name,
        size_bytes=len(data),
    )
    return told, data


def _raw(key: str, array: NDArray[Any]) -> tuple[Stored, bytes]:
    data = ArrayCodec().encode(array)
    told = Stored(
        key=key, dtype=array.dtype.name, shape=array.shape, coding="raw", size_bytes=len(data)
    )
    return told, data


def _placed(
    values: NDArray[Any], mask: NDArray[Any] | None, shape: tuple[int, ...]
) -> NDArray[Any]:
    """The values where a mask says, zero elsewhere; without a mask all there are."""
    if mask is None:
        if values.shape != shape:
            raise CodecError(f"values {values.shape} are no {shape}")
        return values
    good = mask.shape == shape and mask.dtype == np.uint8 and bool((mask <= 1).all())
    if not good or values.shape != (int(mask.sum()),):
        raise CodecError(f"values {values.shape} do not fit its mask {mask.shape}")
    placed = np.zeros(shape, values.dtype)
    placed[mask == 1] = values
    return placed


def _read_array(one: Stored, data: bytes) -> NDArray[Any]:
    if one.coding == "raw":
        return ArrayCodec().decode(data, one.shape, one.dtype)
    if one.coding != Adaptive.name or one.dtype not in _INTEGERS:
        msg = f"{one.key} is coded by {one.coding!r}: expected raw or adaptive"
        raise CorruptData(msg)
    symbols = Adaptive().decode(data, one.shape, _table(Adaptive(), one.shape))
    values = symbols.astype(one.dtype)
    if not np.array_equal(values, symbols):
        msg = f"{one.key} leaves {one.dtype}"
        raise CorruptData(msg)
    return values


def _table(coder: Coder, symbols: NDArray[np.int32] | tuple[int, ...]) -> Table:
    """The coder's table for symbols; for a shape alone that of no samples."""
    shape = symbols if isinstance(symbols, tuple) else symbols.shape
    fitter = coder.fitter(shape)
    if not isinstance(symbols, tuple):
        fitter.add(symbols[None])
    return fitter.table()


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
