"""Frozen dataclass ↔ JSON, strict both ways.

A value's fields are its configuration. `to_dict` writes every one of them and `from_dict` wants
every one of them back: an unknown or a missing key is an error that names it, so a file of an
older or newer version cannot be half understood. Every file carries `"format": N`, N being the
class's `FORMAT` (1 where it states none).

    dataclass              → object, one key per field; first "name" where the class has a
                             `name: ClassVar[str]` (that is how one of several classes is told)
    tuple, list, Sequence  → array
    Mapping[str, X]        → object
    Enum                   → its value        Path → text        bytes → base64 text
    float                  → number; "inf", "-inf" and "nan" as text, because JSON has none
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from narrows.errors import ConfigError, InputError, shown
from narrows.files import storage_error as storage_error
from narrows.files import write_atomic as write_atomic

T = TypeVar("T")
Json = Any  # what json.loads gives; checked field by field


def to_dict(value: object) -> Json:
    """A value as what JSON can hold.

    Args:
        value: A dataclass instance, or anything the module's table lists.

    Raises:
        ConfigError: Something in it has no place in the table.

    Example:
        >>> from narrows.errors import NarrowsError
        >>> @dataclasses.dataclass(frozen=True)
        ... class Link:
        ...     bandwidth_bits_per_s: float
        ...     hops: tuple[str, ...] = ()
        >>> to_dict(Link(250e3, ("lora",)))
        {'bandwidth_bits_per_s': 250000.0, 'hops': ['lora']}
    """
    if value is None or isinstance(value, str | bool):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return to_dict(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {"name": tag} if (tag := _tag(type(value))) else {}
        return out | {f.name: to_dict(getattr(value, f.name)) for f in _fields(type(value))}
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {_text_key(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_dict(item) for item in value]
    msg = (
        f"cannot write a {type(value).__name__} as JSON: give numbers, text, tuples or dataclasses"
    )
    raise ConfigError(msg)


def from_dict(cls: type[T], data: Json) -> T:
    """The value that `to_dict` wrote.

    Args:
        cls: What it should be: a dataclass, or any annotation a field may have.
        data: What JSON gave.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of another type; the message gives
            its place. Also whatever the class's own checks say.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Link:
        ...     speed: float
        >>> from_dict(Link, {"bandwidth": 3})
        Traceback (most recent call last):
        narrows.errors.ConfigError: Link: unknown key 'bandwidth'; missing key 'speed'
    """
    name = getattr(cls, "__name__", str(cls))
    value: T = _read(cls, data, name)
    return value


def read_json(path: str | Path, cls: type[T]) -> T:
    """The value that `write_json` wrote to `path`.

    Raises:
        InputError: There is no such file.
        ConfigError: It is not JSON, has another format number, or does not hold a `cls`.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not JSON: {error}"
        raise ConfigError(msg) from None
    wanted = format_number(cls)
    found = data.pop("format", None) if isinstance(data, dict) else None
    if found != wanted or isinstance(found, bool):
        msg = (
            f"{path} has format {found}, a {cls.__name__} here has format {wanted}: "
            "write it again with this version of narrows"
        )
        raise ConfigError(msg)
    try:
        return from_dict(cls, data)
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None


def write_json(path: str | Path, value: object) -> None:
    """Write a dataclass as a JSON file with its format number.

    Raises:
        ConfigError: The value cannot be written as JSON.
        StorageError: The file cannot be written; what was there before is untouched.
    """
    data = {"format": format_number(type(value))} | to_dict(value)
    write_atomic(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def format_number(cls: type) -> int:
    """The format number of files that hold a `cls`."""
    return int(getattr(cls, "FORMAT", 1))


def _text_key(key: object) -> str:
    if not isinstance(key, str):
        msg = f"cannot write key {key!r} as JSON: keys are text"
        raise ConfigError(msg)
    return key


@cache
def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(cls) if field.init)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _tag(cls: type) -> str | None:
    tag = cls.__dict__.get("name")
    is_field = any(field.name == "name" for field in dataclasses.fields(cls))
    return tag if isinstance(tag, str) and not is_field else None


