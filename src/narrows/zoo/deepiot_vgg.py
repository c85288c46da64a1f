"""The VGG that DeepIoT compresses on CIFAR-10: 13 convolutions and three linear layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import nn

UNITS: Final = (64, 64, 128, 128, 256, 256, 256, *(512,) * 6, 4096, 4096)
_POOLED: Final = (2, 4, 7, 10, 13)
_SMALL_KERNELS: Final = (11, 12, 13)


def deepiot_vgg(
    units: tuple[int, ...] = UNITS, *, width: float = 1.0, dropout: float = 0.5, classes: int = 10
) -> nn.Sequential:
    """DeepIoT's VGGNet; x is (n, 3, 32, 32).

    Kernels of 3 × 3, the last three of 2 × 2, each followed by batch normalisation and a rectifier,
    a maximum over 2 × 2 after the second, fourth, seventh, tenth and last. `conv1` to `conv13`,
    `fc1` to `fc3`.

    Args:
        units: Channels of the convolutions, outputs of `fc1` and `fc2`.
        width: Share of them.
        dropout: Before `fc2` and `fc3`.
        classes: Outputs of `fc3`.

    Example:
        >>> sum(p.numel() for p in deepiot_vgg().parameters() if p.ndim > 1)
        29693632

    Reference:
        Yao et al., "DeepIoT", SenSys 2017, section 5.4, table 3: layers, kernels and widths. That
        pictures of 2 × 2 are padded at right and bottom, batch normalisation and dropout are not
        in the paper.
    """
    sizes = [max(1, round(count * width)) for count in units]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = 3
    for number, size in enumerate(sizes[:13], start=1):
        kernel = 2 if number in _SMALL_KERNELS else 3
        if kernel == 2:
            layers[f"pad{number}"] = nn.ZeroPad2d((0, 1, 0, 1))
        layers[f"conv{number}"] = nn.Conv2d(before, size, kernel, padding=kernel - 2, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(size)
        layers[f"relu{number}"] = nn.ReLU()
        if number in _POOLED:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        before = size
    layers["flatten"] = nn.Flatten()
    for number, size in enumerate(sizes[13:], start=1):
        layers[f"fc{number}"] = nn.Linear(before, size)
        layers[f"relu{13 + number}"] = nn.ReLU()
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        before = size
    layers["fc3"] = nn.Linear(before, classes)
    return nn.Sequential(layers)
