"""Networks of a few hundred weights, pictures to judge them on, and studies of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

SIDE = 12

STUDY = """\
[study]
name = "tiny"
threads = {threads}
runtimes = {runtimes}
variants = ["original", "int8", "weights"]
calibration = 8
rounds = 6
round_s = 0.001
min_calls = 2
session_s = 0
limit_s = 5
respawns = 0
target = 0.5

[[network]]
name = "small"
model = "small.onnx"
task = "task.toml"

[[network]]
name = "large"
model = "large.onnx"
"""

TASK = """\
name = "stripes"

[data]
all = "pictures"

[preprocess]
size = 12
"""


def network(channels: int) -> onnx.ModelProto:
    """Two convolutions and a product over pictures of 12 × 12; the batch is open."""
    random = np.random.default_rng(channels)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = random.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [
            weights("w1", channels, 3, 3, 3),
            weights("w2", channels, channels, 3, 3),
            weights("w3", 2, channels),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def write_pictures(folder: Path) -> None:
    """Forty pictures of two classes, no two alike."""
    random = np.random.default_rng(0)
    for label in ("across", "upright"):
        (folder / label).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
            (pixels if label == "across" else pixels.transpose(1, 0, 2))[::3] += 150
            Image.fromarray(pixels).save(folder / label / f"{index}.png")


def write_study(
    folder: Path,
    *,
    threads: tuple[int, ...] = (1,),
    runtimes: tuple[str, ...] = ("onnxruntime",),
    more: str = "",
) -> Path:
    """The study's file, beside all it names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, channels in (("small", 16), ("large", 32)):
        onnx.save(network(channels), folder / f"{name}.onnx")
    write_pictures(folder / "pictures")
    (folder / "task.toml").write_text(TASK)
    listed = str(list(runtimes)).replace("'", '"')
    path = folder / "study.toml"
    path.write_text(STUDY.format(threads=list(threads), runtimes=listed) + more)
    return path
