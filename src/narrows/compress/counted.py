"""Normalisation over units some of which are no longer there."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


def counted_layer_norm(
    values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, absent: int
) -> Tensor:
    """Layer normalisation of (..., n) in which absent units count as zeros.

    The statistics are those of the larger network whose removed units are masked: mean and
    variance over n + absent values.

    Example:
        >>> whole = torch.nn.functional.layer_norm(torch.tensor([1.0, 3.0, 0.0]), (3,))
        >>> left = counted_layer_norm(torch.tensor([1.0, 3.0]), None, None, 1e-5, 1)
        >>> torch.allclose(left, whole[:2])
        True
    """
    count = values.shape[-1] + absent
    mean = values.sum(-1, keepdim=True) / count
    centred = values - mean
    squares = centred.square().sum(-1, keepdim=True) + absent * mean.square()
    scaled = centred * torch.rsqrt(squares / count + eps)
    scaled = scaled if weight is None else scaled * weight
    return scaled if bias is None else scaled + bias


@final
class CountedLayerNorm(nn.Module):  # type: ignore[misc]
    """`nn.LayerNorm` in which absent units count as zeros.

    Args:
        layer: The layer it stands for, its weights those that are left.
        absent: How many units were removed.
    """

    def __init__(self, layer: nn.LayerNorm, absent: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.eps, self.absent = layer.eps, absent

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values, of the shape of the input."""
        return counted_layer_norm(values, self.weight, self.bias, self.eps, self.absent)


@final
class CountedGroupNorm(nn.Module):  # type: ignore[misc]
    """`nn.GroupNorm` in which absent channels, equally many in each group, count as zeros.

    Args:
        layer: The layer it stands for, its weights those that are left.
        absent: How many channels were removed from each group.
    """

    def __init__(self, layer: nn.GroupNorm, absent: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.eps, self.absent, self.num_groups = layer.eps, absent, layer.num_groups

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values, of the shape of the input (batch, channels, ...)."""
        channels = values.shape[1]
        places = values.shape[2:].numel()
        grouped = values.flatten(1).unflatten(1, (self.num_groups, -1))
        absent = self.absent * places
        scaled = counted_layer_norm(grouped, None, None, self.eps, absent).reshape(values.shape)
        if self.weight is None:
            return scaled
        along = (1, channels) + (1,) * (values.ndim - 2)
        return scaled * self.weight.reshape(along) + self.bias.reshape(along)
