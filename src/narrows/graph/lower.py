"""Fitted transforms as nodes: features (n, channels, positions...) to components, and back."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Table
from narrows.coding.transforms.blocked_pca import Geometry
from narrows.graph.editor import GraphEditor

Steps = NDArray[np.float64]


def pca_forward(
    graph: GraphEditor, x: str, tiles: Geometry, table: Table, steps: Steps
) -> tuple[str, int]:
    """Components over their steps, by one convolution with kernel and stride of a block.

    Returns:
        The value's name, and how many axes it has beside the batch.
    """
    axes = len(tiles.positions)
    basis = table["basis"].astype(np.float64) * table["weight"][..., None]
    bias = -np.einsum("gkd,gd->gk", basis, table["mean"]).reshape(-1)
    kernel = (tiles.block,) * axes or (1,)
    weight = basis.reshape(len(steps), -1) / steps[:, None]
    if not axes:
        x = graph.add("Reshape", x, graph.integers([0, tiles.channels, 1]))
    x = graph.add(
        "Conv",
        _padded(graph, x, tiles),
        graph.floats(weight.reshape(len(steps), tiles.channels // tiles.groups, *kernel)),
        graph.floats(bias / steps),
        strides=kernel,
        kernel_shape=kernel,
        group=tiles.groups,
    )
    if not axes:
        x = graph.add("Reshape", x, graph.integers([0, len(steps)]))
    return x, axes + 1


def pca_backward(graph: GraphEditor, y: str, tiles: Geometry, table: Table, steps: Steps) -> str:
    """Components over their steps to features, by a convolution and moves to positions."""
    axes = len(tiles.positions)
    groups, kept, dimension = table["basis"].shape
    area = dimension * groups // tiles.channels
    gain = np.repeat(table["gain"].astype(np.float64), area)
    back = np.swapaxes(table["basis"].astype(np.float64) / table["weight"][..., None], 1, 2)
    weight = (back * steps.reshape(groups, 1, kept)).reshape(-1, kept) * gain[:, None]
    if not axes:
        y = graph.add("Reshape", y, graph.integers([0, groups * kept, 1]))
    ones = (1,) * max(axes, 1)
    x = graph.add(
        "Conv",
        y,
        graph.floats(weight.reshape(-1, kept, *ones)),
        graph.floats(table["mean"].reshape(-1) * gain + np.repeat(table["offset"], area)),
        kernel_shape=ones,
        group=groups,
    )
    if not axes:
        return graph.add("Reshape", x, graph.integers([0, tiles.channels]))
    if tiles.block > 1:
        inner = (tiles.block,) * axes
        x = graph.add("Reshape", x, graph.integers([0, tiles.channels, *inner, *tiles.blocks]))
        pairs = [axis for i in range(axes) for axis in (2 + axes + i, 2 + i)]
        x = graph.add("Transpose", x, perm=(0, 1, *pairs))
        x = graph.add("Reshape", x, graph.integers([0, tiles.channels, *_padded_sizes(tiles)]))
    return _cropped(graph, x, tiles)


def klt_forward(
    graph: GraphEditor, x: str, tiles: Geometry, table: Table, steps: Steps
) -> tuple[str, int]:
    """Components over their steps, (n, components) or (n, components, blocks)."""
    axes, blocks = len(tiles.positions), prod(tiles.blocks)
    channels, inner = tiles.channels, tiles.dimension // tiles.channels
    across, along = _bases(table, channels, len(steps))
    rows = len(along)
    x = _padded(graph, x, tiles)
    if blocks == 1:
        x = graph.add("Reshape", x, graph.integers([0, channels, inner]))
        x = graph.add("Transpose", x, perm=(0, 2, 1))
    else:
        x = graph.add("Reshape", x, graph.integers([0, channels, *_interleaved(tiles)]))
        counts, sides = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
        x = graph.add("Transpose", x, perm=(0, *counts, *sides, 1))
        x = graph.add("Reshape", x, graph.integers([0, blocks, inner, channels]))
    x = graph.add("MatMul", graph.floats(along), x)
    x = graph.add("MatMul", x, graph.floats(across.T))
    flat = [rows * channels] if blocks == 1 else [blocks, rows * channels]
    x = graph.add("Reshape", x, graph.integers([0, *flat]))
    if blocks > 1:
        x = graph.add("Transpose", x, perm=(0, 2, 1))
    if rows * channels > len(steps):
        ends = [graph.integers([value]) for value in (0, len(steps), 1)]
        x = graph.add("Slice", x, *ends)
    scale = table["weight"][0] / steps
    centre = (along @ table["mean"].T @ across.T).reshape(-1)[: len(steps)] * scale
    beside = (-1,) if blocks == 1 else (-1, 1)
    x = graph.add("Mul", x, graph.floats(scale.reshape(beside)))
    return graph.add("Sub", x, graph.floats(centre.reshape(beside))), len(beside)


def klt_backward(graph: GraphEditor, y: str, tiles: Geometry, table: Table, steps: Steps) -> str:
    """Components over their steps to features; what was not kept is zero."""
    axes, blocks = len(tiles.positions), prod(tiles.blocks)
    channels = tiles.channels
    across, along = _bases(table, channels, len(steps))
    rows = len(along)
    y = graph.add("Reshape", y, graph.integers([0, len(steps), blocks]))
    y = graph.add("Mul", y, graph.floats((steps / table["weight"][0])[:, None]))
    if missing := rows * channels - len(steps):
        y = graph.add("Pad", y, graph.integers([0, 0, 0, 0, missing, 0]))
    if blocks > 1:
        y = graph.add("Transpose", y, perm=(0, 2, 1))
    gain = table["gain"].astype(np.float64)
    y = graph.add("Reshape", y, graph.integers([0, blocks, rows, channels]))
    y = graph.add("MatMul", y, graph.floats(across * gain))
    x = graph.add("MatMul", graph.floats(along.T), y)
    inner = (tiles.block,) * axes
    x = graph.add("Reshape", x, graph.integers([0, *tiles.blocks, *inner, channels]))
    pairs = [axis for i in range(axes) for axis in (1 + i, 1 + axes + i)]
    x = graph.add("Transpose", x, perm=(0, 1 + 2 * axes, *pairs))
    x = graph.add("Reshape", x, graph.integers([0, channels, *_padded_sizes(tiles)]))
    centre = table["mean"] * gain[:, None] + table["offset"][:, None]
    tile = centre.reshape(channels, *inner)
    x = graph.add("Add", x, graph.floats(np.tile(tile, (1, *tiles.blocks))))
    return _cropped(graph, x, tiles)


def _bases(table: Table, channels: int, count: int) -> tuple[Steps, Steps]:
    """The channels' basis, and the rows of the positions' that `count` components need."""
    across, along = (table[f"{name}_basis"].astype(np.float64) for name in ("channel", "position"))
    return across, along[: -(-count // channels)]


def _padded_sizes(tiles: Geometry) -> list[int]:
    return [count * tiles.block for count in tiles.blocks]


def _interleaved(tiles: Geometry) -> list[int]:
    return [size for count in tiles.blocks for size in (count, tiles.block)]


def _padded(graph: GraphEditor, x: str, tiles: Geometry) -> str:
    if not any(tiles.padding):
        return x
    pads = [0, 0, *(0,) * len(tiles.padding), 0, 0, *tiles.padding]
    return graph.add("Pad", x, graph.integers(pads), mode="edge")


def _cropped(graph: GraphEditor, x: str, tiles: Geometry) -> str:
    if not any(tiles.padding):
        return x
    axes = len(tiles.positions)
    starts, ends = graph.integers([0] * axes), graph.integers(list(tiles.positions))
    return graph.add("Slice", x, starts, ends, graph.integers(list(range(2, 2 + axes))))
