"""What quantizers ask of a batch, and table values ready to be computed with beside it."""

from __future__ import annotations

from typing import Any

import array_api_compat
from numpy.typing import NDArray

from narrows.errors import CodecError


def check_finite(x: Any) -> None:
    """Check a batch that is to be quantized.

    Raises:
        CodecError: A value is not finite.
    """
    xp = array_api_compat.array_namespace(x)
    if not bool(xp.all(xp.isfinite(x))):
        msg = f"cannot quantize: a value of the array {tuple(x.shape)} is not finite; check it"
        raise CodecError(msg)


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
    xp = array_api_compat.array_namespace(x)
    return xp.asarray(values, dtype=dtype, device=array_api_compat.device(x))
