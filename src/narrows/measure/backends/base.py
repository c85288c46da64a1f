"""Backend: a runtime that loads a model's file and runs it on this machine's processor."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from narrows.errors import MeasureError, MissingExtra

if TYPE_CHECKING:  # NumPy comes with the runtime, so that its import is measured with it
    from numpy.typing import NDArray

    Array = NDArray[Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a loaded model.

    Args:
        name: Its name.
        shape: Its shape; None where the model leaves an axis open.
        dtype: NumPy's name of its element type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Loaded(ABC):
    """A model that is ready to run.

    Args:
        inputs: What it is fed.
    """

    inputs: tuple[Input, ...]

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs of one call, in the model's order."""

    @abstractmethod
    def precision(self) -> str:
        """What the weight-bearing operators really run in, as the runtime tells."""


class Backend(ABC):
    """A runtime.

    Args:
        name: Its name on the command line.
        package: What it is imported as.
        distribution: What it is installed as.
        extra: The extra of narrows that brings it.
        suffixes: Endings of the files it reads.
        revision: Raised when narrows runs the same model otherwise, so that older results do not
            pass for new ones.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    distribution: ClassVar[str]
    extra: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    revision: ClassVar[int] = 1

    @abstractmethod
    def bring_in(self) -> None:
        """Import the library, all that running a model needs."""

    @abstractmethod
    def load(self, path: Path, *, threads: int) -> Loaded:
        """Load a model on the processor.

        Args:
            path: Its file.
            threads: Threads inside one call.

        Raises:
            NarrowsError: The runtime does not take it.
        """

    def check(self) -> None:
        """Whether the library is installed; it is not imported.

        Raises:
            MissingExtra: It is not.
        """
        if importlib.util.find_spec(self.package) is None:
            raise MissingExtra(f"measuring in {self.name}", self.extra)

    def check_file(self, path: Path) -> None:
        """Whether there is such a file, of a kind that this runtime reads.

        Raises:
            MeasureError: There is not.
        """
        if not path.is_file():
            msg = f"no model file {path}: give the path of a file {' or '.join(self.suffixes)}"
            raise MeasureError(msg)
        if path.suffix not in self.suffixes:
            msg = f"{self.name} does not read {path.name}: it reads {' and '.join(self.suffixes)}"
            raise MeasureError(msg)

    def version(self) -> str:
        """Version of the library."""
        return metadata.version(self.distribution)


def told_precision(kinds: Sequence[str]) -> str:
    """The precisions of the weight-bearing operators in words.

    Args:
        kinds: One for each operator: "f32", "i8", ...

    Example:
        >>> told_precision(["f32", "f32"]), told_precision(["i8", "f32", "i8"]), told_precision([])
        ('f32', 'mixed: 2 of 3 i8', 'no weights')
    """
    if not kinds:
        return "no weights"
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    if len(counts) == 1:
        return kinds[0]
    others = {kind: count for kind, count in counts.items() if kind != "f32"}
    told = ", ".join(f"{count} of {len(kinds)} {kind}" for kind, count in others.items())
    return f"mixed: {told}"
