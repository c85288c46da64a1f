"""A tiny model with a bundle for every route, to try a client, a server or a file reader with.

    pixels (8, 8, 3) → /255 → Conv 3→4, stride 2 → Relu ──cut──► mean → Gemm → 10 scores
                                                      (4, 4, 4)

The head ends in symbols = round(8 × relu), the tail begins with symbols / 8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.coding import CODERS, ImageCodec
from narrows.preprocess import Preprocess
from narrows.runtime.assemble import SplitParts, write_bundle
from narrows.runtime.bundle import Bundle

CLASSES: Final = 10
SIDE: Final = 8
CHANNELS: Final = 4
LABELS: Final = tuple(f"class {index}" for index in range(CLASSES))

_FRONT: Final = "c = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w1, b1) feature = Relu(c)"
_BACK: Final = "m = GlobalAveragePool(feature) f = Flatten(m) scores = Gemm(f, w2, b2)"
_OPEN: Final = '<ir_version: 8, opset_import: ["" : 17]>'


def _parsed(text: str, weights: tuple[str, ...], seed: int) -> onnx.ModelProto:
    generator = np.random.default_rng(seed)
    arrays = {
        "w1": generator.normal(0, 0.5, (4, 3, 3, 3)),
        "b1": generator.normal(0.2, 0.2, 4),
        "w2": generator.normal(0, 2.0, (4, CLASSES)),
        "b2": generator.normal(0, 1.0, CLASSES),
        "step": np.float32(0.125),
    }
    model = onnx.parser.parse_model(_OPEN + text)
    for name in weights:
        array = np.asarray(arrays[name], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def whole_model(*, side: int = SIDE, seed: int = 0) -> onnx.ModelProto:
    """Pixels scaled to 0–1, (n, 3, side, side), to scores (n, 10)."""
    text = f"tiny (float[N, 3, {side}, {side}] x) => (float[N, 10] scores) {{ {_FRONT} {_BACK} }}"
    return _parsed(text, ("w1", "b1", "w2", "b2"), seed)


def split_parts(*, coder: str = "raw", side: int = SIDE, seed: int = 0) -> SplitParts:
    """Head and tail of `whole_model`, and a table fitted to noise; `side` is even."""
    shape = (CHANNELS, side // 2, side // 2)
    symbols = f"int32[N, {CHANNELS}, {side // 2}, {side // 2}] symbols"
    head = _parsed(
        f"head (float[N, 3, {side}, {side}] x) => ({symbols}, float[N] check) {{"
        f"{_FRONT} q = Div(feature, step) r = Round(q) symbols = Cast<to=6>(r)"
        " flat = Flatten(q) check = ReduceL1<axes=[1], keepdims=0>(flat) }",
        ("w1", "b1", "step"),
        seed,
    )
    tail = _parsed(
        f"tail ({symbols}) => (float[N, 10] scores) {{"
        f"s = Cast<to=1>(symbols) feature = Mul(s, step) {_BACK} }}",
        ("step", "w2", "b2"),
        seed,
    )
    fitter = CODERS[coder]().fitter(shape)
    generator = np.random.default_rng(seed)
    fitter.add(generator.geometric(0.3, (50, *shape)).astype(np.int32) - 1)
    return SplitParts(
        head=head, tail=tail, coder=coder, table=fitter.table(), cut=2, tensor="feature"
    )


def tiny_bundle(
    path: Path, *, route: str = "split", coder: str = "raw", side: int = SIDE, seed: int = 0
) -> Bundle:
    """Write a bundle for "split", "jpeg", "webp", "avif", "raw", "pixels" or "local".

    "raw" sends pixels deflated, "pixels" sends them as they are.
    """
    is_picture_format = route in ("jpeg", "webp", "avif")
    return write_bundle(
        path,
        name="tiny",
        model=whole_model(side=side, seed=seed),
        split=split_parts(coder=coder, side=side, seed=seed) if route == "split" else None,
        image=ImageCodec(format=route, quality=95) if is_picture_format else None,  # type: ignore[arg-type]
        raw=route in ("raw", "pixels"),
        deflate=route == "raw",
        preprocess=Preprocess(size=(side, side), resize=side, scale=255.0),
        labels=LABELS,
    )


def pictures(count: int, *, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth made-up pixels (count, side, side, 3); `side` is even."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, 2, 2, 3), np.uint8)
    return small.repeat(side // 2, axis=1).repeat(side // 2, axis=2)