def _read(hint: Any, data: Json, where: str) -> Any:
    """`data` as a `hint`; `where` is its place, for messages."""
    origin = get_origin(hint)
    if hint is Any or hint is object:
        return data
    if origin in (Union, types.UnionType):
        return _read_union(get_args(hint), data, where)
    if origin is Literal:
        return data if data in get_args(hint) else _refuse(where, _choices(get_args(hint)), data)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, data, where)
    if origin is tuple:
        return _read_tuple(get_args(hint), data, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            _refuse(where, "an object", data)
        inner = get_args(hint)[1]
        return {key: _read(inner, item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _read_tuple(
            (get_args(hint)[0], ...), data, where, origin if origin is list else tuple
        )
    return _read_leaf(hint, data, where)


def _read_leaf(hint: Any, data: Json, where: str) -> Any:
    if hint is None or hint is type(None):
        return None if data is None else _refuse(where, "null", data)
    if hint is float:
        if data in ("inf", "-inf", "nan"):
            return float(data)
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        return float(data) if is_number else _refuse(where, "a number", data)
    if hint is int:
        is_whole = isinstance(data, int) and not isinstance(data, bool)
        return data if is_whole else _refuse(where, "a whole number", data)
    if hint in (str, bool):
        return data if isinstance(data, hint) else _refuse(where, _NAMES[hint], data)
    if isinstance(hint, type) and issubclass(hint, Enum):
        values = [member.value for member in hint]
        return hint(data) if data in values else _refuse(where, _choices(values), data)
    if isinstance(hint, type) and issubclass(hint, Path):
        return hint(data) if isinstance(data, str) else _refuse(where, "text", data)
    if hint is bytes:
        try:
            return base64.b64decode(data, validate=True)
        except (ValueError, TypeError):
            _refuse(where, "base64 text", data)
    msg = f"{where}: a field of type {hint} cannot be read from JSON"
    raise ConfigError(msg)


_NAMES = {str: "text", bool: "true or false"}


def _read_dataclass(cls: type, data: Json, where: str) -> Any:
    if not isinstance(data, dict):
        _refuse(where, f"an object ({cls.__name__})", data)
    tag, names = _tag(cls), [field.name for field in _fields(cls)]
    expected = ["name", *names] if tag else names
    problems = [f"unknown key {key!r}" for key in data if key not in expected]
    problems += [f"missing key {key!r}" for key in expected if key not in data]
    if tag and data.get("name", tag) != tag:
        problems.append(f"name {data['name']!r}, expected {tag!r}")
    if problems:
        msg = f"{where}: {'; '.join(problems)}"
        raise ConfigError(msg)
    hints = _hints(cls)
    values = {name: _read(hints[name], data[name], f"{where}.{name}") for name in names}
    try:
        return cls(**values)
    except ConfigError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from None


def _read_union(options: Sequence[Any], data: Json, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    options = [option for option in options if option is not type(None)]
    if isinstance(data, dict) and (named := [o for o in options if _named(o, data)]):
        return _read(named[0], data, where)
    problems = []
    for option in options:
        try:
            return _read(option, data, where)
        except ConfigError as error:
            problems.append(str(error))
    raise ConfigError("; or ".join(problems))


def _named(option: Any, data: dict[str, Json]) -> bool:
    tag = _tag(typing.cast(type, option)) if dataclasses.is_dataclass(option) else None
    return tag is not None and data.get("name") == tag


def _read_tuple(hints: Sequence[Any], data: Json, where: str, kind: type = tuple) -> Any:
    if not isinstance(data, list | tuple):
        _refuse(where, "an array", data)
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = [hints[0]] * len(data)
    if len(hints) != len(data):
        _refuse(where, f"an array of {len(hints)}", data)
    places = enumerate(zip(hints, data, strict=True))
    return kind(_read(hint, item, f"{where}[{i}]") for i, (hint, item) in places)


def _choices(values: Sequence[Any]) -> str:
    return f"one of {shown(list(values))}"


def _refuse(where: str, wanted: str, found: Json) -> typing.NoReturn:
    shown = repr(found)
    shown = shown if len(shown) < 60 else f"{shown[:57]}..."
    msg = f"{where}: expected {wanted}, found {shown}"
    raise ConfigError(msg)
