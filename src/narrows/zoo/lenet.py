"""The two small networks that papers on fewer weights begin with, for digits of 28 × 28 pixels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet5(units: tuple[int, int, int] = (20, 50, 500), *, classes: int = 10) -> nn.Sequential:
    """LeNet-5 as Caffe has it, which Han, Guo and DeepIoT compress; x is (n, 1, 28, 28).

    Two convolutions of 5 × 5, each followed by a maximum over 2 × 2 and by no activation, and two
    linear layers with one rectifier between; 430 500 weights.

    Args:
        units: Channels of `conv1` and `conv2`, outputs of `ip1`.
        classes: Outputs of `ip2`.

    Example:
        >>> sum(p.numel() for p in lenet5().parameters() if p.ndim > 1)
        430500

    Reference:
        LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
        Proc. IEEE 86(11), 1998; layers and names of caffe/examples/mnist/lenet.prototxt.
    """
    first, second, hidden = units
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, first, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            ip1=nn.Linear(16 * second, hidden),
            relu1=nn.ReLU(),
            ip2=nn.Linear(hidden, classes),
        )
    )


def lenet_300_100(units: tuple[int, int] = (300, 100), *, classes: int = 10) -> nn.Sequential:
    """LeNet-300-100: two hidden layers; x is (n, 1, 28, 28) or (n, 784).

    Args:
        units: Outputs of `ip1` and `ip2`.
        classes: Outputs of `ip3`.

    Example:
        >>> sum(p.numel() for p in lenet_300_100().parameters())
        266610

    Reference:
        LeCun et al., as of `lenet5`; widths as Han et al., NIPS 2015, prune them.
    """
    first, second = units
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            ip1=nn.Linear(784, first),
            relu1=nn.ReLU(),
            ip2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            ip3=nn.Linear(second, classes),
        )
    )
