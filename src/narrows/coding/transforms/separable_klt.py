"""Karhunen–Loève transform of channels, then of the positions of large blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Fitter, Floats, Shape, Table, Transform
from narrows.coding.transforms.blocked_pca import Geometry
from narrows.errors import CodecError

_LEAST_SHARE = 1e-5
_RESERVOIR_BYTES = 8 << 20
_PRIOR_VECTORS = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableKLT(Transform):
    """One basis for the channels, one for the positions of a block, shared by all channels.

    A block (channels, b · b positions) becomes y = diag(w) U (x - mean) V^T, U the eigenvectors of
    the covariance of channels, V those of positions (channels scaled to equal variance), and w as
    in `BlockedPCA`. A joint basis of blocks so large would have (channels · b · b)² numbers and no
    samples to fit them to. On the last maps of a network, where one block is the whole map, this
    needs four tenths fewer bytes than joint blocks of 2 × 2 (docs/results.md).

    The components run through the positions, the most varying first, and for each through all
    channels, so a table is made smaller by cutting `weight` and `variance` short: what is cut off
    is coded as zero, and a graph need not compute it.

    Args:
        block: Positions of a block along each axis.
        exponent: As in `BlockedPCA`.
        channels_last: Whether the channels are the last axis.

    Example:
        >>> rows = np.linspace(-1, 1, 200, dtype=np.float32)[:, None, None, None]
        >>> x = rows * np.ones((1, 3, 4, 4), np.float32)  # one degree of freedom
        >>> klt = SeparableKLT(block=4)
        >>> fitter = klt.fitter((3, 4, 4))
        >>> fitter.add(x)
        >>> table = fitter.table()
        >>> y = klt.forward(x, table)
        >>> restored = klt.inverse(y, table)
        >>> y.shape, bool(abs(y[:, 1:]).max() < 1e-3), bool(abs(restored - x).max() < 1e-5)
        ((200, 48, 1, 1), True, True)

    Reference:
        Jain, "Fundamentals of Digital Image Processing", 1989, chapter 5 (separable KLT).
    """

    name: ClassVar[str] = "separable_klt"

    block: int = 7
    exponent: float = 0.5
    channels_last: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.block <= 32 or not 0 <= self.exponent <= 1:
            msg = f"block must be 2 to 32 and exponent 0 to 1; found {self.block}, {self.exponent}"
            raise CodecError(msg)

    def geometry(self, shape: Shape) -> Geometry:
        """How samples of this shape are tiled.

        Raises:
            CodecError: The shape has no axis of positions or more than two, or an empty one.
        """
        if not 2 <= len(shape) <= 3 or min(shape) < 1:
            msg = (
                "a separable KLT codes (channels, length) or (channels, height, width); "
                f"found {shape}"
            )
            raise CodecError(msg)
        if self.channels_last:
            shape = (shape[-1], *shape[:-1])
        return Geometry(
            channels=shape[0],
            positions=shape[1:],
            block=self.block,
            groups=1,
            channels_last=self.channels_last,
        )

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one sample's projection."""
        tiles = self.geometry(shape)
        inner = tiles.dimension // tiles.channels
        return tiles.channels * inner * prod(tiles.blocks) * (tiles.channels + inner)

    def moments_bytes(self, shape: Shape) -> int:
        """Memory that fitting samples of this shape holds."""
        tiles = self.geometry(shape)
        inner = tiles.dimension // tiles.channels
        return 8 * (tiles.channels**2 + inner**2 + 2 * tiles.dimension) + _RESERVOIR_BYTES

    def fitter(self, shape: Shape) -> Fitter:
        """A fitter for samples of this shape."""
        return _SeparableFitter(self, self.geometry(shape))

    def forward(self, x: Floats, table: Table) -> Floats:
        """Batch (n, *shape) to components (n, kept, blocks...)."""
        tiles = self.geometry(tuple(int(size) for size in table["shape"]))
        y = project(_blocks(tiles, np.asarray(x, np.float32)) - table["mean"][..., None], table)
        y = y.transpose(0, 2, 1, 3).reshape(len(x), tiles.dimension, -1)
        y = y[:, : table["weight"].shape[1]] * table["weight"][0][:, None]
        return np.ascontiguousarray(y.reshape(len(x), -1, *tiles.blocks), dtype=np.float32)

    def inverse(self, y: Floats, table: Table) -> Floats:
        """Components (n, kept, blocks...) back to a batch (n, *shape)."""
        tiles = self.geometry(tuple(int(size) for size in table["shape"]))
        inner = tiles.dimension // tiles.channels
        weight = table["weight"][0]
        rows = np.asarray(y, np.float32).reshape(len(y), len(weight), -1)
        z: NDArray[np.float32] = np.zeros((len(y), tiles.dimension, rows.shape[2]), np.float32)
        z[:, : len(weight)] = rows / weight[:, None]
        z = z.reshape(len(y), inner, tiles.channels, -1).transpose(0, 2, 1, 3)
        z = np.matmul(table["position_basis"].T, z)
        z = np.matmul(table["channel_basis"].T, z.reshape(len(y), tiles.channels, -1))
        z = z.reshape(len(y), tiles.channels, inner, -1) + table["mean"][..., None]
        x = tiles.untile(z.reshape(len(y), 1, tiles.dimension, -1))
        beside = (-1, *(1,) * len(tiles.positions))
        x = x * table["gain"].reshape(beside) + table["offset"].reshape(beside)
        return np.moveaxis(x, 1, -1) if self.channels_last else x


