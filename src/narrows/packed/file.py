"""A packed file as named tensors: written whole, read whole or one tensor at a time.

The header says what kind of file it is and names every tensor (`narrows.packed.entries`); part i is
tensor i. What else a kind needs stands in the header beside, or in parts after the tensors'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import Coder
from narrows.coding.coders import Adaptive
from narrows.errors import CodecError, CorruptData, InputError
from narrows.packed.container import Container, read_container, write_container
from narrows.packed.entries import Stored, read_entry
from narrows.packed.grid import Grid
from narrows.packed.tensors import pack_tensor, unpack_tensor

MOST_BYTES: Final = 1 << 32
"""What a file may decode to, unless more is asked for."""
KINDS: Final = ("tensors", "network", "onnx")


def pack(
    tensors: Mapping[str, NDArray[Any]],
    *,
    grids: Mapping[str, Grid] | None = None,
    coder: Coder | None = None,
    kind: str = "tensors",
    extra: Mapping[str, Any] | None = None,
    more: Sequence[bytes] = (),
    like: PackedFile | None = None,
) -> bytes:
    """The bytes of a packed file.

    Args:
        tensors: By name.
        grids: Of those tensors whose values lie on one. The others are stored exactly too, on a
            grid where one can be seen from their values (`narrows.packed.exact`); only a zero may
            come back without its sign.
        coder: Of symbols; by default `Adaptive`.
        kind: One of `KINDS`.
        extra: JSON for the header.
        more: Parts after those of the tensors.
        like: A file whose tensors of the same names are taken as they lie there, where they have
            the same values.

    Raises:
        CodecError: A tensor does not lie on its grid, or cannot be stored; or a grid is of none.

    Example:
        >>> from narrows.coding.quantizers import Scaled
        >>> weight = np.array([[0.5, -1.0], [0.0, 2.0]], np.float32)
        >>> quantizer = Scaled(step=0.5)
        >>> grid = Grid(quantizer=quantizer, table=quantizer.fitter((2, 2)).table())
        >>> data = pack({"weight": weight}, grids={"weight": grid})
        >>> unpack(data)["weight"].tolist()
        [[0.5, -1.0], [0.0, 2.0]]
    """
    if unknown := sorted(set(grids or {}) - set(tensors)):
        msg = f"there are grids for {', '.join(unknown[:5])}, which are no tensors here"
        raise CodecError(msg)
    entries, parts = [], []
    for name, values in tensors.items():
        if like is not None and like.holds(name, values):
            entries.append(like.entries[name])
            parts.append(like.part(name))
            continue
        try:
            entry, part = pack_tensor(name, values, (grids or {}).get(name), coder or Adaptive())
        except CodecError as error:
            msg = f"tensor {name!r} cannot be packed: {error}"
            raise CodecError(msg) from error
        entries.append(entry)
        parts.append(part)
    header = {"kind": kind, **(extra or {}), "tensors": entries}
    return write_container(header, [*parts, *more])


def unpack(source: bytes | str | Path) -> dict[str, NDArray[Any]]:
    """The tensors of a packed file of any kind.

    Raises:
        InputError: There is no such file.
        CorruptData: It is damaged.
    """
    file = PackedFile.open(source)
    return {name: file.tensor(name) for name in file.names}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedFile:
    """An open packed file; each tensor is decoded when it is asked for.

    Args:
        container: The envelope.
        kind: One of `KINDS`.
        entries: Of the header, by the name of the tensor.
    """

    container: Container
    kind: str
    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(
        cls, source: bytes | str | Path, *, name: str | None = None, most_bytes: int = MOST_BYTES
    ) -> PackedFile:
        """Read the header.

        Args:
            source: A path, or bytes.
            name: For messages; by default the path.
            most_bytes: Refuse a file that says it decodes to more.

        Raises:
            InputError: There is no such file.
            CorruptData: It is no packed file, damaged, or decodes to more than is allowed.
        """
        container = read_container(source, name=name)
        kind, entries = container.header.get("kind"), container.header.get("tensors")
        if kind not in KINDS or not isinstance(entries, list):
            raise _corrupt(container, f"it is of kind {kind!r}, expected {', '.join(KINDS)}")
        if len(entries) > len(container.parts):
            raise _corrupt(container, f"{len(entries)} tensors in {len(container.parts)} parts")
        named: dict[str, Mapping[str, Any]] = {}
        total = 0
        for entry in entries:
            found, dtype, shape, stored = read_entry(entry)
            if found in named:
                raise _corrupt(container, f"two of its tensors are called {found!r}")
            named[found] = entry
            sizes = ((dtype, shape), *((one.dtype, one.shape) for one in stored))
            total += max(prod(size) * np.dtype(kind).itemsize for kind, size in sizes)
        if total > most_bytes:
            raise _corrupt(container, f"it decodes to {total} bytes, allowed are {most_bytes}")
        return cls(container=container, kind=str(kind), entries=named)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors, in their order."""
        return tuple(self.entries)

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor.

        Raises:
            InputError: The file has none of this name.
            CorruptData: Its part is damaged.
        """
        return self._read(name)[0]

    def grid(self, name: str) -> Grid | None:
        """The grid a tensor lies on, if it lies on one."""
        return self._read(name)[1]

    def holds(self, name: str, values: NDArray[Any]) -> bool:
        """Whether it has a tensor of this name with these values."""
        if name not in self.entries:
            return False
        found = self.tensor(name)
        return found.dtype == values.dtype and np.array_equal(found, values)

    def part(self, name: str) -> bytes:
        """The part of a tensor it has.

        Raises:
            CorruptData: It is damaged.
        """
        return self.container.read(self.names.index(name))

    def content(self) -> bytes:
        """All of it.

        Raises:
            InputError: The file is not there any more.
        """
        return self.container.content()

    def more(self, number: int) -> bytes:
        """A part after those of the tensors, from 0.

        Raises:
            CorruptData: There is none, or it is damaged.
        """
        place = len(self.entries) + number
        if place >= len(self.container.parts):
            raise _corrupt(self.container, f"part {place} of its {self.kind} is missing")
        return self.container.read(place)

    def stored(self) -> Iterator[tuple[str, tuple[int, ...], tuple[Stored, ...]]]:
        """Name, shape and arrays of each tensor."""
        for entry in self.entries.values():
            name, _, shape, stored = read_entry(entry)
            yield name, shape, stored

    def _read(self, name: str) -> tuple[NDArray[Any], Grid | None]:
        if name not in self.entries:
            msg = f"{self.container.name} has no tensor {name!r}: it has {', '.join(self.names)}"
            raise InputError(msg)
        return unpack_tensor(self.entries[name], self.part(name))


def _corrupt(container: Container, reason: str) -> CorruptData:
    return CorruptData(f"{container.name} is damaged: {reason}; copy it again")
