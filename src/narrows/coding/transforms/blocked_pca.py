"""Principal components of blocks: b × b positions × channels become one vector, then a basis."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Floats, Shape, Table, Transform
from narrows.errors import CodecError

_LEAST_SHARE = 1e-5
_MOST_GAIN = 2.0
_MOST_POSITIONS = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedPCA(Transform):
    """Karhunen–Loève transform of blocks of positions and channels, its axes weighted.

    A sample (channels, height, width) is tiled by blocks; each block is a vector of dimension
    d = channels * b * b, and y = W (x - mean) with W = diag(w) U^T, U the eigenvectors of the
    covariance, w_k = (l_k / mean l)^(exponent / 2), l its eigenvalues. One quantizer step for all y
    is then a step l_k^(-exponent / 2) for component k: finer where the variance is, for what varies
    much between samples is also what a network reads (measured: docs/results.md). Exponent 0 is the
    plain PCA with reverse water-filling.

    The inverse can restore the mean and the variance that each channel had before quantization
    (`MomentMatcher`): zeroed components shrink a feature, and a network that normalised its
    activations in training suffers more from wrong variances than from the error itself.

    Odd sizes are padded by repeating the edge and cropped again. A sample (channels, length) has
    blocks of b positions; (features,) is one vector. Where d is large, channels are divided into
    equal groups, each with its own basis.

    Args:
        block: Positions of a block along each axis.
        exponent: How much finer the steps of large components are; 0 to 1.
        max_dimension: Greatest d of one basis.
        channels_last: Whether the channels are the last axis, as in (tokens, features).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 1, 3, 2)).astype(np.float32)
        >>> x = np.concatenate([x, 2 * x], axis=1)  # two channels, one degree of freedom
        >>> pca = BlockedPCA(block=1)
        >>> fitter = pca.fitter((2, 3, 2))
        >>> fitter.add(x)
        >>> table = fitter.table()
        >>> y = pca.forward(x, table)
        >>> restored = pca.inverse(y, table)
        >>> y.shape, bool(abs(y[:, 1]).max() < 1e-3), bool(np.allclose(restored, x, atol=1e-4))
        ((50, 2, 3, 2), True, True)

    Reference:
        Assine, Godoy, Valle, "Compressing Representations for Embedded Deep Learning", 2019,
        arXiv 1911.10321 (PCA of the representation, quantizer, Huffman). Departs from the paper:
        blocks of positions, weighted axes, matched moments, one transform fused into the network.
    """

    name: ClassVar[str] = "blocked_pca"

    block: int = 2
    exponent: float = 0.5
    max_dimension: int = 1024
    channels_last: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 16 or not 0 <= self.exponent <= 1 or self.max_dimension < 1:
            msg = (
                f"block must be 1 to 16, exponent 0 to 1 and max_dimension positive; found "
                f"{self.block}, {self.exponent} and {self.max_dimension}"
            )
            raise CodecError(msg)

    def geometry(self, shape: Shape) -> Geometry:
        """How samples of this shape are tiled.

        Raises:
            CodecError: The shape has more than two axes of positions, or an empty one.
        """
        if not 1 <= len(shape) <= _MOST_POSITIONS + 1 or min(shape) < 1:
            msg = (
                f"a blocked PCA codes (channels,), (channels, length) or "
                f"(channels, height, width); found {shape}"
            )
            raise CodecError(msg)
        if self.channels_last:
            shape = (shape[-1], *shape[:-1])
        channels, positions = shape[0], shape[1:]
        area = self.block ** len(positions)
        groups = next(
            g
            for g in range(1, channels + 1)
            if channels % g == 0 and (channels // g * area <= self.max_dimension or g == channels)
        )
        return Geometry(
            channels=channels,
            positions=positions,
            block=self.block,
            groups=groups,
            channels_last=self.channels_last,
        )

    def moments_bytes(self, shape: Shape) -> int:
        """Memory that fitting samples of this shape holds."""
        tiles = self.geometry(shape)
        return 8 * tiles.groups * tiles.dimension * (tiles.dimension + 2)

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return _MomentFitter(self, self.geometry(shape))

    def forward(self, x: Floats, table: Table) -> Floats:
        """Batch (n, *shape) to components (n, groups * kept, blocks...)."""
        tiles = self.geometry(tuple(int(size) for size in table["shape"]))
        vectors = tiles.tile(np.asarray(x, np.float32)) - table["mean"][..., None]
        y = np.matmul(table["basis"] * table["weight"][..., None], vectors)
        return np.ascontiguousarray(y.reshape(len(x), -1, *tiles.blocks), dtype=np.float32)

    def inverse(self, y: Floats, table: Table) -> Floats:
        """Components (n, groups * kept, blocks...) back to a batch (n, *shape)."""
        tiles = self.geometry(tuple(int(size) for size in table["shape"]))
        kept = table["weight"].shape[1]
        rows = np.asarray(y, np.float32).reshape(len(y), tiles.groups, kept, -1)
        backward = np.swapaxes(table["basis"] / table["weight"][..., None], 1, 2)
        x = tiles.untile(np.matmul(backward, rows) + table["mean"][..., None])
        beside = (-1, *(1,) * len(tiles.positions))
        x = x * table["gain"].reshape(beside) + table["offset"].reshape(beside)
        return np.moveaxis(x, 1, -1) if self.channels_last else x


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How samples are tiled into vectors.

    Args:
        channels: Channels of a sample.
        positions: Size of its other axes, none to two.
        block: Positions of a block along each axis.
        groups: Groups of channels, each with its own basis.
        channels_last: Whether the channels are a sample's last axis.
    """

    channels: int
    positions: Shape
    block: int
    groups: int
    channels_last: bool

    @property
    def blocks(self) -> Shape:
        """Blocks along each axis."""
        return tuple(ceil(size / self.block) for size in self.positions)

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self.channels // self.groups * int(self.block ** len(self.positions))

    @property
    def padding(self) -> Shape:
        """Positions added at the end of each axis."""
        return tuple(
            count * self.block - size
            for count, size in zip(self.blocks, self.positions, strict=True)
        )

    def tile(self, x: Floats) -> Floats:
        """Batch to vectors (n, groups, dimension, blocks)."""
        if self.channels_last:
            x = np.moveaxis(x, -1, 1)
        if any(self.padding):
            x = np.pad(x, [(0, 0), (0, 0), *((0, extra) for extra in self.padding)], mode="edge")
        split = [part for count in self.blocks for part in (count, self.block)]
        axes = len(self.positions)
        x = x.reshape(len(x), self.channels, *split)
        counts, inner = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
        x = x.transpose(0, 1, *inner, *counts)
        return x.reshape(len(x), self.groups, self.dimension, prod(self.blocks))

    def untile(self, vectors: Floats) -> Floats:
        """Vectors back to (n, channels, positions...), cropped."""
        axes = len(self.positions)
        x = vectors.reshape(len(vectors), self.channels, *(self.block,) * axes, *self.blocks)
        pairs = [axis for i in range(axes) for axis in (2 + axes + i, 2 + i)]
        x = x.transpose(0, 1, *pairs)
        x = x.reshape(len(vectors), self.channels, *(n * self.block for n in self.blocks))
        return x[(slice(None), slice(None), *(slice(size) for size in self.positions))]


