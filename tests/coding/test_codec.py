"""A codec of one transform, one quantizer and one coder: every combination, fitted and used."""

from itertools import product

import numpy as np
import pytest

from narrows.coding import CODERS, QUANTIZERS, TRANSFORMS, Codec, fit
from narrows.errors import CodecError, CorruptData

# Their few values are for the tests of the quantizers to judge.
COARSE = ("codebook", "product", "residual", "sign")


def features(n=40, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(6, 6))
    x = generator.laplace(size=(n, 6, 5, 4))
    return np.einsum("dc,nchw->ndhw", mixing, x).astype(np.float32)


@pytest.mark.parametrize(
    ("transform", "quantizer", "coder"), list(product(TRANSFORMS, QUANTIZERS, CODERS))
)
def test_every_combination_decodes_what_it_encodes(transform, quantizer, coder):
    codec = Codec(
        transform=TRANSFORMS[transform](),
        quantizer=QUANTIZERS[quantizer](),
        coder=CODERS[coder](),
    )
    x = features()
    fitted = codec.fit(x)
    symbols = fitted.symbols(x[3])
    assert symbols.shape == fitted.component_shape
    assert symbols.dtype == np.int32
    payload = fitted.encode(x[3])
    decoded = fitted.decode(payload)
    assert decoded.shape == x[3].shape
    assert np.array_equal(decoded, fitted.restored(symbols))
    assert quantizer in COARSE or np.abs(decoded - x[3]).max() < 3
    assert np.abs(fitted.decode(fitted.encode(x[4])) - x[3]).max() > 1
    with pytest.raises(CorruptData):
        fitted.decode(b"")


def test_side_bytes_are_the_bytes_of_all_tables():
    codec = Codec(
        transform=TRANSFORMS["identity"](),
        quantizer=QUANTIZERS["uniform"](),
        coder=CODERS["raw"](),
    )
    # Step, threshold and shift as float32; a low (int32) and a width (uint8) for 6 components.
    assert codec.fit(features()).side_bytes == 3 * 4 + 6 * (4 + 1)


def test_fitting_to_nothing_is_an_error():
    with pytest.raises(CodecError, match="no samples"):
        fit(QUANTIZERS["affine"](), [])


def test_fit_pushes_every_batch():
    x = features()
    affine = QUANTIZERS["affine"]()
    assert fit(affine, iter([x[:10], x[10:]])) == fit(affine, [x])
