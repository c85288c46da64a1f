"""Layers of torch.nn as the settings that make them again; only what is listed can be made."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from narrows.compress.attention import ReducedAttention
from narrows.compress.binary_layers import BinaryActivation, ShiftBatchNorm
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm
from narrows.errors import ModelError
from narrows.store.derived import SameConv2d

_NAMES: Final = """
    Linear Bilinear Identity Embedding PReLU
    Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d
    LayerNorm GroupNorm RMSNorm LocalResponseNorm
    LSTM GRU RNN MultiheadAttention
    ReLU ReLU6 LeakyReLU RReLU ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Hardtanh
    Hardswish Hardsigmoid Hardshrink Softshrink Tanhshrink Softplus Softsign Threshold
    Softmax LogSoftmax Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout
    MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
    AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    Flatten Unflatten PixelShuffle PixelUnshuffle ChannelShuffle
    Upsample UpsamplingNearest2d UpsamplingBilinear2d
    ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d
    ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d
"""
LAYERS: Final[Mapping[str, type[nn.Module]]] = {
    **{name: getattr(nn, name) for name in _NAMES.split()},
    "SameConv2d": SameConv2d,
    "BinaryActivation": BinaryActivation,
    "ShiftBatchNorm": ShiftBatchNorm,
}
_RECURRENT: Final = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size", "nonlinearity"),
)
_COUNTED: Final = {"CountedLayerNorm": CountedLayerNorm, "CountedGroupNorm": CountedGroupNorm}
_WRONG: Final = (
    *(KeyError, TypeError, ValueError, RuntimeError, AttributeError),
    *(AssertionError, ArithmeticError),
)
# Whole branches are dropped in training only; what is stored is run.
_NOTHING: Final = ("StochasticDepth",)


def describe_layer(name: str, layer: nn.Module) -> dict[str, Any]:
    """A layer as {"type": ..., "settings": {...}}.

    Args:
        name: Its qualified name, for messages.
        layer: Of torch.nn, one of those that `remove_units` and `BinaryNet` put in its place, or
            `SameConv2d`.

    Raises:
        ModelError: It is of another kind, or one of its settings is no plain value.

    Example:
        >>> describe_layer("0", nn.ReLU())
        {'type': 'ReLU', 'settings': {'inplace': False}}
    """
    kind = type(layer).__name__
    if kind in _NOTHING:
        return {"type": "Identity", "settings": {}}
    if isinstance(layer, CountedLayerNorm | CountedGroupNorm):
        return {"type": kind, "settings": _counted_settings(layer)}
    if isinstance(layer, ReducedAttention):
        return {"type": kind, "settings": _attention_settings(layer)}
    if LAYERS.get(kind) is not type(layer):
        msg = f"layer {name!r} is a {kind}, which cannot be stored: use layers of torch.nn"
        raise ModelError(msg)
    settings = {key: getattr(layer, key) for key in _keys(layer) if hasattr(layer, key)}
    if "bias" in settings and not isinstance(settings["bias"], bool):
        settings["bias"] = settings["bias"] is not None
    if isinstance(layer, nn.MultiheadAttention):
        settings |= {"bias": layer.in_proj_bias is not None}
        settings |= {"add_bias_kv": layer.bias_k is not None}
    return {"type": kind, "settings": settings}


def build_layer(name: str, kind: str, settings: Mapping[str, Any]) -> nn.Module:
    """The layer of a description, with weights that are to be filled.

    Raises:
        ModelError: There is no such kind of layer, or these are not its settings.
    """
    try:
        if kind in _COUNTED:
            return _counted(kind, **settings)
        if kind == "ReducedAttention":
            return _attention(**settings)
        return LAYERS[kind](**settings)
    except _WRONG as error:
        msg = f"layer {name!r} of type {kind!r} cannot be made with {dict(settings)}: {error}"
        raise ModelError(msg) from error


def _keys(layer: nn.Module) -> list[str]:
    """Names of the settings of a layer's kind."""
    if isinstance(layer, nn.RNNBase):
        kept = _RECURRENT if isinstance(layer, nn.RNN) else _RECURRENT[:-1]
        return [key for key in kept if key != "proj_size" or isinstance(layer, nn.LSTM)]
    left_out = ("self", "device", "dtype", "args", "kwargs")
    found = inspect.signature(type(layer).__init__).parameters
    return [key for key in found if key not in left_out and not key.startswith("_")]


def _counted_settings(layer: CountedLayerNorm | CountedGroupNorm) -> dict[str, Any]:
    settings: dict[str, Any] = {"eps": layer.eps, "absent": layer.absent}
    settings["units"] = None if layer.weight is None else len(layer.weight)
    settings["bias"] = layer.bias is not None
    if isinstance(layer, CountedGroupNorm):
        settings["groups"] = layer.num_groups
    return settings


def _counted(
    kind: str, *, eps: float, absent: int, units: int | None, bias: bool, groups: int = 1
) -> nn.Module:
    if kind == "CountedGroupNorm":
        whole = nn.GroupNorm(groups, units or groups, eps, affine=units is not None)
        return CountedGroupNorm(whole, absent)
    layer = nn.LayerNorm(units or 1, eps, elementwise_affine=units is not None, bias=bias)
    return CountedLayerNorm(layer, absent)


def _attention_settings(layer: ReducedAttention) -> dict[str, Any]:
    return {
        "inputs": layer.in_proj_weight.shape[1],
        "inner": layer.in_proj_weight.shape[0] // 3,
        "outputs": layer.out_proj.weight.shape[0],
        "head_dim": layer.head_dim,
        "bias": layer.in_proj_bias is not None,
        "out_bias": layer.out_proj.bias is not None,
        "batch_first": layer.batch_first,
        "dropout": layer.dropout,
    }


def _attention(
    *,
    inputs: int,
    inner: int,
    outputs: int,
    head_dim: int,
    bias: bool,
    out_bias: bool,
    batch_first: bool,
    dropout: float,
) -> nn.Module:
    shaped = nn.MultiheadAttention(head_dim, 1, dropout=dropout, batch_first=batch_first)
    projected, out = nn.Linear(inputs, 3 * inner, bias=bias), nn.Linear(inner, outputs, out_bias)
    named = {
        "in_proj_weight": projected.weight,
        "in_proj_bias": projected.bias,
        "out_proj.weight": out.weight,
        "out_proj.bias": out.bias,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return ReducedAttention(shaped, given)
