"""The TOML file of a study, read strictly. docs/study.md describes it."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from narrows.config import from_dict
from narrows.errors import ConfigError, InputError, MissingExtra
from narrows.references import is_model_file
from narrows.study.methods import METHODS
from narrows.study.settings import ORIGINAL, NetworkSettings, StudySettings, is_line, one_of

_PLACE = re.compile(r"\$\{(\w+)\}")


def read_settings(path: str | Path, *, places: Mapping[str, str] | None = None) -> StudySettings:
    """Read a study's file.

    Args:
        path: The TOML file; files it names are searched for in its folder.
        places: What `${NAME}` stands for; names that are not here are environment variables.

    Raises:
        InputError: The file cannot be read.
        ConfigError: It is not TOML, a key or value is not known, or a `${NAME}` stands for nothing.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; give the TOML file of a study"
        raise InputError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from None
    try:
        filled = _filled(table, {**os.environ, **(places or {})})
        return _settings(filled, path.parent)
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None


def _settings(table: Mapping[str, Any], folder: Path) -> StudySettings:
    check_known(table, ("study", "network"), "the file")
    study = dict(_table(table.get("study"), "[study]"))
    own = {field.name for field in dataclasses.fields(StudySettings)} - {"networks"}
    check_known(study, (*sorted(own), "variants", "variant", "calibration"), "[study]")
    usual = (study.pop("variants", [ORIGINAL]), study.pop("variant", []))
    calibration = study.pop("calibration", 64)
    listed = table.get("network", [])
    if not isinstance(listed, list):
        msg = "[network] is one table: write [[network]], once for each"
        raise ConfigError(msg)
    networks = [
        _network(dict(_table(entry, "[[network]]")), usual, calibration, folder) for entry in listed
    ]
    return from_dict(
        StudySettings,
        {"name": folder.name, **_defaults(StudySettings), **study} | {"networks": networks},
    )


def _network(
    entry: dict[str, Any], usual: tuple[Any, Any], calibration: Any, folder: Path
) -> dict[str, Any]:
    own = [field.name for field in dataclasses.fields(NetworkSettings)]
    where = f"[[network]] {entry.get('name', '')}".strip()
    check_known(entry, (*own, "variant"), where)
    for key in ("name", "model"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            msg = f"{where}: {key} is missing: state it as text"
            raise ConfigError(msg)
    names = entry.pop("variants", usual[0])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = f"{where}: variants is {names!r}: expected a list of names"
        raise ConfigError(msg)
    for name in names:
        one_of(name, (ORIGINAL, *METHODS), f"{where}: variant")
    variants = [
        {"name": name, "methods": [name], "model": None} for name in names if name != ORIGINAL
    ]
    variants.insert(0, {"name": ORIGINAL, "methods": [], "model": None})
    listed = (*_tables(usual[1], "[[study.variant]]"), *_tables(entry.pop("variant", []), where))
    variants += [_variant(extra, f"{where}, variant", folder) for extra in listed]
    stated = {**_defaults(NetworkSettings), "calibration": calibration, **entry}
    found = {key: _placed(stated[key], folder) for key in ("model", "task")}
    return {**stated, **found, "variants": variants}


def _variant(extra: Mapping[str, Any], where: str, folder: Path) -> dict[str, Any]:
    check_known(extra, ("name", "method", "model"), where)
    methods = extra.get("method", [])
    methods = [methods] if isinstance(methods, str) else methods
    if not isinstance(methods, list) or not all(isinstance(one, str) for one in methods):
        msg = f"{where}: method is {methods!r}: expected text, or a list of texts"
        raise ConfigError(msg)
    for line in filter(is_line, methods):
        _check_line(line)
    rest = {key: value for key, value in extra.items() if key not in ("method", "model")}
    return {**rest, "methods": methods, "model": _placed(extra.get("model"), folder)}


def _check_line(line: str) -> None:
    """Refuse a line that `narrows compress` would refuse."""
    try:
        from narrows.compress.catalog import method_of
    except ImportError:
        what = f"method {line!r}"
        raise MissingExtra(what, "lab") from None
    method_of(line)


def _placed(named: Any, folder: Path) -> Any:
    """A file as seen from the study's folder; names of other kinds as they are."""
    is_file = isinstance(named, str) and (is_model_file(named) or named.endswith(".toml"))
    return str(folder / named) if is_file else named


def _defaults(cls: type) -> dict[str, Any]:
    fields = dataclasses.fields(cls)
    return {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in fields
        if field.default is not dataclasses.MISSING
    }


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    """`value` with every ${NAME} of its texts replaced."""
    if isinstance(value, dict):
        return {key: _filled(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, places) for item in value]
    if not isinstance(value, str):
        return value
    for name in _PLACE.findall(value):
        if name not in places:
            msg = f"{value!r}: nothing says what ${{{name}}} is: give --set {name}=VALUE"
            raise ConfigError(msg)
    return _PLACE.sub(lambda found: places[found[1]], value)


def _tables(value: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        msg = f"{where}: variant is one table: write it in double brackets, once for each"
        raise ConfigError(msg)
    return [_table(entry, where) for entry in value]


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        msg = f"no {where} section: a study has one [study] and a [[network]] for each network"
        raise ConfigError(msg)
    return value


def check_known(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse keys that are not among `names`, and name the nearest.

    Raises:
        ConfigError: There is one.

    Example:
        >>> check_known({"thread": 1}, ("threads", "name"), "[study]")
        Traceback (most recent call last):
        narrows.errors.ConfigError: [study]: unknown key 'thread': did you mean 'threads'? ...
    """
    for key in table:
        one_of(key, names, f"{where}: unknown key", refused="")
