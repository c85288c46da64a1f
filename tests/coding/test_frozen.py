"""Bytes that earlier versions wrote are still read, and still written the same."""

import json

import freeze
import numpy as np
import pytest

from narrows.coding import CODERS, ImageCodec


@pytest.mark.parametrize("name", sorted(CODERS))
def test_frozen_bytes_are_read_and_written(name):
    path = freeze.FOLDER / f"{name}.json"
    assert path.exists(), f"no frozen bytes of {name}: run python tests/coding/freeze.py"
    frozen = json.loads(path.read_text())
    coder = CODERS[frozen["coder"]]()
    table = {
        key: np.array(array["values"], array["dtype"]).reshape(array["shape"])
        for key, array in frozen["table"].items()
    }
    samples = freeze.symbols_to_freeze()[6:]
    for symbols, payload in zip(samples, frozen["payloads"], strict=True):
        data = bytes.fromhex(payload)
        assert np.array_equal(coder.decode(data, symbols.shape, table), symbols)
        assert coder.encode(symbols, table) == data


def test_frozen_symbols_reach_every_part_of_the_formats():
    symbols = freeze.symbols_to_freeze()
    assert (symbols[7] != 0).any()
    assert symbols.max() == 2**31 - 1
    assert 0.3 < (symbols == 0).mean() < 0.9
    assert len({int(value) for value in symbols[0].ravel()}) > 15


@pytest.mark.parametrize("name", freeze.FORMATS)
def test_frozen_pictures_are_read(name):
    data = (freeze.FOLDER / f"picture.{name}").read_bytes()
    pixels = ImageCodec(format=name, quality=1).decode(data, freeze.IMAGE_SHAPE)
    error = np.abs(pixels.astype(int) - freeze.picture())
    assert error.mean() < 12
