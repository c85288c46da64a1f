"""The TOML file of a task, read strictly. docs/task.md describes it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from narrows.config import from_dict, to_dict
from narrows.errors import TaskError
from narrows.metrics import load_metric
from narrows.preprocess import Preprocess, preset, with_size
from narrows.splits import (
    SHARES,
    Split,
    check_kind,
    class_folders,
    divide,
    divided_text,
    read_split,
)

SETS: Final = ("fit", "choose", "report")


def read_task_file(path: Path, *, default: Preprocess | None = None) -> dict[str, Any]:
    """What the file says, as the arguments of a Task.

    Args:
        path: The file; what it names is searched for in its folder.
        default: Used where the file does not say how pictures are prepared.

    Raises:
        TaskError: A key is unknown, or what it names does not fit.
        ConfigError: A preset or a value of the preprocessing is not known.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"not TOML: {error}"
        raise TaskError(msg) from None
    _known(table, ("name", "metric", "labels", "data", "preprocess"), "the file")
    data = table.get("data")
    if not isinstance(data, dict):
        msg = "no [data] section: state kind and where the data is"
        raise TaskError(msg)
    _known(data, ("kind", "root", "seed", "overlap", "all", *SETS), "[data]")
    folder, kind = path.parent, data.get("kind", "image")
    check_kind(kind)
    labels = _labels(table.get("labels"), data, folder)
    sets, division = _sets(data, folder, labels)
    return {
        "name": str(table.get("name", path.stem)),
        "kind": kind,
        "metric": load_metric(str(table.get("metric", "top1")), folder=folder),
        "preprocess": _preprocess(table.get("preprocess", {}), kind, default),
        "labels": labels,
        "division": division,
        "overlap": data.get("overlap", "refuse"),
        **sets,
    }


def _known(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    if unknown := [name for name in table if name not in names]:
        msg = f"unknown key {unknown[0]!r} in {where}: known are {', '.join(names)}"
        raise TaskError(msg)


def _labels(stated: object, data: Mapping[str, Any], folder: Path) -> tuple[str, ...] | None:
    """Class names: a list, a file with one per line, or a folder's sub-folders."""
    if isinstance(stated, list):
        return tuple(map(str, stated))
    if isinstance(stated, str):
        try:
            lines = (folder / stated).read_text(encoding="utf-8-sig").splitlines()
        except OSError:
            msg = f"no labels file {folder / stated}: it holds one class name per line"
            raise TaskError(msg) from None
        return tuple(line.strip() for line in lines if line.strip())
    if stated is not None:
        msg = f"labels is a {type(stated).__name__}: expected a list of names, or a file"
        raise TaskError(msg)
    paths = [folder / str(data[name]) for name in ("all", *SETS) if name in data]
    folders = [class_folders(path) for path in paths if path.is_dir()]
    return tuple(sorted({name for names in folders for name in names})) or None


def _sets(
    data: Mapping[str, Any], folder: Path, labels: tuple[str, ...] | None
) -> tuple[dict[str, Split], str]:
    """The three sets, and how they came about."""
    root = folder / data["root"] if "root" in data else None
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or seed < 0:
        msg = f"seed is {seed!r}: expected a whole number from 0"
        raise TaskError(msg)
    given = {
        name: read_split(folder / str(data[name]), root=root, names=labels)
        for name in ("all", *SETS)
        if name in data
    }
    if set(given) == set(SETS):
        return given, "three sets, as given"
    if set(given) == {"fit", "report"}:
        halves = {"fit": 0.5, "choose": 0.5}
        parts = divide(given["fit"], halves, seed=seed)
        return {**parts, "report": given["report"]}, divided_text("fit", halves, seed)
    if len(given) == 1:
        (name, whole), *_ = given.items()
        return divide(whole, SHARES, seed=seed), divided_text(name, SHARES, seed)
    msg = (
        f"[data] states {', '.join(given) or 'no set'}: state one set (it is divided), "
        "fit and report, or fit, choose and report"
    )
    raise TaskError(msg)


def _preprocess(table: Mapping[str, Any], kind: str, default: Preprocess | None) -> Preprocess:
    """What the file states, over its preset or else the model's own preprocessing."""
    names = [field.name for field in fields(Preprocess)]
    _known(table, ["preset", *names] if kind == "image" else names, "[preprocess]")
    stated = dict(table)
    for key in ("mean", "std"):
        if isinstance(stated.get(key), int | float):
            stated[key] = [stated[key]]
    name, size = stated.pop("preset", None), stated.get("size")
    if kind != "image":
        base = Preprocess()
    elif name is not None:
        base = preset(str(name))
    elif default is not None:
        base = default
    elif size is not None:
        base = Preprocess(size=(1, 1), scale=255.0)
    else:
        msg = "nothing says how to prepare pictures: state preset or size under [preprocess]"
        raise TaskError(msg)
    if isinstance(size, int):
        base = with_size(base, size)
        del stated["size"]
    return from_dict(Preprocess, to_dict(base) | stated)
