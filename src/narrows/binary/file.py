"""The file of a binary network: safetensors, with the settings of its layers in the header.

    0.weight, 0.threshold, 0.flip, 1.weight, ..., 3.weight, 3.gain, 3.offset

Nothing is pickled, and what is read is checked before it is run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, final

import numpy as np
import safetensors
from safetensors.numpy import save

from narrows.binary.layers import FromBytes, FromSigns, Layer, Scores, Signs, Window
from narrows.binary.network import BinaryNetwork, arrays
from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, InputError, ModelError
from narrows.files import write_atomic

_PLAIN: Final = re.compile("BOOL|[IU](8|16|32|64)|F(16|32|64)")
_KEY: Final = "narrows.binary"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerHead:
    """A layer without its arrays."""

    reads: Literal["bytes", "signs"]
    channels: int
    window: Window
    fill: int
    pool: Window | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """A network without its arrays."""

    FORMAT: ClassVar[int] = 1
    format: int
    input_shape: tuple[int, ...]
    layers: tuple[_LayerHead, ...]


def save_binary(network: BinaryNetwork, path: str | Path) -> None:
    """Write a binary network into one file.

    Args:
        network: The network.
        path: Usually ends in .safetensors.

    Raises:
        StorageError: The file cannot be written; what was there is whole.
    """
    head = _Head(
        format=_Head.FORMAT,
        input_shape=network.input_shape,
        layers=tuple(_head(layer) for layer in network.layers),
    )
    tensors = {
        f"{number}.{name}": np.ascontiguousarray(array)
        for number, layer in enumerate(network.layers)
        for name, array in arrays(layer)
    }
    write_atomic(path, save(tensors, {_KEY: json.dumps(to_dict(head))}))


def load_binary(path: str | Path) -> BinaryNetwork:
    """The binary network of a file.

    Raises:
        InputError: There is no such file.
        ModelError: It is damaged, or no file of `save_binary`.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"no binary network at {path}: give a file of `save_binary`"
        raise InputError(msg)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            head = from_dict(_Head, json.loads((file.metadata() or {}).get(_KEY, "null")))
            tensors = {name: _array(file, name) for name in file.keys()}  # noqa: SIM118
        return _network(head, tensors)
    except (safetensors.SafetensorError, ValueError, OSError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        msg = f"{path} holds no binary network: {reason}; take another copy"
        raise ModelError(msg) from error


def _array(file: Any, name: str) -> Any:
    kind = file.get_slice(name).get_dtype()
    if not _PLAIN.fullmatch(kind):  # others NumPy knows only where some package has taught it
        msg = f"array {name!r} is of {kind}, which no binary network has"
        raise ConfigError(msg)
    return file.get_tensor(name)


def _network(head: _Head, tensors: dict[str, Any]) -> BinaryNetwork:
    if head.format != _Head.FORMAT:
        msg = f"format {head.format}, expected {_Head.FORMAT}"
        raise ConfigError(msg)
    last = len(head.layers) - 1
    layers = tuple(
        _layer(layer, f"{number}.", tensors, is_last=number == last)
        for number, layer in enumerate(head.layers)
    )
    if tensors:
        msg = f"it has more arrays than layers need: {', '.join(sorted(tensors)[:3])}"
        raise ConfigError(msg)
    return BinaryNetwork(input_shape=head.input_shape, layers=layers)


def _layer(head: _LayerHead, prefix: str, tensors: dict[str, Any], *, is_last: bool) -> Layer:
    def take(name: str) -> Any:
        return tensors.pop(prefix + name)

    weight, window = take("weight"), head.window
    product: FromBytes | FromSigns
    if head.reads == "bytes":
        product = FromBytes(weight=weight, channels=head.channels, window=window, fill=head.fill)
    else:
        product = FromSigns(weight=weight, channels=head.channels, window=window)
    if is_last:
        return Layer(product=product, readout=Scores(gain=take("gain"), offset=take("offset")))
    signs = Signs(threshold=take("threshold"), flip=take("flip"), pool=head.pool)
    return Layer(product=product, readout=signs)


def _head(layer: Layer) -> _LayerHead:
    product, readout = layer.product, layer.readout
    return _LayerHead(
        reads="bytes" if isinstance(product, FromBytes) else "signs",
        channels=product.channels,
        window=product.window,
        fill=product.fill if isinstance(product, FromBytes) else 0,
        pool=readout.pool if isinstance(readout, Signs) else None,
    )
