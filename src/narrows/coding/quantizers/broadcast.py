"""The array library of a batch, what quantizers ask of one, and table values to compute with."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import CodecError, MissingExtra


def namespace(x: Any) -> Any:
    """The array API of a batch: its own, as NumPy's has one, or that of a wrapper, as for torch.

    Raises:
        MissingExtra: The batch is no NumPy array, and the wrapper is not installed.
    """
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    try:
        import array_api_compat
    except ImportError:
        msg = f"an array of type {type(x).__module__}.{type(x).__name__}"
        raise MissingExtra(msg, "lab") from None
    return array_api_compat.array_namespace(x)


def check_finite(x: Any) -> None:
    """Check a batch that is to be quantized.

    Raises:
        CodecError: A value is not finite.
    """
    xp = namespace(x)
    if not bool(xp.all(xp.isfinite(x))):
        msg = f"cannot quantize: a value of the array {tuple(x.shape)} is not finite; check it"
        raise CodecError(msg)


def check_samples(batch: NDArray[Any]) -> None:
    """Check a batch that a table is to be fitted to.

    Raises:
        CodecError: A value is not finite.
    """
    if not np.isfinite(batch).all():
        msg = f"cannot fit a table: a value of {batch.shape} is not finite; check the samples"
        raise CodecError(msg)


def check_whole(**counts: object) -> None:
    """Check settings that count something.

    Args:
        counts: By name.

    Raises:
        CodecError: One is no whole number.
    """
    for name, count in counts.items():
        if not isinstance(count, Integral):
            msg = f"{name} {count!r} asked for: expected a whole number"
            raise CodecError(msg)


def narrowed(batch: NDArray[Any]) -> NDArray[np.float32]:
    """A batch that a table is to be fitted to, in float32.

    Raises:
        CodecError: A value is not finite, or beyond float32.
    """
    check_samples(batch)
    with np.errstate(over="ignore"):
        narrow = np.asarray(batch, np.float32)
    if not np.isfinite(narrow).all():
        most = f"{np.finfo(np.float32).max:.2g}"
        msg = f"cannot fit a table: a value of {batch.shape} is beyond float32, ±{most}; scale it"
        raise CodecError(msg)
    return narrow


def beside(values: NDArray[Any], x: Any, dtype: Any) -> Any:
    """Table values in the array library, the type and on the device of a batch, ready to broadcast.

    Args:
        values: A scalar (), or one value per component (components,).
        x: Batch (n, components, positions...).
        dtype: Element type of the result, in x's array library.

    Raises:
        CodecError: There is neither one value nor one per component.
    """
    if values.ndim:
        if x.ndim < 2 or values.shape != (x.shape[1],):
            msg = (
                f"a table of {values.shape} values does not fit an array {tuple(x.shape)}; "
                "fit the quantizer to arrays of this shape"
            )
            raise CodecError(msg)
        values = values.reshape((-1,) + (1,) * (x.ndim - 2))
    xp = namespace(x)
    return xp.asarray(values, dtype=dtype, device=x.device)


def entries(values: Any, places: Any) -> Any:
    """Rows of a table by their places, in the array library of the places.

    Args:
        values: (rows, ...): a NumPy array, or an array of that library, which a gradient may reach.
        places: Integers of any shape.

    Returns:
        (*places, ...).

    Raises:
        CodecError: A place is not in the table.
    """
    xp = namespace(places)
    flat = xp.astype(xp.reshape(places, (-1,)), xp.int64)
    if flat.shape[0] and not bool(xp.all((flat >= 0) & (flat < values.shape[0]))):
        low, high = int(xp.min(flat)), int(xp.max(flat))
        msg = f"symbols {low} to {high} found in a table of {values.shape[0]}: take the right table"
        raise CodecError(msg)
    if isinstance(values, np.ndarray):
        values = xp.asarray(values, device=places.device)
    return xp.reshape(xp.take(values, flat, axis=0), (*places.shape, *values.shape[1:]))