class _MomentFitter:
    """Running mean and second moments about a first guess of the mean, summed in float64."""

    __slots__ = ("_count", "_guess", "_pca", "_second", "_sum", "_tiles")

    def __init__(self, pca: BlockedPCA, tiles: Geometry) -> None:
        self._pca, self._tiles = pca, tiles
        self._count = 0
        self._guess: NDArray[np.float32] | None = None
        self._sum = np.zeros((tiles.groups, tiles.dimension))
        self._second = np.zeros((tiles.groups, tiles.dimension, tiles.dimension))

    def add(self, batch: NDArray[Any]) -> None:
        """Take in samples (n, *shape)."""
        if not len(batch):
            return
        vectors = self._tiles.tile(np.asarray(batch, np.float32))
        if not np.isfinite(vectors).all():
            msg = "a feature is not finite (NaN or infinity); no transform can be fitted to it"
            raise CodecError(msg)
        if self._guess is None:
            self._guess = vectors.mean((0, 3), dtype=np.float64).astype(np.float32)
        for sample in vectors:
            centred = sample - self._guess[..., None]
            self._second += np.matmul(centred, np.swapaxes(centred, 1, 2))
            self._sum += centred.sum(2, dtype=np.float64)
            self._count += centred.shape[2]

    def table(self) -> Table:
        """Basis (groups, kept, d), weight (groups, kept), mean (groups, d) and channel moments."""
        if self._guess is None:
            msg = "cannot fit a blocked PCA to no samples: give at least one"
            raise CodecError(msg)
        tiles = self._tiles
        shift = self._sum / self._count
        covariance = self._second / self._count - shift[..., None] * shift[:, None]
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[:, ::-1], vectors[:, :, ::-1]
        mean = self._guess + shift
        total = max(float(values.sum()), 1e-30)
        floor = np.maximum(values, total / values.size * _LEAST_SHARE)
        weight = (floor / floor.mean()) ** (self._pca.exponent / 2)
        per_channel = (tiles.channels, -1)
        spread = np.diagonal(covariance, axis1=1, axis2=2).reshape(per_channel).mean(1)
        means = mean.reshape(per_channel)
        spread = spread + ((means - means.mean(1, keepdims=True)) ** 2).mean(1)
        sizes = tiles.positions
        shape = (*sizes, tiles.channels) if tiles.channels_last else (tiles.channels, *sizes)
        return {
            "shape": np.asarray(shape, np.int32),
            "basis": np.swapaxes(vectors, 1, 2).astype(np.float32),
            "weight": weight.astype(np.float32),
            "mean": mean.astype(np.float32),
            "variance": np.maximum(values, 0).astype(np.float32),
            "channel_mean": means.mean(1).astype(np.float32),
            "channel_variance": np.maximum(spread, 0).astype(np.float32),
            "gain": np.ones(tiles.channels, np.float32),
            "offset": np.zeros(tiles.channels, np.float32),
        }


