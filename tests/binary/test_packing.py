"""Signs and bytes come back from their bits, and the filling is zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from narrows.binary.packing import pack_planes, pack_signs, unpack_signs, words_for
from narrows.errors import InputError

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 150))


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.sampled_from([-1.5, -0.0, 0.0, 2.0])))
def test_signs_come_back_and_zero_is_plus_one(values: np.ndarray) -> None:
    words, count = pack_signs(values), values.shape[-1]
    assert words.dtype == np.uint64
    assert words.shape == (*values.shape[:-1], words_for(count))
    assert (unpack_signs(words, count) == np.where(values >= 0, 1, -1)).all()
    bits = sum(int(word).bit_count() for word in words.reshape(-1))
    assert bits == (values >= 0).sum()  # so the filling is zero


@settings(deadline=None)
@given(hnp.arrays(np.uint8, SHAPES))
def test_planes_are_the_digits_of_bytes(values: np.ndarray) -> None:
    planes, count = pack_planes(values), values.shape[-1]
    assert planes.shape == (*values.shape[:-1], 8, words_for(count))
    digits = (unpack_signs(planes, count).astype(int) + 1) // 2
    weights = 2 ** np.arange(8)
    assert (np.einsum("...bn,b->...n", digits, weights) == values).all()


def test_words_of_another_number_of_bits_are_refused() -> None:
    with pytest.raises(InputError, match="65 bits take 2 words"):
        unpack_signs(np.zeros((3, 1), np.uint64), 65)
