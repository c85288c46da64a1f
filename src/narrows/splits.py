"""Labelled samples: read from a table, a folder or an array file, divided, and kept apart."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from narrows.contents import digest, file_size
from narrows.errors import TaskError

PICTURE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
)
Kind = Literal["image", "array", "series"]
# Where one set is given for all three.
SHARES: Final = MappingProxyType({"fit": 0.25, "choose": 0.25, "report": 0.5})


def check_kind(kind: object) -> None:
    """Refuse a kind of data that is none of ours.

    Raises:
        TaskError: It is not.
    """
    if kind not in get_args(Kind):
        msg = f"kind of data is {kind!r}: expected one of {', '.join(get_args(Kind))}"
        raise TaskError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One sample and its label.

    Args:
        source: A picture's path, or an array.
        label: A class number, or an array of targets.
    """

    source: Path | NDArray[Any]
    label: Any


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """A sized sequence of examples. Pictures stay on disk until they are asked for.

    Args:
        sources: Paths, or an array with samples on its first axis.
        labels: int64 class numbers (n,), or float32 targets (n, ...).

    Example:
        >>> split = Split(sources=np.zeros((2, 5), np.float32), labels=np.array([3, 1]))
        >>> len(split), int(split.example(1).label)
        (2, 1)
    """

    sources: Sequence[Path] | NDArray[Any]
    labels: NDArray[Any]

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.sources)

    def __iter__(self) -> Iterator[Example]:
        """The examples in order."""
        return (self.example(index) for index in range(len(self)))

    def example(self, index: int) -> Example:
        """The example at a place."""
        return Example(source=self.sources[index], label=self.labels[index])

    def take(self, places: NDArray[np.int64]) -> Split:
        """The examples at these places."""
        sources = self.sources
        taken = sources[places] if isinstance(sources, np.ndarray) else [sources[i] for i in places]
        return Split(sources=taken, labels=self.labels[places])

    def digest(self) -> str:
        """Of the samples' content, their labels and their order; not of where files lie.

        Raises:
            TaskError: A file cannot be read.
        """
        found = hashlib.blake2b(digest_size=16)
        found.update(f"{self.labels.dtype.str} {self.labels.shape}".encode())
        found.update(np.ascontiguousarray(self.labels).tobytes())
        for source in self.sources:
            if not isinstance(source, Path):
                found.update(f"{source.dtype.str} {source.shape}".encode())
            found.update(digest(source))
        return found.hexdigest()


def read_split(path: Path, *, root: Path | None, names: Sequence[str] | None) -> Split:
    """Read labelled samples.

    Args:
        path: A table `file,label` (.csv), a folder with one sub-folder per class, or an array
            file with `x` and `y` (.npz).
        root: What a table's file names start from; by default the table's own folder.
        names: Class names, where labels are given as names.

    Raises:
        TaskError: Something is missing, empty, or not labelled as said.
    """
    if path.is_dir():
        return _read_folder(path, names)
    if not path.exists():
        msg = f"no data at {path}: expected a table (.csv), a folder of class folders, or .npz"
        raise TaskError(msg)
    readers = {".csv": lambda: _read_table(path, root or path.parent, names)}
    readers[".npz"] = lambda: _read_arrays(path)
    if path.suffix.lower() not in readers:
        msg = f"cannot read data from {path.name}: expected .csv, .npz or a folder"
        raise TaskError(msg)
    split = readers[path.suffix.lower()]()
    if not len(split):
        msg = f"{path} holds no samples: give it at least one"
        raise TaskError(msg)
    return split


def class_folders(path: Path) -> tuple[str, ...]:
    """The class names of a folder of class folders, in order."""
    return tuple(sorted(child.name for child in path.iterdir() if child.is_dir()))


def divide(split: Split, shares: Mapping[str, float], *, seed: int) -> dict[str, Split]:
    """Divide one set into several at random, each sample going to one of them.

    Args:
        split: The samples.
        shares: Name of each part and its share; shares sum to 1.
        seed: The same seed divides the same way.

    Raises:
        TaskError: There are too few samples for every part to get one.

    Example:
        >>> whole = Split(sources=np.arange(8), labels=np.arange(8))
        >>> parts = divide(whole, {"fit": 0.25, "report": 0.75}, seed=0)
        >>> {name: len(part) for name, part in parts.items()}
        {'fit': 2, 'report': 6}
    """
    order = np.random.default_rng(seed).permutation(len(split))
    ends = np.round(np.cumsum(list(shares.values())) * len(split)).astype(int)
    parts = dict(zip(shares, np.split(order, ends[:-1]), strict=True))
    if empty := [name for name, places in parts.items() if not len(places)]:
        msg = f"{len(split)} samples are too few to divide: nothing is left for {empty[0]!r}"
        raise TaskError(msg)
    return {name: split.take(np.sort(places)) for name, places in parts.items()}


