"""DeepSense: one network for several motion sensors, from the spectra of short intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

KERNELS: Final = ((2, 8), (1, 6), (1, 4))
CODE_KERNELS: Final = ((2, 8), (2, 6), (2, 4))
_WIDTH: Final = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSenseUnits:
    """How many units each layer has; those of the sensors' own layers one number for each sensor.

    Args:
        own: Filters of the three convolutions of each sensor.
        merged: Filters of the three convolutions over all sensors.
        hidden: Units of the two recurrent layers.
    """

    own: tuple[tuple[int, ...], ...] = ((64, 64), (64, 64), (64, 64))
    merged: tuple[int, int, int] = (64, 64, 64)
    hidden: tuple[int, int] = (120, 120)


@final
class DeepSense(nn.Module):  # type: ignore[misc]
    """DeepSense for classification; x is (n, intervals, sensors · bins · values).

        each sensor  (values, T, bins) ─► 3 convolutions along the bins ─┐
        all sensors  (filters, T, sensors, bins - 6) ─► 3 convolutions ──┴► flat, an interval each
        intervals    ─► 2 GRUs ─► mean over intervals that are not all zeros ─► classes

    Every convolution is followed by batch normalisation, a rectifier and, but for the last of a
    sensor and the last of all, dropout of whole filters.

    Args:
        classes: Outputs.
        sensors: How many; the last convolution of each has equally many filters.
        bins: Frequencies of an interval.
        values: Numbers of one sensor at one frequency: axes × 2.
        units: Of each layer.
        kernels: Sensors × bins, of the convolutions over all sensors.
        filter_dropout: Share of filters dropped.
        hidden_dropout: Share of recurrent units dropped.

    Example:
        >>> model = DeepSense(classes=6).eval()
        >>> model(torch.rand(2, 20, 120)).shape
        torch.Size([2, 6])
        >>> sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1)
        472592

    Reference:
        Yao, Hu, Zhao, Zhang, Abdelzaher, "DeepSense", WWW 2017, arXiv 1611.01942, with the sizes of
        the authors' code. The kernels are those of DeepIoT's tables 5 and 6 (`CODE_KERNELS`: the
        code's). Departs from the paper: the width of an interval is no input and the GRUs are not
        normalised, as in the code; the reset gate acts after the product, as PyTorch's does.
    """

    def __init__(
        self,
        classes: int,
        *,
        sensors: int = 2,
        bins: int = 10,
        values: int = 6,
        units: DeepSenseUnits | None = None,
        kernels: tuple[tuple[int, int], ...] = KERNELS,
        filter_dropout: float = 0.2,
        hidden_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        units = units or DeepSenseUnits(own=((64,) * sensors,) * 3)
        self.sensors, self.bins, self.values = sensors, bins, values
        self.own = nn.ModuleList(
            _own_layers(values, [each[s] for each in units.own], filter_dropout)
            for s in range(sensors)
        )
        self.stacked = nn.Dropout3d(filter_dropout)
        self.merged = _merged_layers(units.own[-1][0], units.merged, kernels, filter_dropout)
        left = bins - 3 * (_WIDTH - 1)
        flat = units.merged[-1] * sensors * left
        self.gru1 = nn.GRU(flat, units.hidden[0], batch_first=True)
        self.dropout1 = nn.Dropout(hidden_dropout)
        self.gru2 = nn.GRU(units.hidden[0], units.hidden[1], batch_first=True)
        self.dropout2 = nn.Dropout(hidden_dropout)
        self.out = nn.Linear(units.hidden[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        there = (x.abs().sum(2, keepdim=True) > 0).to(x.dtype)
        parts = x.unflatten(2, (self.sensors, self.bins, self.values)).permute(2, 0, 4, 1, 3)
        own = [layers(parts[s]) for s, layers in enumerate(self.own)]
        y = self.merged(self.stacked(torch.stack(own, 3)))
        y = self.dropout1(self.gru1(y.permute(0, 2, 1, 3, 4).flatten(2))[0])
        y = self.dropout2(self.gru2(y)[0])
        return self.out((y * there).sum(1) / there.sum(1))


def _own_layers(values: int, filters: list[int], dropout: float) -> nn.Sequential:
    """(n, values, T, bins) to (n, filters, T, bins - 6)."""
    layers: list[nn.Module] = []
    before = values
    for number, count in enumerate(filters):
        layers += [nn.Conv2d(before, count, (1, _WIDTH)), nn.BatchNorm2d(count), nn.ReLU()]
        layers += [nn.Dropout2d(dropout)] if number < len(filters) - 1 else []
        before = count
    return nn.Sequential(*layers)


def _merged_layers(
    before: int, filters: tuple[int, ...], kernels: tuple[tuple[int, int], ...], dropout: float
) -> nn.Sequential:
    """(n, filters, T, sensors, bins), the last two axes kept by padding as TensorFlow pads."""
    layers: list[nn.Module] = []
    for number, (count, (tall, wide)) in enumerate(zip(filters, kernels, strict=True)):
        pads = ((wide - 1) // 2, wide // 2, (tall - 1) // 2, tall // 2, 0, 0)
        layers += [nn.ConstantPad3d(pads, 0.0), nn.Conv3d(before, count, (1, tall, wide))]
        layers += [nn.BatchNorm3d(count), nn.ReLU()]
        layers += [nn.Dropout3d(dropout)] if number < len(filters) - 1 else []
        before = count
    return nn.Sequential(*layers)
