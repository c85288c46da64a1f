"""The networks that the papers on fewer weights begin with, by name, at any width.

    zoo:lenet5?pretrained=0                     random weights, to be trained
    zoo:deepiot_vgg?width=0.5&weights=FILE      all widths halved, with weights that were trained
    zoo:deepsense?classes=9&pretrained=0        for another number of classes

No weights come with them. How inputs are prepared is said by the task, except for pictures of
CIFAR-10.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from narrows.zoo.families import Family

if TYPE_CHECKING:
    from torch import nn

# Intervals of a window, sensors · bins · values of an interval.
_WINDOW: Final = (20, 2 * 10 * 6)
# Steps of the longest string of `spoken_digits`, cepstra of a step.
_STRING: Final = (40, 100)
_DIGITS: Final = 11


def _lenet5(width: float, classes: int) -> nn.Module:
    from narrows.zoo.lenet import lenet5

    first, second, hidden = (_scaled(count, width) for count in (20, 50, 500))
    return lenet5((first, second, hidden), classes=classes)


def _lenet_300_100(width: float, classes: int) -> nn.Module:
    from narrows.zoo.lenet import lenet_300_100

    return lenet_300_100((_scaled(300, width), _scaled(100, width)), classes=classes)


def _deepiot_vgg(width: float, classes: int) -> nn.Module:
    from narrows.zoo.deepiot_vgg import deepiot_vgg

    return deepiot_vgg(width=width, classes=classes)


def _deepsense(width: float, classes: int) -> nn.Module:
    from narrows.zoo.deepsense import DeepSense, DeepSenseUnits

    filters, hidden = _scaled(64, width), _scaled(120, width)
    units = DeepSenseUnits(
        own=((filters, filters),) * 3, merged=(filters,) * 3, hidden=(hidden, hidden)
    )
    return DeepSense(classes, units=units)


def _bilstm(width: float, classes: int) -> nn.Module:
    from narrows.zoo.bilstm import BiLSTM

    return BiLSTM(_STRING[1], classes, forward_units=(_scaled(128, width),) * 5)


def _scaled(count: int, width: float) -> int:
    return max(1, round(count * width))


_AS_PAPER: Final = "as the paper's"
_PAPERS: Final = (
    Family(
        name="lenet5",
        width=1.0,
        stem=_AS_PAPER,
        definition=_lenet5,
        input_shape=(1, 28, 28),
        preprocess=None,
    ),
    Family(
        name="lenet_300_100",
        width=1.0,
        stem=_AS_PAPER,
        definition=_lenet_300_100,
        input_shape=(1, 28, 28),
        preprocess=None,
    ),
    Family(name="deepiot_vgg", width=1.0, stem=_AS_PAPER, definition=_deepiot_vgg),
    Family(
        name="deepsense",
        width=1.0,
        stem=_AS_PAPER,
        definition=_deepsense,
        input_shape=_WINDOW,
        classes=6,
        preprocess=None,
    ),
    Family(
        name="bilstm",
        width=1.0,
        stem=_AS_PAPER,
        definition=_bilstm,
        input_shape=_STRING,
        classes=_DIGITS,
        preprocess=None,
    ),
)
PAPERS: Final = MappingProxyType({paper.name: paper for paper in _PAPERS})
