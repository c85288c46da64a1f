"""Sample ↔ payload, for the three routes that send something.

    split    symbols                ──coder──►    bytes    ──coder──►    symbols   → tail
    image    pixels                 ──picture──►  file     ──picture──►  pixels    → model
    raw      pixels or float32s     ──zlib──►     bytes    ──zlib──►     the same  → model

What a payload decodes to has the shape the manifest declares, or it is corrupt: no length in the
payload decides how much is allocated.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS
from narrows.coding.arrays import ArrayCodec
from narrows.coding.base import Coder
from narrows.errors import BundleError, NarrowsError
from narrows.runtime.bundle import Bundle
from narrows.runtime.manifest import SplitPlace


@final
class Payloads:
    """Writes and reads the payloads of one bundle.

    Raises:
        BundleError: The coder is unknown, or its table does not hold together.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        manifest = bundle.manifest
        self._shape, self._dtype = manifest.input.shape, np.dtype(manifest.input.dtype)
        if manifest.takes_pictures:
            self._shape, self._dtype = manifest.pixel_shape, np.dtype(np.uint8)
        self._arrays = ArrayCodec(compression="zlib" if manifest.deflate else "none")
        self._coder = None if manifest.split is None else _coder(bundle, manifest.split)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what is packed: symbols, pixels or the input."""
        place = self._bundle.manifest.split
        return self._shape if place is None else place.symbol_shape

    def pack(self, values: NDArray[Any]) -> bytes:
        """Symbols, pixels or an input to a payload."""
        if values.shape != self.shape:
            msg = f"a payload of {self._bundle.path} holds {self.shape}; got {values.shape}"
            raise BundleError(msg)
        if self._coder is not None:
            return self._coder.encode(values, self._bundle.table)
        if self._bundle.manifest.image is not None:
            return self._bundle.manifest.image.encode(values)
        return self._arrays.encode(values.astype(self._dtype, copy=False))

    def unpack(self, payload: bytes) -> NDArray[Any]:
        """A payload to symbols, pixels or an input.

        Raises:
            CorruptData: The payload is not what `pack` wrote.
        """
        if self._coder is not None:
            return self._coder.decode(payload, self.shape, self._bundle.table)
        if self._bundle.manifest.image is not None:
            return self._bundle.manifest.image.decode(payload, self._bundle.manifest.pixel_shape)
        return self._arrays.decode(payload, self._shape, self._dtype.name)


def _coder(bundle: Bundle, place: SplitPlace) -> Coder:
    """The bundle's coder, after one round trip with its table."""
    if place.coder not in CODERS:
        msg = f"{bundle.path} uses coder {place.coder!r}; this narrows has {', '.join(CODERS)}"
        raise BundleError(msg)
    coder = CODERS[place.coder]()
    symbols = np.zeros(place.symbol_shape, np.int32)
    try:
        payload = coder.encode(symbols, bundle.table)
        same = np.array_equal(coder.decode(payload, place.symbol_shape, bundle.table), symbols)
    except NarrowsError as error:
        msg = f"the tables of {bundle.path} cannot be used: {error}"
        raise BundleError(msg) from None
    if not same:
        msg = f"the tables of {bundle.path} do not code zeros: deploy again"
        raise BundleError(msg)
    return coder
