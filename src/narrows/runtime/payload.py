"""Sample ↔ payload, for the three routes that send something.

    split    symbols                ──coder──►    bytes    ──coder──►    symbols   → tail
    image    pixels                 ──picture──►  file     ──picture──►  pixels    → model
    raw      pixels or float32s     ──zlib──►     bytes    ──zlib──►     the same  → model

What a payload decodes to has the shape the manifest declares, or it is corrupt: no length in the
payload decides how much is allocated.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS
from narrows.coding.base import Coder
from narrows.errors import BundleError, CorruptData, NarrowsError
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
        data = np.ascontiguousarray(values, self._dtype.newbyteorder("<")).tobytes()
        return zlib.compress(data, 6) if self._bundle.manifest.deflate else data

    def unpack(self, payload: bytes) -> NDArray[Any]:
        """A payload to symbols, pixels or an input.

        Raises:
            CorruptData: The payload is not what `pack` wrote.
        """
        if self._coder is not None:
            return self._coder.decode(payload, self.shape, self._bundle.table)
        if self._bundle.manifest.image is not None:
            return self._bundle.manifest.image.decode(payload, self._bundle.manifest.pixel_shape)
        size = math.prod(self._shape) * self._dtype.itemsize
        data = _inflate(payload, size) if self._bundle.manifest.deflate else payload
        if len(data) != size:
            msg = f"a raw payload of {len(data)} bytes; {self._shape} has {size}"
            raise CorruptData(msg)
        little = np.frombuffer(data, self._dtype.newbyteorder("<")).reshape(self._shape)
        return little.astype(self._dtype)


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


def _inflate(payload: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(payload, size + 1)
    except zlib.error as error:
        msg = f"a raw payload is not deflated data: {error}"
        raise CorruptData(msg) from None
    if not inflater.eof or inflater.unused_data or len(data) > size:
        msg = f"a raw payload inflates to other than {size} bytes, or has bytes after its end"
        raise CorruptData(msg)
    return data