def divided_text(name: str, shares: Mapping[str, float], seed: int) -> str:
    """How a set was divided, in words.

    Example:
        >>> divided_text("all data", {"fit": 0.5, "report": 0.5}, seed=0)
        'all data divided at random (seed 0): fit 50%, report 50%'
    """
    parts = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
    return f"{name} divided at random (seed {seed}): {parts}"


def check_disjoint(splits: Mapping[str, Split]) -> None:
    """Refuse sets that share a sample, by its content.

    Raises:
        TaskError: Two sets hold the same picture or array.
    """
    owners: dict[object, tuple[str, object]] = {}
    for name, place, key in _keys(splits):
        first, other = owners.setdefault(key, (name, place))
        if first != name:
            msg = (
                f"sets {first!r} and {name!r} share a sample ({other} and {place}): numbers chosen "
                "on one and reported on the other would flatter; take it out of one of them"
            )
            raise TaskError(msg)


def _keys(splits: Mapping[str, Split]) -> Iterator[tuple[str, object, object]]:
    """(set, place, something equal for equal samples); files are read only if sizes coincide."""
    by_size: defaultdict[int, list[tuple[str, Path]]] = defaultdict(list)
    for name, split in splits.items():
        for index, source in enumerate(split.sources):
            if isinstance(source, Path):
                by_size[file_size(source)].append((name, source))
            else:
                yield name, f"number {index}", digest(source)
    for same_size in by_size.values():
        if len({name for name, _ in same_size}) > 1:
            for name, path in same_size:
                yield name, path, digest(path)


def _read_table(path: Path, root: Path, names: Sequence[str] | None) -> Split:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = [row for row in csv.reader(file) if row]
        except (csv.Error, UnicodeDecodeError) as error:
            msg = f"{path} is no table: {error}"
            raise TaskError(msg) from None
    if rows and [cell.strip().lower() for cell in rows[0][:2]] == ["file", "label"]:
        rows = rows[1:]
    if short := [number for number, row in enumerate(rows, 1) if len(row) < 2]:
        msg = f"{path}, row {short[0]}: expected file,label"
        raise TaskError(msg)
    files = [root / row[0].strip() for row in rows]
    if missing := [file for file in files if not file.is_file()]:
        msg = f"{path} names {len(missing)} of {len(files)} files that are not there: {missing[0]}"
        raise TaskError(msg)
    numbers = {name: number for number, name in enumerate(names or ())}
    labels = [_label(row[1].strip(), numbers, path) for row in rows]
    return Split(sources=files, labels=np.asarray(labels, np.int64))


def _label(text: str, numbers: Mapping[str, int], path: Path) -> int:
    if text in numbers:
        return numbers[text]
    try:
        return int(text)
    except ValueError:
        known = ", ".join(list(numbers)[:5]) or "none are stated"
        msg = f"{path}: label {text!r} is no number and no class name (class names: {known})"
        raise TaskError(msg) from None


def _read_folder(path: Path, names: Sequence[str] | None) -> Split:
    files, labels = [], []
    folders = class_folders(path)
    numbers = {name: number for number, name in enumerate(names or folders)}
    for name in folders:
        found = sorted(f for f in (path / name).iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
        files += found
        labels += [_label(name, numbers, path)] * len(found)
    if not files:
        msg = f"no pictures in {path}: expected one sub-folder per class with pictures in it"
        raise TaskError(msg)
    return Split(sources=files, labels=np.asarray(labels, np.int64))


def _read_arrays(path: Path) -> Split:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if missing := {"x", "y"} - set(file.files):
                msg = f"{path} lacks array {min(missing)!r}: it has {', '.join(file.files)}"
                raise TaskError(msg)
            x, y = file["x"], file["y"]
    except TaskError:
        raise
    except Exception as error:
        # NumPy and zipfile raise a dozen kinds for a damaged archive.
        reason = error if zipfile.is_zipfile(path) else "numpy.savez did not write it"
        msg = f"cannot read arrays from {path}: {reason}"
        raise TaskError(msg) from None
    return array_split(x, y, name=str(path))


def array_split(x: NDArray[Any], y: NDArray[Any], *, name: str = "the data") -> Split:
    """A split of arrays in memory, checked.

    Args:
        x: Samples (n, ...), numbers.
        y: Class numbers (n,), or targets (n, ...) in floating point.
        name: What messages call it.

    Raises:
        TaskError: Lengths differ, or the values are no numbers, or not finite.
    """
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        msg = f"{name}: x has shape {x.shape}, y has {y.shape}: expected one label per sample"
        raise TaskError(msg)
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiu":
        msg = f"{name}: x is {x.dtype} and y is {y.dtype}: expected numbers"
        raise TaskError(msg)
    for letter, array in (("x", x), ("y", y)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            first = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
            msg = f"{name}: {letter}[{first}] has values that are NaN or infinite: clean the data"
            raise TaskError(msg)
    return Split(sources=x, labels=y.astype(np.float32 if y.dtype.kind == "f" else np.int64))
