"""Random convolutional networks to time a device on: chains of the blocks of real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.random import Generator
from onnx import helper

from narrows.measure.graph_builder import Builder

_MACS_BLOCK = 100e6
_MACS_NETWORK = 500e6
_BLOCKS_NETWORK = 20
_ELEMENTS = 2_000_000


@dataclass(slots=True, kw_only=True)
class _Map:
    """Where a picture network stands: a value with its channels and its size."""

    graph: Builder
    value: str
    channels: int
    side: int

    def conv(
        self,
        value: str,
        into: int,
        out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        group: int = 1,
        act: str = "",
    ) -> str:
        graph = self.graph
        weight = graph.weight(out, into // group, kernel, kernel)
        bias = graph.constant(np.zeros(out, np.float32))
        made = graph.op(
            "Conv",
            *(value, weight, bias),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=group,
        )
        side = -(-self.side // stride)
        graph.macs += side * side * out * (into // group) * kernel * kernel
        return self.act(made, act)

    def act(self, value: str, act: str) -> str:
        graph = self.graph
        if act == "Clip":
            bounds = (graph.constant(np.float32(0)), graph.constant(np.float32(6)))
            return graph.op("Clip", value, *bounds)
        if act == "SiLU":
            return graph.op("Mul", value, graph.op("Sigmoid", value))
        return graph.op(act, value) if act else value

    def fits(self, macs: float, elements: float = 0.0) -> bool:
        return macs <= _MACS_BLOCK and elements <= _ELEMENTS


def picture_network(rng: Generator) -> onnx.ModelProto:
    """A random network over a picture or over features of one."""
    if rng.random() < 0.35:
        here = _stem(rng)
    else:
        side = int(rng.choice([7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 112]))
        channels = _width(rng, 16, max(16, min(1024, 1_000_000 // side**2)))
        graph = Builder(shape=(channels, side, side), rng=rng)
        here = _Map(graph=graph, value="x", channels=channels, side=side)
    chances = np.array([chance for chance, _ in _BLOCKS])
    act = str(rng.choice(["Relu", "Clip", "HardSwish", "SiLU"], p=[0.5, 0.3, 0.1, 0.1]))
    for index in rng.choice(len(_BLOCKS), size=_BLOCKS_NETWORK, p=chances / chances.sum()):
        _BLOCKS[index][1](here, rng, act if rng.random() < 0.85 else "")
        if here.graph.macs > _MACS_NETWORK:
            break
    pooled = here.graph.op("GlobalAveragePool", here.value)
    return here.graph.model(_classified(here, rng, here.graph.op("Flatten", pooled)))


def _classified(here: _Map, rng: Generator, value: str) -> str:
    """One to three layers from the pooled features to classes."""
    wide = [int(2 ** rng.uniform(8, 11.5)) for _ in range(int(rng.integers(0, 3)))]
    into = here.channels
    for out in (*wide, int(rng.choice([10, 100, 1000, 4096]))):
        bias = here.graph.constant(np.zeros(out, np.float32))
        value = here.graph.op("Gemm", value, here.graph.weight(out, into), bias, transB=1)
        into = out
    return value


def _width(rng: Generator, low: float, high: float) -> int:
    """A number of channels, log-uniform; a multiple of 16, sometimes of less."""
    step = int(rng.choice([16, 8, 4, 2, 1], p=[0.6, 0.18, 0.1, 0.08, 0.04]))
    value = 2 ** rng.uniform(np.log2(low), np.log2(max(low + 1, high)))
    return int(step * max(1, round(value / step)))


def _stem(rng: Generator) -> _Map:
    side = int(rng.choice([96, 128, 160, 192, 224, 256]))
    graph = Builder(shape=(3, side, side), rng=rng)
    here = _Map(graph=graph, value="x", channels=3, side=side)
    channels = int(rng.choice([16, 24, 32, 40, 64, 96]))
    kernel = int(rng.choice([3, 3, 5, 7]))
    act = str(rng.choice(["Relu", "Clip"]))
    here.value = here.conv("x", 3, channels, kernel=kernel, stride=2, act=act)
    here.channels, here.side = channels, -(-side // 2)
    if rng.random() < 0.4:
        _max_pool(here, stride=2)
    return here


def _max_pool(here: _Map, *, stride: int) -> None:
    here.value = here.graph.op(
        "MaxPool", here.value, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4
    )
    here.side = -(-here.side // stride)


def _stride(here: _Map, rng: Generator) -> int:
    return 2 if here.side >= 8 and rng.random() < 0.25 else 1


def _pointwise(here: _Map, rng: Generator, act: str) -> None:
    out = _width(rng, 16, min(2048, 4 * here.channels))
    if here.fits(here.channels * out * here.side**2, out * here.side**2):
        here.value = here.conv(here.value, here.channels, out, act=act)
        here.channels = out


def _depthwise(here: _Map, rng: Generator, act: str) -> None:
    kernel, stride = int(rng.choice([3, 3, 5, 7])), _stride(here, rng)
    here.value = here.conv(
        *(here.value, here.channels, here.channels),
        kernel=kernel,
        stride=stride,
        group=here.channels,
        act=act,
    )
    here.side = -(-here.side // stride)


def _dense(here: _Map, rng: Generator, act: str) -> None:
    kernel, stride = int(rng.choice([3, 3, 3, 5, 7])), _stride(here, rng)
    out = _width(rng, 16, min(512, 2 * here.channels))
    side = -(-here.side // stride)
    if here.fits(here.channels * out * kernel**2 * side**2):
        here.value = here.conv(
            here.value, here.channels, out, kernel=kernel, stride=stride, act=act
        )
        here.channels, here.side = out, side


def _inverted_residual(here: _Map, rng: Generator, act: str) -> None:
    wide = int(rng.choice([2, 3, 4, 6])) * here.channels
    stride, kernel = _stride(here, rng), int(rng.choice([3, 3, 5]))
    same = stride == 1 and rng.random() < 0.6
    out = here.channels if same else _width(rng, 16, 2 * here.channels)
    if not here.fits(here.channels * wide * here.side**2, wide * here.side**2):
        return
    before = here.value
    value = here.conv(before, here.channels, wide, act=act)
    value = here.conv(value, wide, wide, kernel=kernel, stride=stride, group=wide, act=act)
    here.side = -(-here.side // stride)
    if rng.random() < 0.3:
        value = _squeezed(here, rng, value, wide)
    value = here.conv(value, wide, out)
    here.value = here.graph.op("Add", value, before) if same else value
    here.channels = out


def _squeezed(here: _Map, rng: Generator, value: str, channels: int) -> str:
    graph, narrow = here.graph, max(8, channels // 32 * 8)
    if rng.random() < 0.5:
        pooled = graph.op("GlobalAveragePool", value)
    else:
        pooled = graph.op("ReduceMean", value, graph.constant(np.array([2, 3])), keepdims=1)
    side, here.side = here.side, 1
    gate = here.conv(pooled, channels, narrow, act="Relu")
    gate = here.conv(gate, narrow, channels)
    here.side = side
    return graph.op("Mul", value, graph.op(str(rng.choice(["Sigmoid", "HardSigmoid"])), gate))


def _squeeze(here: _Map, rng: Generator, act: str) -> None:
    here.value = _squeezed(here, rng, here.value, here.channels)


def _residual(here: _Map, rng: Generator, act: str) -> None:
    if not here.fits(9 * here.channels**2 * here.side**2):
        return
    value = here.conv(here.value, here.channels, here.channels, kernel=3, act="Relu")
    value = here.conv(value, here.channels, here.channels, kernel=3)
    here.value = here.act(here.graph.op("Add", value, here.value), "Relu")


def _dense_block(here: _Map, rng: Generator, act: str) -> None:
    """Normalise, convolve and concatenate, as DenseNet does."""
    growth = int(rng.choice([16, 32, 48]))
    if not here.fits(9 * here.channels * growth * here.side**2):
        return
    graph, count = here.graph, here.channels
    ones, zeros = (graph.constant(np.full(count, v, np.float32)) for v in (1.0, 0.1))
    value = graph.op("BatchNormalization", here.value, ones, zeros, zeros, ones)
    value = here.conv(graph.op("Relu", value), count, 4 * growth, act="Relu")
    value = here.conv(value, 4 * growth, growth, kernel=3)
    here.value = graph.op("Concat", here.value, value, axis=1)
    here.channels += growth


def _inception(here: _Map, rng: Generator, act: str) -> None:
    widths = [_width(rng, 16, 128) for _ in range(4)]
    if not here.fits(25 * max(widths) * max(widths) * here.side**2):
        return
    start, count = here.value, here.channels
    first = here.conv(start, count, widths[0], act="Relu")
    kernel = int(rng.choice([3, 5]))
    second = here.conv(start, count, widths[1], act="Relu")
    second = here.conv(second, widths[1], widths[2], kernel=kernel, act="Relu")
    _max_pool(here, stride=1)
    third = here.conv(here.value, count, widths[3], act="Relu")
    here.value = here.graph.op("Concat", first, second, third, axis=1)
    here.channels = widths[0] + widths[2] + widths[3]


def _grouped(here: _Map, rng: Generator, act: str) -> None:
    sizes = [s for s in (8, 16, 24, 32, 48, 64) if here.channels % s == 0 and here.channels > s]
    stride = _stride(here, rng)
    side = -(-here.side // stride)
    if sizes and here.fits(here.channels * sizes[-1] * 9 * side**2):
        group = here.channels // int(rng.choice(sizes))
        here.value = here.conv(
            *(here.value, here.channels, here.channels),
            kernel=3,
            stride=stride,
            group=group,
            act=act,
        )
        here.side = side


def _shuffle(here: _Map, rng: Generator, act: str) -> None:
    """Split, convolve one half, concatenate and interleave, as ShuffleNet does."""
    if here.channels % 4:
        return
    graph, half, side = here.graph, here.channels // 2, here.side
    sizes = graph.constant(np.array([half, half]))
    parts = [f"left{len(graph.nodes)}", f"right{len(graph.nodes)}"]
    graph.nodes.append(
        helper.make_node("Split", [here.value, sizes], parts, name=f"Split_{parts[0]}", axis=1)
    )
    value = here.conv(parts[1], half, half, act="Relu")
    value = here.conv(value, half, half, kernel=3, group=half)
    value = here.conv(value, half, half, act="Relu")
    value = graph.op("Concat", parts[0], value, axis=1)
    value = graph.op("Reshape", value, graph.constant(np.array([0, 2, half, side, side])))
    value = graph.op("Transpose", value, perm=[0, 2, 1, 3, 4])
    here.value = graph.op("Reshape", value, graph.constant(np.array([0, 2 * half, side, side])))


def _pool(here: _Map, rng: Generator, act: str) -> None:
    if here.side < 8:
        return
    if rng.random() < 0.5:
        _max_pool(here, stride=2)
        return
    here.value = here.graph.op("AveragePool", here.value, kernel_shape=[2, 2], strides=[2, 2])
    here.side //= 2


_Block = Callable[[_Map, Generator, str], None]

_BLOCKS: Sequence[tuple[float, _Block]] = (
    (0.16, _pointwise),
    (0.10, _depthwise),
    (0.18, _dense),
    (0.18, _inverted_residual),
    (0.08, _residual),
    (0.06, _dense_block),
    (0.05, _inception),
    (0.07, _grouped),
    (0.03, _squeeze),
    (0.04, _shuffle),
    (0.03, _pool),
)
