"""Kernels of bits against products of integers, written out."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import narrows.binary
from narrows.binary import ALWAYS, NEVER, FromBytes, FromSigns, Layer, Scores, Signs, Window
from narrows.binary.kernels import choose_kernels
from narrows.binary.packing import pack_signs, unpack_signs
from narrows.errors import ConfigError, MissingExtra, ModelError

KERNELS = ("numpy", "compiled")


def naive_sums(x: np.ndarray, w: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """Σ w · x with x (n, H, W, channels) and w (outputs, height, width, channels), by loops."""
    (tall, wide), (down, across), (above, left) = window.kernel, window.stride, window.padding
    margin = ((0, 0), (above, above), (left, left), (0, 0))
    padded = np.pad(x.astype(np.int64), margin, constant_values=fill)
    height = (padded.shape[1] - tall) // down + 1
    width = (padded.shape[2] - wide) // across + 1
    sums = np.zeros((len(x), height, width, len(w)), np.int64)
    for i, j in np.ndindex(height, width):
        seen = padded[:, i * down : i * down + tall, j * across : j * across + wide]
        sums[:, i, j] = np.einsum("nhwc,ohwc->no", seen, w)
    return sums


def naive_signs(sums: np.ndarray, readout: Signs) -> np.ndarray:
    """The sign of each sum, then the maximum of those whose order is kept, else the minimum."""
    signs = np.where((sums >= readout.threshold) != readout.flip, 1, -1)
    if readout.pool is None:
        return signs
    (tall, wide), (down, across) = readout.pool.kernel, readout.pool.stride
    height, width = (sums.shape[1] - tall) // down + 1, (sums.shape[2] - wide) // across + 1
    found = np.zeros((len(sums), height, width, sums.shape[3]), np.int64)
    for i, j in np.ndindex(height, width):
        seen = signs[:, i * down : i * down + tall, j * across : j * across + wide]
        found[:, i, j] = np.where(readout.flip, seen.min((1, 2)), seen.max((1, 2)))
    return found


def signs_of(random: np.random.Generator, *shape: int) -> np.ndarray:
    return 2 * random.integers(0, 2, shape) - 1


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    return {
        "window": Window(
            kernel=kernel,
            stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
            padding=(padding[0], padding[1]),
        ),
        "size": tuple(draw(st.integers(k, k + 5)) for k in kernel),
        "channels": draw(st.sampled_from([1, 3, 63, 64, 65, 130])),
        "outputs": draw(st.sampled_from([1, 10, 64, 65, 129])),
        "count": draw(st.integers(0, 3)),
        "pooled": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


LINEAR = {
    "window": Window(kernel=(1, 1)),
    "size": (1, 1),
    "channels": 300,
    "outputs": 200,
    "count": 2,
    "pooled": False,
    "seed": 0,
}


def readouts(
    random: np.random.Generator, sums: np.ndarray, *, pooled: bool
) -> tuple[Signs, Scores]:
    """Thresholds among the sums, hit exactly by some, and some that are never or always met."""
    outputs = sums.shape[-1]
    drawn = random.choice(sums.reshape(-1), outputs) if sums.size else np.zeros(outputs)
    threshold = drawn.astype(np.int32)
    special = random.integers(0, 8, outputs)
    threshold[special == 0], threshold[special == 1] = ALWAYS, NEVER
    size = (sums.shape[1], sums.shape[2])
    fits = pooled and min(size) >= 2
    pool = Window(kernel=(2, 2), stride=(1 + int(random.integers(2)), 2)) if fits else None
    flip = random.integers(0, 2, outputs).astype(bool)
    gain, offset = random.normal(size=(2, outputs)).astype(np.float32)
    return Signs(threshold=threshold, flip=flip, pool=pool), Scores(gain=gain, offset=offset)


@pytest.mark.parametrize("name", KERNELS)
@settings(deadline=None, max_examples=60)
@given(convolutions())
@example(LINEAR)
def test_products_of_signs_are_those_of_integers(name: str, case: dict[str, Any]) -> None:
    random = np.random.default_rng(case["seed"])
    window, channels = case["window"], case["channels"]
    w = signs_of(random, case["outputs"], *window.kernel, channels)
    x = signs_of(random, case["count"], *case["size"], channels)
    sums = naive_sums(x, w, window, 0)
    product = FromSigns(weight=pack_signs(w), channels=channels, window=window)
    signs, scores = readouts(random, sums, pooled=case["pooled"])
    kernels, words = choose_kernels(name), pack_signs(x)
    found = kernels.step(Layer(product=product, readout=signs), case["size"])(words)
    assert (unpack_signs(found, case["outputs"]) == naive_signs(sums, signs)).all()
    assert (pack_signs(unpack_signs(found, case["outputs"])) == found).all()  # filled with zeros
    found = kernels.step(Layer(product=product, readout=scores), case["size"])(words)
    assert np.allclose(found, scores.gain * sums + scores.offset, atol=1e-4)


@pytest.mark.parametrize("name", KERNELS)
@settings(deadline=None, max_examples=60)
@given(convolutions(), st.integers(0, 255))
@example(LINEAR, 128)
def test_products_of_bytes_are_those_of_integers(
    name: str, case: dict[str, Any], fill: int
) -> None:
    random = np.random.default_rng(case["seed"])
    window, channels, outputs = case["window"], case["channels"], case["outputs"]
    w = signs_of(random, outputs, *window.kernel, channels)
    x = random.integers(0, 256, (case["count"], *case["size"], channels)).astype(np.uint8)
    sums = naive_sums(x, w, window, fill)
    weight = pack_signs(w.reshape(outputs, -1))
    product = FromBytes(weight=weight, channels=channels, window=window, fill=fill)
    signs, scores = readouts(random, sums, pooled=case["pooled"])
    kernels = choose_kernels(name)
    found = kernels.step(Layer(product=product, readout=signs), case["size"])(x)
    assert (unpack_signs(found, outputs) == naive_signs(sums, signs)).all()
    found = kernels.step(Layer(product=product, readout=scores), case["size"])(x)
    assert np.allclose(found, scores.gain * sums + scores.offset, rtol=1e-5, atol=1e-3)


def test_a_sum_equal_to_its_threshold_is_up_and_one_below_is_not() -> None:
    weight = pack_signs(np.ones((2, 1, 1, 5)))
    product = FromSigns(weight=weight, channels=5, window=Window(kernel=(1, 1)))
    threshold, flip = np.array([3, 3], np.int32), np.array([False, True])
    layer = Layer(product=product, readout=Signs(threshold=threshold, flip=flip))
    x = pack_signs(np.array([[1, 1, 1, 1, -1], [1, 1, 1, -1, -1]])).reshape(2, 1, 1, 1)
    for name in KERNELS:
        found = choose_kernels(name).step(layer, (1, 1))(x)
        assert unpack_signs(found, 2).reshape(2, 2).tolist() == [[1, -1], [-1, 1]]


def test_without_numba_the_compiled_kernels_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "numba":
            raise ModuleNotFoundError(name, name=name)
        return real(name, *arguments, **named)

    for module in ("compiled", "counting"):
        monkeypatch.delitem(sys.modules, f"narrows.binary.{module}", raising=False)
        monkeypatch.delattr(narrows.binary, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'narrows\[binary\]'"):
        choose_kernels("compiled")
    assert choose_kernels("numpy").name == "numpy"
    with pytest.raises(ConfigError, match="choose compiled or numpy"):
        choose_kernels("cuda")


WORDS = pack_signs(np.ones((2, 1, 1, 5)))
POINT = Window(kernel=(1, 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Window(kernel=(0, 1)), "no window"),
        (lambda: Window(kernel=(3, 3), stride=(0, 1)), "no window"),
        (lambda: Window(kernel=(3, 3), padding=(3, 0)), "padding below the kernel"),
        (lambda: Window(kernel=(3, 3)).places((2, 9)), "does not fit"),
        (lambda: FromSigns(weight=WORDS, channels=65, window=POINT), "expected uint64"),
        (lambda: FromSigns(weight=WORDS, channels=4, window=POINT), "bits after the last"),
        (lambda: FromSigns(weight=WORDS[:0], channels=5, window=POINT), "expected uint64"),
        (lambda: FromSigns(weight=WORDS.astype(int), channels=5, window=POINT), "int64"),
        (lambda: FromBytes(weight=WORDS[:, 0, 0], channels=0, window=POINT), "expected"),
        (lambda: FromBytes(weight=WORDS[:, 0, 0], channels=5, window=POINT, fill=256), "a byte"),
        (lambda: Signs(threshold=np.zeros(2), flip=np.zeros(2, bool)), "int32"),
        (lambda: Signs(threshold=np.zeros(2, np.int32), flip=np.zeros(3, bool)), "one length"),
        (lambda: Scores(gain=np.zeros(2), offset=np.zeros(2, np.float32)), "float32"),
    ],
)
def test_what_kernels_could_not_run_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()
