"""Grids that a tensor lies on exactly, found from its values alone.

A method, or another framework, may have left weights on a few values: those of a codebook,
multiples of a step for each output, or fixed point. Whoever packs them need not know which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.quantizers import Affine, Codebook, FixedPoint
from narrows.coding.quantizers.codebook import codebook_table
from narrows.errors import CodecError
from narrows.packed.grid import Grid

_MOST_CENTRES: Final = 4096
_LEAST_A_CENTRE: Final = 4  # numbers, or the centres take more than they save
_MOST_MULTIPLE: Final = 127
_MOST_FIXED_BITS: Final = 16
_NEIGHBOURS: Final = 3
_LOOKED_AT: Final = 2**18  # of the numbers, before all are
_DIVISIONS: Final = 32


def exact_grids(values: NDArray[np.float32]) -> Iterator[Grid]:
    """Grids on which all of these numbers lie, of those that it knows.

    Args:
        values: (rows, ...), finite.
    """
    for part in (values.reshape(-1)[:_LOOKED_AT], values):
        different = np.unique(part)
        if different.size > 2**_MOST_FIXED_BITS:
            return
    if different.size <= min(_MOST_CENTRES, values.size // _LEAST_A_CENTRE):
        codebook = Codebook(
            levels=max(2, different.size), reserve_zero=bool((different == 0).any())
        )
        yield Grid(quantizer=codebook, table=codebook_table(different))
    yield from _fixed_point(different)
    yield from _multiples(values, different)


def _fixed_point(different: NDArray[np.float32]) -> Iterator[Grid]:
    """Multiples of a power of two."""
    _, exponents = np.frexp(different[different != 0])
    if not exponents.size:
        return
    wide, least = different.astype(np.float64), int(exponents.max())
    for bits in range(2, _MOST_FIXED_BITS + 1):
        for integer_bits in (least, least + 1):  # only the lower end reaches a power of two
            try:
                quantizer = FixedPoint(integer_bits=integer_bits, fraction_bits=bits - integer_bits)
            except CodecError:
                return
            if np.array_equal(quantizer.convert(wide), wide):
                yield Grid(quantizer=quantizer, table={})
                return


def _multiples(values: NDArray[np.float32], different: NDArray[np.float32]) -> Iterator[Grid]:
    """Multiples of one step, or of a step for each row."""
    step = _step(different)
    if step is not None:
        yield _affine(np.array(step, np.float32))
        return
    if values.ndim < 2:
        return
    steps = []
    for row in values:
        found = _step(np.unique(row))
        if found is None:
            return
        steps.append(found)
    yield _affine(np.array(steps, np.float32))


def _affine(scale: NDArray[np.float32]) -> Grid:
    quantizer = Affine(granularity="channel" if scale.ndim else "tensor")
    return Grid(
        quantizer=quantizer, table={"scale": scale, "zero_point": np.zeros(scale.shape, np.int32)}
    )


def _step(different: NDArray[np.float32]) -> np.float32 | None:
    """The step of which numbers are exactly the multiples that float32 has, if there is one."""
    if different.size > 2 * _MOST_MULTIPLE + 1:
        return None
    sizes = np.unique(np.abs(different[different != 0]).astype(np.float64))
    if not sizes.size:
        return np.float32(1)
    # Euclid's algorithm, up to what float32 has rounded; that is evened out after every number.
    step, slack = sizes[0], sizes[-1] * 2.0**-11
    for number, size in enumerate(sizes, start=1):
        step, rest = size, step
        for _ in range(_DIVISIONS):
            if rest <= slack:
                break
            step, rest = rest, abs(step - rest * round(step / rest))
        multiples = np.rint(sizes[:number] / step)
        step = sizes[:number] @ multiples / (multiples @ multiples)
    multiples = np.rint(sizes / step)
    if multiples[-1] > _MOST_MULTIPLE or multiples[0] < 1:
        return None
    # Float32 has rounded each multiple: the step is one of those next to what the largest says.
    tried = np.float32(sizes[-1] / multiples[-1])
    for _ in range(_NEIGHBOURS):
        tried = np.nextafter(tried, np.float32(0))
    for _ in range(2 * _NEIGHBOURS + 1):
        if np.array_equal(multiples.astype(np.float32) * tried, sizes.astype(np.float32)):
            return np.float32(tried)
        tried = np.nextafter(tried, np.float32(np.inf))
    return None
