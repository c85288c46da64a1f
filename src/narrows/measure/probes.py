"""Random small networks that a device is timed on: operators in the company they have in real ones.

A kernel timed alone, again and again, finds its weights in the nearest cache and its input in the
wrong one. So kernels are timed inside networks: chains of random blocks (inverted residuals,
residuals, dense and inception blocks, shuffles, attention, recurrent cells) at random sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.random import Generator

from narrows.measure.graph_builder import Builder
from narrows.measure.picture_probes import picture_network


def probe_networks(count: int, *, seed: int = 0) -> Iterator[onnx.ModelProto]:
    """Random networks: out of ten, eight of pictures, one of tokens and one of series.

    Each is made when it is asked for: all hundred together hold 0.9 GB.

    Example:
        >>> [network.graph.input[0].name for network in probe_networks(2)]
        ['x', 'x']
    """
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        if index % 10 == 4:
            yield _token_network(rng)
        elif index % 10 == 9:
            yield _series_network(rng)
        else:
            yield picture_network(rng)


def _token_network(rng: Generator) -> onnx.ModelProto:
    """Attention and a feed-forward layer over tokens, as transformers do."""
    tokens = int(rng.choice([16, 49, 64, 100, 196, 197, 256]))
    heads = int(rng.choice([2, 3, 4, 6, 8]))
    width = 32 * heads * int(rng.choice([1, 2]))
    graph = Builder(shape=(tokens, width), rng=rng)
    value = "x"
    for _ in range(2):
        value = graph.op("Add", value, _attention(graph, value, tokens, width, heads))
        hidden = _linear(graph, _normalised(graph, value, width), width, 4 * width)
        hidden = _gelu(graph, hidden)
        value = graph.op("Add", value, _linear(graph, hidden, 4 * width, width))
    return graph.model(_linear(graph, _normalised(graph, value, width), width, 100), rank=3)


def _normalised(graph: Builder, value: str, width: int) -> str:
    scale = graph.constant(np.ones(width, np.float32))
    shift = graph.constant(np.zeros(width, np.float32))
    return graph.op("LayerNormalization", value, scale, shift, axis=-1)


def _linear(graph: Builder, value: str, into: int, out: int) -> str:
    product = graph.op("MatMul", value, graph.weight(into, out))
    return graph.op("Add", product, graph.constant(np.zeros(out, np.float32)))


def _gelu(graph: Builder, value: str) -> str:
    scaled = graph.op("Div", value, graph.constant(np.float32(2**0.5)))
    raised = graph.op("Add", graph.op("Erf", scaled), graph.constant(np.float32(1)))
    return graph.op("Mul", graph.op("Mul", value, raised), graph.constant(np.float32(0.5)))


def _attention(graph: Builder, value: str, tokens: int, width: int, heads: int) -> str:
    value = _normalised(graph, value, width)
    split = graph.constant(np.array([0, tokens, heads, width // heads]))
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        part = graph.op("Reshape", _linear(graph, value, width, width), split)
        parts.append(graph.op("Transpose", part, perm=perm))
    query = graph.op("Mul", parts[0], graph.constant(np.float32((width / heads) ** -0.5)))
    scores = graph.op("Softmax", graph.op("MatMul", query, parts[1]), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", mixed, graph.constant(np.array([0, tokens, width])))
    return _linear(graph, joined, width, width)


def _series_network(rng: Generator) -> onnx.ModelProto:
    """One-dimensional convolutions and a recurrent cell over a window of sensor samples."""
    channels, steps = int(rng.choice([1, 3, 6, 9, 16])), int(rng.choice([32, 64, 100, 128, 200]))
    graph = Builder(shape=(channels, steps), rng=rng)
    value, into = "x", channels
    for _ in range(int(rng.integers(1, 4))):
        out, kernel = int(rng.choice([16, 32, 64, 128])), int(rng.choice([3, 5, 7, 9]))
        weight = graph.weight(out, into, kernel)
        value = graph.op("Conv", value, weight, kernel_shape=[kernel], pads=[kernel // 2] * 2)
        value, into = graph.op("Relu", value), out
    value = graph.op("Transpose", value, perm=[2, 0, 1])
    kind, gates = [("LSTM", 4), ("GRU", 3)][int(rng.integers(2))]
    both = int(rng.integers(1, 3))
    hidden = int(rng.choice([16, 32, 64, 128, 256]))
    weights = (graph.weight(both, gates * hidden, into), graph.weight(both, gates * hidden, hidden))
    direction = "bidirectional" if both == 2 else "forward"
    value = graph.op(kind, value, *weights, hidden_size=hidden, direction=direction)
    last = graph.op("ReduceMean", value, graph.constant(np.array([0, 1])), keepdims=0)
    flat = graph.op("Reshape", last, graph.constant(np.array([-1, hidden])))
    return graph.model(graph.op("Gemm", flat, graph.weight(hidden, 10)))