def project(blocks: Floats, table: Table) -> Floats:
    """Centred blocks (n, channels, positions, blocks) onto both bases."""
    n, channels, inner, _ = blocks.shape
    y = np.matmul(table["channel_basis"], blocks.reshape(n, channels, -1))
    projected: Floats = np.matmul(table["position_basis"], y.reshape(n, channels, inner, -1))
    return projected


def _blocks(tiles: Geometry, x: Floats) -> Floats:
    """(n, channels, positions of a block, blocks)."""
    return tiles.tile(x).reshape(len(x), tiles.channels, -1, prod(tiles.blocks))


class _SeparableFitter:
    """Moments of channels and of positions, and some samples for the variances of components."""

    __slots__ = (
        "_across",
        "_along",
        "_count",
        "_guess",
        "_kept",
        "_klt",
        "_scale",
        "_sum",
        "_tiles",
    )

    def __init__(self, klt: SeparableKLT, tiles: Geometry) -> None:
        self._klt, self._tiles = klt, tiles
        inner = tiles.dimension // tiles.channels
        self._count = 0
        self._guess = self._scale = np.zeros(0, np.float32)
        self._sum = np.zeros((tiles.channels, inner))
        self._across = np.zeros((tiles.channels, tiles.channels))
        self._along = np.zeros((inner, inner))
        self._kept: list[Floats] = []

    def add(self, batch: NDArray[Any]) -> None:
        """Take in samples (n, *shape)."""
        if not len(batch):
            return
        blocks = _blocks(self._tiles, np.asarray(batch, np.float32))
        if not np.isfinite(blocks).all():
            msg = "a feature is not finite (NaN or infinity); no transform can be fitted to it"
            raise CodecError(msg)
        if not self._count:
            self._guess = blocks.mean((0, 3))
            self._scale = _equalising(blocks)
        room = _RESERVOIR_BYTES - sum(part.nbytes for part in self._kept)
        fits = max(0 if self._kept else 1, room // blocks[0].nbytes)
        if fits:
            self._kept.append(blocks[:fits].copy())
        for sample in blocks:
            centred = sample - self._guess[..., None]
            rows = centred.reshape(len(centred), -1)
            self._across += rows @ rows.T
            scaled = centred * self._scale[:, None, None]
            columns = scaled.transpose(1, 0, 2).reshape(scaled.shape[1], -1)
            self._along += columns @ columns.T
            self._sum += centred.sum(2, dtype=np.float64)
            self._count += centred.shape[2]

    def table(self) -> Table:
        """Both bases, mean (channels, positions), and weight, variance (1, components)."""
        if not self._count:
            msg = "cannot fit a separable KLT to no samples: give at least one"
            raise CodecError(msg)
        tiles = self._tiles
        shift = self._sum / self._count
        inner = shift.shape[1]
        across = self._across / (self._count * inner) - shift @ shift.T / inner
        scaled = shift * self._scale[:, None]
        along = self._along / (self._count * len(shift)) - scaled.T @ scaled / len(shift)
        by_channel, channel_basis = _eigen(across)
        by_position, position_basis = _eigen(along)
        mean = self._guess + shift
        bases = {
            "channel_basis": channel_basis.astype(np.float32),
            "position_basis": position_basis.astype(np.float32),
        }
        expected = np.outer(by_channel, by_position / max(float(by_position.mean()), 1e-30))
        variance = self._variances(bases, mean, expected).T.reshape(-1)
        floor = np.maximum(variance, max(float(variance.mean()), 1e-30) * _LEAST_SHARE)
        spread = np.diagonal(across) + ((mean - mean.mean(1, keepdims=True)) ** 2).mean(1)
        sizes = tiles.positions
        shape = (*sizes, tiles.channels) if tiles.channels_last else (tiles.channels, *sizes)
        return {
            "shape": np.asarray(shape, np.int32),
            **bases,
            "mean": mean.astype(np.float32),
            "weight": ((floor / floor.mean()) ** (self._klt.exponent / 2))[None].astype(np.float32),
            "variance": variance[None].astype(np.float32),
            "channel_mean": mean.mean(1).astype(np.float32),
            "channel_variance": np.maximum(spread, 0).astype(np.float32),
            "gain": np.ones(tiles.channels, np.float32),
            "offset": np.zeros(tiles.channels, np.float32),
        }

    def _variances(
        self, bases: Table, mean: NDArray[np.float64], expected: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Variances (channels, positions), drawn to what separability expects as few were kept."""
        total = np.zeros_like(expected)
        vectors = 0
        for part in self._kept:
            y = project(part - mean[..., None].astype(np.float32), bases)
            total += np.square(y, dtype=np.float64).sum((0, 3))
            vectors += len(part) * part.shape[3]
        return (total + _PRIOR_VECTORS * expected) / (vectors + _PRIOR_VECTORS)


def _equalising(blocks: Floats) -> NDArray[np.float32]:
    """What to multiply channels (n, channels, positions, blocks) by to make them vary alike."""
    spread = (blocks - blocks.mean((0, 3))[..., None]).var((0, 2, 3))
    if not spread.any():  # a single block varies along its positions only
        spread = blocks.var((0, 2, 3))
    if not spread.any():
        return np.ones_like(spread)
    scale: NDArray[np.float32] = 1 / np.sqrt(np.maximum(spread, float(spread.max()) * 1e-6))
    return scale


def _eigen(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, falling, and eigenvectors in rows."""
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values[::-1], 0), vectors[:, ::-1].T
