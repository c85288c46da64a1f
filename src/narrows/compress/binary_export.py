"""From a network that `BinaryNet` has trained to a binary network that runs without torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from narrows.binary import (
    ALWAYS,
    NEVER,
    BinaryNetwork,
    FromBytes,
    FromSigns,
    Layer,
    Scores,
    Signs,
    Window,
    pack_signs,
)
from narrows.binary.layers import Size
from narrows.compress.binary_layers import BinaryActivation
from narrows.compress.binary_order import Block, binary_blocks
from narrows.errors import ModelError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Bytes:
    """What a byte of the input means: (byte − zero) · scale."""

    scale: float
    zero: int


def binary_network(
    model: nn.Module, input_shape: tuple[int, ...], *, scale: float, zero: int = 0
) -> BinaryNetwork:
    """A trained network of signs as bits.

    Normalisation and sign become a threshold of whole numbers. It is found by asking the very
    normalisation of the network, in its own arithmetic, so that every sum gives the sign that it
    gives in torch, ties included. Where `scale` is a power of two, torch's first layer computes
    without rounding too, and all signs are equal; elsewhere those of the first layer are, up to
    torch's rounding of its sums.

    Args:
        model: As `BinaryNet` made it, without real layers.
        input_shape: Of one input: (channels, height, width), or (values).
        scale: A byte means (byte − zero) · scale to the network.
        zero: The byte that means zero.

    Raises:
        ModelError: The network is in another order, a weight is not +1 or −1, a number is not
            finite, or a layer has settings that binary networks have not.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2)).eval()
        >>> _ = nn.init.ones_(net[0].weight)
        >>> run = binary_network(net, (4,), scale=1 / 128, zero=128).ready("numpy")
        >>> x = np.array([[128, 130, 128, 256 - 10]], np.uint8)
        >>> np.allclose(run(x), net((torch.tensor(x) - 128.0) / 128).detach())
        True
    """
    blocks = binary_blocks(model)
    byte = isinstance(zero, Integral) and 0 <= zero <= 255
    if len(input_shape) not in (1, 3) or not byte or not 0 < scale < math.inf:
        msg = (
            f"inputs of shape {input_shape}, scale {scale} and zero {zero}: expected (channels, "
            "height, width) or (n,), a finite scale above 0, and a byte"
        )
        raise ModelError(msg)
    network = copy.deepcopy(model).cpu().float().eval()
    pictures = len(input_shape) == 3
    size: Size = (input_shape[1], input_shape[2]) if pictures else (1, 1)
    layers: list[Layer] = []
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        given = _Bytes(scale=scale, zero=zero) if number == 0 else None
        pictures = pictures and not block.flatten
        _check_reading(network, block.weight, pictures=pictures)
        layers.append(_layer(network, block, size, given, is_last=last))
        size = layers[-1].size(size)
        if not last:
            _check_activation(network, blocks[number + 1].reads)
    return BinaryNetwork(input_shape=tuple(input_shape), layers=tuple(layers))


def _check_reading(network: nn.Module, name: str, *, pictures: bool) -> None:
    """See that convolutions read pictures and linear layers none, of which they read one axis."""
    owner = network.get_submodule(name)
    if isinstance(owner, nn.Linear) and pictures:
        msg = f"layer {name!r} is linear along the last axis of pictures: put nn.Flatten before it"
        raise ModelError(msg)
    if isinstance(owner, nn.Conv2d) and not pictures:
        msg = f"layer {name!r} is a convolution of flat values: give (channels, height, width)"
        raise ModelError(msg)


def _layer(
    network: nn.Module, block: Block, size: Size, given: _Bytes | None, *, is_last: bool
) -> Layer:
    owner, norm = network.get_submodule(block.weight), network.get_submodule(block.norm)
    if owner.bias is not None:
        msg = f"layer {block.weight!r} has a bias before its normalisation: BinaryNet takes it out"
        raise ModelError(msg)
    signs, window = _weight(block.weight, owner, size)
    outputs, channels = len(signs), signs.shape[-1]
    product: FromBytes | FromSigns
    unit, shift, most = 1.0, np.zeros(outputs, np.int64), signs[0].size
    if given is None:
        product = FromSigns(weight=pack_signs(signs), channels=channels, window=window)
    else:
        flat = pack_signs(signs.reshape(outputs, -1))
        product = FromBytes(weight=flat, channels=channels, window=window, fill=given.zero)
        # Kernels add up bytes: the sum of what they mean is less by zero · Σ w.
        unit, shift = given.scale, given.zero * signs.reshape(outputs, -1).sum(1, dtype=np.int64)
        most *= max(given.zero, 255 - given.zero)
    is_flat = isinstance(owner, nn.Linear) or isinstance(norm, nn.BatchNorm1d)
    axes = 2 if is_flat else 4
    if is_last:
        return Layer(product=product, readout=_scores(block.norm, norm, axes, unit, shift))
    threshold, flip = _thresholds(block.norm, norm, axes, outputs, unit, most)
    plain = (threshold > ALWAYS) & (threshold < NEVER)
    raw = np.where(plain, threshold + shift, threshold).astype(np.int32)
    pool = None if block.pool is None else _pool(block.pool, network.get_submodule(block.pool))
    return Layer(product=product, readout=Signs(threshold=raw, flip=flip, pool=pool))


def _weight(name: str, owner: nn.Module, size: Size) -> tuple[NDArray[np.int8], Window]:
    """Signs (outputs, height, width, channels) of a layer, and its window."""
    weight = owner.weight.detach()
    if not bool((weight.abs() == 1).all()):
        zeros = int((weight == 0).sum())
        found = f"{zeros} zeros" if zeros else "other values than +1 and −1"
        msg = f"layer {name!r} has {found} among its weights: XNOR knows +1 and −1, as BinaryNet "
        raise ModelError(msg + "gives them to a network that was not pruned")
    if isinstance(owner, nn.Linear):
        tall, wide = size
        if owner.in_features % (tall * wide):
            msg = f"layer {name!r} reads {owner.in_features} values of a picture of {tall} × {wide}"
            raise ModelError(msg)
        shaped = weight.reshape(len(weight), -1, tall, wide)
        return _channels_last(shaped), Window(kernel=(tall, wide))
    if not isinstance(owner, nn.Conv2d):
        msg = f"layer {name!r} is a {type(owner).__name__}: expected Linear or Conv2d"
        raise ModelError(msg)
    plain = owner.groups == 1 and owner.dilation == (1, 1) and owner.padding_mode == "zeros"
    kernel, padding = owner.kernel_size, owner.padding
    if not plain or isinstance(padding, str) or padding[0] >= kernel[0] or padding[1] >= kernel[1]:
        msg = (
            f"layer {name!r} has groups, dilation, or a padding that is no number of zeros below "
            "its kernel: binary convolutions have none of these"
        )
        raise ModelError(msg)
    window = Window(kernel=kernel, stride=owner.stride, padding=padding)
    return _channels_last(weight), window


def _channels_last(weight: Tensor) -> NDArray[np.int8]:
    return weight.permute(0, 2, 3, 1).to(torch.int8).contiguous().numpy()  # type: ignore[no-any-return]


def _pool(name: str, layer: Any) -> Window:
    kernel, stride, padding, dilation = (
        _pair(value) for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if (
        not isinstance(layer, nn.MaxPool2d)
        or layer.ceil_mode
        or (*padding, *dilation) != (0, 0, 1, 1)
    ):
        msg = (
            f"layer {name!r} is {layer}: expected MaxPool2d without padding, dilation and ceil_mode"
        )
        raise ModelError(msg)
    return Window(kernel=kernel, stride=stride)


def _pair(value: int | Sequence[int]) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check_activation(network: nn.Module, name: str | None) -> None:
    layer = None if name is None else network.get_submodule(name)
    if not isinstance(layer, BinaryActivation):
        msg = f"layer {name!r} is a {type(layer).__name__}: expected the signs of BinaryActivation"
        raise ModelError(msg)


def _thresholds(
    name: str, norm: nn.Module, axes: int, outputs: int, unit: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """From which sum on a sign is another one than of the smallest sum, by halving.

    Every step of a normalisation in evaluation keeps or reverses the order of numbers, rounded or
    not, so that a sign changes once over all sums, or never.

    Args:
        name: Of the normalisation.
        norm: The normalisation.
        axes: Of what it is given.
        outputs: Size of the second of them.
        unit: What a sum of one means.
        most: No sum is larger, or smaller than minus it.
    """
    low, high = np.full(outputs, -most), np.full(outputs, most)
    before, after = (_is_up(name, norm, axes, ends, unit) for ends in (low, high))
    while (high - low > 1).any():
        middle = (low + high) // 2
        same = _is_up(name, norm, axes, middle, unit) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    constant = before == after
    threshold = np.where(constant, np.where(before, ALWAYS, NEVER), high)
    return threshold, before & ~constant


def _is_up(
    name: str, norm: nn.Module, axes: int, sums: NDArray[np.int64], unit: float
) -> NDArray[np.bool_]:
    """Whether the normalisation of a sum in each channel is positive, or zero."""
    found = _asked(norm, axes, torch.from_numpy(sums.astype(np.float64) * unit).float())
    if not bool(found.isfinite().all()):
        raise _not_finite(name)
    return (found >= 0).numpy()  # type: ignore[no-any-return]


def _asked(norm: nn.Module, axes: int, values: Tensor) -> Tensor:
    """What a normalisation makes of one value in each channel."""
    with torch.no_grad():
        found: Tensor = norm(values.reshape(1, -1, *[1] * (axes - 2)))
    return found.reshape(-1)


def _scores(name: str, norm: nn.Module, axes: int, unit: float, shift: NDArray[np.int64]) -> Scores:
    """The normalisation as a factor and a constant; its two values at 0 and 1 tell both."""
    exact = copy.deepcopy(norm).double()
    count = len(shift)
    zero, one = (
        _asked(exact, axes, torch.full((count,), float(value), dtype=torch.float64)).numpy()
        for value in (0, 1)
    )
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused
        gain = (one - zero) * unit
        offset = zero - gain * shift
    most = float(np.finfo(np.float32).max)
    if not ((np.abs(gain) <= most) & (np.abs(offset) <= most)).all():
        raise _not_finite(name)
    return Scores(gain=gain.astype(np.float32), offset=offset.astype(np.float32))


def _not_finite(name: str) -> ModelError:
    msg = f"layer {name!r} gives numbers that are not finite: its means and factors must be"
    return ModelError(msg)
