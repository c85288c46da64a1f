"""Small networks that really tell classes apart, and the data they do it on."""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.plan.variant import Variant
from narrows.preprocess import Preprocess
from narrows.task import Task, array_task

CLASSES = 4
SIDE = 16


def pictures(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stripes of four directions under noise, (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angles = labels * np.pi / CLASSES
    waves = np.sin(
        0.9 * (np.cos(angles)[:, None, None] * rows + np.sin(angles)[:, None, None] * columns)
        + rng.uniform(0, 6, size=(count, 1, 1))
    )
    noisy = 128 + 60 * waves[..., None] + rng.normal(0, 12, size=(count, SIDE, SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8), labels


def inputs_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 128 - 1


_GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 16, 16] x) => (float[N, 4] y) {
  c1 = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<strides=[2,2], pads=[1,1,1,1]>(r1, w2, b2)
  r2 = Relu(c2)
  c3 = Conv<pads=[1,1,1,1]>(r2, w3, b3)
  s3 = Add(c3, r2)
  r3 = Relu(s3)
  p = GlobalAveragePool(r3)
  f = Flatten(p)
  y = Gemm(f, w4, b4)
}"""


def network(first: int = 16, second: int = 24) -> onnx.ModelProto:
    """A residual network of so many channels: random features, a last layer fitted to classes."""
    rng = np.random.default_rng(7)
    proto = onnx.parser.parse_model(_GRAPH)
    widths = {"1": (first, 3), "2": (second, first), "3": (second, second)}
    for name, (out, into) in widths.items():
        weight = rng.normal(0, (2 / (9 * into)) ** 0.5, size=(out, into, 3, 3))
        _give(proto, f"w{name}", weight)
        _give(proto, f"b{name}", rng.normal(0, 0.1, size=out))
    _give(proto, "w4", np.zeros((second, CLASSES)))
    _give(proto, "b4", np.zeros(CLASSES))
    pixels, labels = pictures(400, seed=99)
    (features,) = run(session(proto, outputs=["f"]), {"x": inputs_of(pixels)})
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)
    fitted = np.linalg.lstsq(design, 8 * np.eye(CLASSES)[labels] - 2, rcond=1e-6)[0]
    for tensor in list(proto.graph.initializer):
        if tensor.name in ("w4", "b4"):
            proto.graph.initializer.remove(tensor)
    _give(proto, "w4", fitted[:-1])
    _give(proto, "b4", fitted[-1])
    return proto


def array_variant(count: int = 240, model: onnx.ModelProto | None = None) -> Variant:
    """The network on inputs as arrays."""
    pixels, labels = pictures(count)
    task = array_task("stripes", inputs_of(pixels), labels)
    return Variant(name="net", source="net.onnx", model=_loaded(model), task=task)


def picture_variant(count: int = 240) -> Variant:
    """The network on pictures."""
    pixels, labels = pictures(count)
    preprocess = Preprocess(size=(SIDE, SIDE), scale=128.0, mean=(1.0,))
    task = array_task("stripes", pixels, labels, kind="image", preprocess=preprocess)
    return Variant(name="net", source="net.onnx", model=_loaded(None), task=task)


def shuffled(variant: Variant) -> Variant:
    """The same data with labels that have nothing to do with them."""
    task = variant.task
    labels = np.random.default_rng(3).permutation(task.choose.labels)
    return replace(variant, task=_with_choose_labels(task, labels))


def _with_choose_labels(task: Task, labels: NDArray[np.int64]) -> Task:
    return replace(task, choose=replace(task.choose, labels=labels))


def _loaded(proto: onnx.ModelProto | None) -> Model:
    return load(proto or network())


def _give(proto: onnx.ModelProto, name: str, values: NDArray[np.float64]) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
