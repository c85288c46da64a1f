"""Fixed inputs of a model that is measured: random by shape, or from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.backends.base import Input

Array = NDArray[Any]

_LARGEST_NUMBERS: Final = 1 << 30


def random_feeds(
    inputs: Sequence[Input],
    *,
    shape: Sequence[int] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Random numbers for every input.

    Args:
        inputs: What the model is fed.
        shape: Of the one input whose axes are open, its batch included.
        batch: Entries of the first axis where it is open; one by default.
        seed: Of the numbers.

    Raises:
        MeasureError: A shape is not known, or does not fit the model's.

    Example:
        >>> feeds = random_feeds([Input(name="x", shape=(None, 3), dtype="float32")], batch=2)
        >>> feeds["x"].shape
        (2, 3)
    """
    rng = np.random.default_rng(seed)
    return {
        given.name: _random(given, _shape(given, shape, batch, len(inputs)), rng)
        for given in inputs
    }


def read_feeds(path: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    """Inputs from a file: .npy for the only one, .npz for several by name.

    Raises:
        MeasureError: The file cannot be read, or does not fit the model.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else found
    except OSError as error:
        msg = f"inputs {path} cannot be read: {error.strerror}"
        raise MeasureError(msg) from None
    except (ValueError, EOFError):
        msg = f"inputs {path} is no .npy or .npz file of numbers: write it with numpy.save"
        raise MeasureError(msg) from None
    if not isinstance(arrays, dict):
        arrays = {given.name: arrays for given in inputs}
    names = [given.name for given in inputs]
    if missing := [name for name in names if name not in arrays]:
        msg = f"inputs {path} lack {', '.join(missing)}: the model reads {', '.join(names)}"
        raise MeasureError(msg)
    for given in inputs:
        _check(given, arrays[given.name].shape, f"inputs {path}")
        _check_finite(arrays[given.name], f"inputs {path}")
    return {
        given.name: np.ascontiguousarray(arrays[given.name].astype(given.dtype)) for given in inputs
    }


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as the command line takes it; an open axis is a question mark.

    Example:
        >>> shape_text((None, 3, 224, 224))
        '?,3,224,224'
    """
    return ",".join("?" if size is None else str(size) for size in shape)


def _shape(
    given: Input, asked: Sequence[int] | None, batch: int | None, count: int
) -> tuple[int, ...]:
    """The shape that one input gets."""
    open_axes = [axis for axis, size in enumerate(given.shape) if size is None]
    if asked is not None and (count == 1 or open_axes):
        _check(given, asked, "the shape asked for")
        if batch is not None and asked[0] != batch:
            msg = f"--batch {batch} and --shape {shape_text(asked)} disagree: give one of them"
            raise MeasureError(msg)
        return tuple(asked)
    if any(axis != 0 for axis in open_axes):
        msg = (
            f"input {given.name!r} has the shape {shape_text(given.shape)}, open beyond the batch:"
            " say what to measure with --shape, e.g. --shape 1,3,224,224"
        )
        raise MeasureError(msg)
    if given.shape and given.shape[0] is not None and batch not in (None, given.shape[0]):
        msg = (
            f"input {given.name!r} has the fixed shape {shape_text(given.shape)}, batch {batch} was"
            " asked for: export the model with an open batch axis"
        )
        raise MeasureError(msg)
    return tuple(batch or 1 if size is None else size for size in given.shape)


def _check(given: Input, shape: Sequence[int], what: str) -> None:
    fits = len(shape) == len(given.shape) and all(
        wanted in (None, size) for wanted, size in zip(given.shape, shape, strict=True)
    )
    if not fits:
        msg = (
            f"{what} is {shape_text(shape)}, but input {given.name!r} has the shape"
            f" {shape_text(given.shape)}: give one that fits"
        )
        raise MeasureError(msg)


def _check_finite(values: Array, what: str) -> None:
    lost = int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0
    if lost:
        msg = (
            f"{lost} of {values.size} values of {what} are NaN or infinite: give some that the"
            " model may get"
        )
        raise MeasureError(msg)


def _random(given: Input, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if math.prod(shape) > _LARGEST_NUMBERS:
        msg = f"input {given.name!r} of {shape_text(shape)} is too large: give a smaller shape"
        raise MeasureError(msg)
    try:
        dtype = np.dtype(given.dtype)
    except TypeError:
        msg = f"input {given.name!r} holds {given.dtype}, not numbers: it cannot be made up"
        raise MeasureError(msg) from None
    if dtype.kind == "f":
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    if dtype in (np.dtype(np.uint8), np.dtype(np.int8)):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
