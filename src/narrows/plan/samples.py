"""One set of a task, decoded once: pixels wait in a file, so memory does not grow with the set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.files import storage_error
from narrows.splits import Split
from narrows.task import Task

Rows = NDArray[np.int64]


@final
class Samples:
    """Some examples of one set, ready to be read again and again in any order.

    Pictures are decoded and cropped the first time and their pixels kept in `folder`; arrays are
    read from where they are.

    Args:
        task: Whose preprocessing to apply.
        split: The set.
        count: Examples to take, spread evenly over the set; None for all.
        folder: Where the pixels wait.
        name: Of the file there.
    """

    def __init__(
        self, task: Task, split: Split, *, count: int | None, folder: Path, name: str
    ) -> None:
        total = len(split)
        taken = min(total, count) if count is not None else total
        self._places: Rows = np.arange(taken, dtype=np.int64) * total // max(1, taken)
        self._task, self._split = task, split
        self._path = folder / f"{name}.pixels"
        self.labels: NDArray[Any] = split.labels[self._places]
        self.pictures = task.kind == "image"

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self._places)

    @property
    def rows(self) -> Rows:
        """All of them, in order."""
        return np.arange(len(self), dtype=np.int64)

    def prepare(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Decode what is not decoded yet.

        Args:
            progress: Called with 1 for every example.

        Raises:
            InputError: A picture cannot be read; the message names it.
            StorageError: The disk is full.
        """
        if not self.pictures or self._complete():
            return
        temporary = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                for place in self._places:
                    file.write(self._task.pixels(self._split.example(int(place))).tobytes())
                    progress(1)
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, InputError):
                raise
            raise storage_error(self._path, error) from error

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """One decoded picture, (H, W, C)."""
        shape = self._pixel_shape()
        size = int(np.prod(shape))
        with self._path.open("rb") as file:
            found = np.fromfile(file, np.uint8, size, offset=row * size)
        return found.reshape(shape)

    def array(self, row: int) -> NDArray[Any]:
        """What crosses the link on the raw route: pixels of a picture, else the input itself."""
        return self.pixels(row) if self.pictures else self.inputs(np.array([row]))[0]

    def inputs(self, rows: Rows) -> NDArray[np.float32]:
        """Inputs of the network (n, *input_shape).

        Raises:
            InputError: An array holds something not finite.
        """
        if self.pictures:
            return np.stack([self._task.to_input(self.pixels(int(row))) for row in rows])
        batch = [
            self._task.inputs(self._split, int(place), int(place) + 1)[0]
            for place in self._places[rows]
        ]
        return np.concatenate(batch)

    def batches(self, rows: Rows, size: int) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
        """Rows and their inputs, `size` at a time."""
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield part, self.inputs(part)

    def spread(self, count: int) -> Rows:
        """`count` rows (all, if there are fewer) spread evenly."""
        taken = min(count, len(self))
        return np.arange(taken, dtype=np.int64) * len(self) // max(1, taken)

    def mixed(self) -> Rows:
        """All rows in an order whose every beginning is spread over the set."""
        order = np.random.default_rng(0).permutation(len(self))
        return order.astype(np.int64)

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _complete(self) -> bool:
        wanted = len(self) * int(np.prod(self._pixel_shape()))
        return self._path.is_file() and self._path.stat().st_size == wanted

    def _pixel_shape(self) -> tuple[int, int, int]:
        preprocess = self._task.preprocess
        assert preprocess.size is not None
        return (*preprocess.size, preprocess.channels)