@final
class MomentMatcher:
    """Finds the gain and offset that give restored channels their mean and variance back.

    Args:
        table: The transform's table, with gain 1 and offset 0.

    Feed it what `inverse` gives after quantization; `matched` is what to change in the table.

    Example:
        >>> moments = {"channel_mean": np.ones(1), "channel_variance": np.ones(1)}
        >>> matcher = MomentMatcher(moments)
        >>> matcher.add(np.array([[[1.0, 2.0]]], np.float32))
        >>> {name: array.tolist() for name, array in matcher.matched().items()}
        {'gain': [2.0], 'offset': [-2.0]}
    """

    __slots__ = ("_count", "_second", "_sum", "_table")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._count = 0
        self._sum = np.zeros(len(table["channel_mean"]))
        self._second = np.zeros_like(self._sum)

    def add(self, restored: Floats, *, channels_last: bool = False) -> None:
        """Take in restored samples (n, *shape), as `inverse` gives them by this table."""
        x = np.moveaxis(restored, -1, 1) if channels_last else restored
        rows = x.reshape(len(x), x.shape[1], -1) - self._table["channel_mean"][:, None]
        self._sum += rows.sum((0, 2), dtype=np.float64)
        self._second += np.einsum("ncp,ncp->c", rows, rows, dtype=np.float64)
        self._count += len(x) * rows.shape[2]

    def matched(self) -> Table:
        """Gain and offset (channels,); gains stay in 1/2 to 2, and 1 where nothing is left."""
        mean = self._sum / max(self._count, 1)
        variance = np.maximum(self._second / max(self._count, 1) - mean**2, 0)
        wanted = self._table["channel_variance"].astype(np.float64)
        left = variance > wanted * 1e-6
        ratio = np.divide(wanted, variance, out=np.ones_like(wanted), where=left)
        gain = np.clip(np.sqrt(ratio), 1 / _MOST_GAIN, _MOST_GAIN)
        centre = self._table["channel_mean"].astype(np.float64)
        offset = centre - gain * (centre + mean)
        return {"gain": gain.astype(np.float32), "offset": offset.astype(np.float32)}
