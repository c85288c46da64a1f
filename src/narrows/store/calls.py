"""Functions and methods a stored network may call, by name; nothing else is ever looked up."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch.nn import functional

from narrows.compress.call_names import ELEMENTWISE, MOVING, POOLING, REDUCING
from narrows.compress.counted import counted_layer_norm
from narrows.errors import ModelError

_OTHERS: Final = """
    pad softmax log_softmax layer_norm matmul bmm scaled_dot_product_attention linear batch_norm
    conv1d conv2d conv3d size dim numel zeros ones zeros_like ones_like full_like arange
    eq ne lt le gt ge neg floordiv mod and_ or_ not_ pos floor ceil round prod
"""
METHODS: Final = (ELEMENTWISE | MOVING | REDUCING | set(POOLING) | set(_OTHERS.split())) - {
    "getattr"
}
_MODULES: Final = (("torch", torch), ("functional", functional), ("operator", operator))
FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    f"{place}.{name}": getattr(module, name)
    for place, module in (*_MODULES, ("math", math))
    for name in sorted(METHODS)
    if callable(getattr(module, name, None))
} | {"getattr": getattr, "counted.counted_layer_norm": counted_layer_norm}
_ATTRIBUTES: Final = ("shape", "ndim", "dtype", "device", "T", "mT")


def name_function(node: str, function: Callable[..., Any]) -> str:
    """The name a function is stored under.

    Raises:
        ModelError: It is not one of those that can be stored.
    """
    for name, known in FUNCTIONS.items():
        if known is function:
            return name
    found = getattr(function, "__name__", function)
    msg = f"{node} calls {found}, which cannot be stored: it is none of narrows' list of functions"
    raise ModelError(msg)


def check_method(node: str, name: str) -> str:
    """The name of a tensor's method.

    Raises:
        ModelError: It is not one of those that can be stored.
    """
    if name not in METHODS:
        msg = f"{node} calls the method {name!r}, which is none of narrows' list"
        raise ModelError(msg)
    return name


def check_attribute(node: str, arguments: tuple[Any, ...]) -> None:
    """See that only a tensor's own facts are read by `getattr`.

    Raises:
        ModelError: Another attribute is asked for.
    """
    if len(arguments) != 2 or arguments[1] not in _ATTRIBUTES:
        msg = f"{node} reads {arguments[1:]!r} of a value: expected one of {', '.join(_ATTRIBUTES)}"
        raise ModelError(msg)
