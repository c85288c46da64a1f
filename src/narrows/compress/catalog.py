"""The methods by name, and a method from a line of text.

deepiot:share=0.05,search.epochs=10,finetune.epochs=20
units:shares=[0.7,0.5],cost=macs,retrain.epochs=5
units:shares=[0.5],retrain=none
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from narrows.compress.base import Method
from narrows.compress.methods.binaryconnect import BinaryConnect
from narrows.compress.methods.binarynet import BinaryNet
from narrows.compress.methods.codebooks import CodebookSharing
from narrows.compress.methods.dead_units import DeadUnits
from narrows.compress.methods.deepiot import DeepIoT
from narrows.compress.methods.distillation import Distillation
from narrows.compress.methods.fixed_point import FixedPointTraining
from narrows.compress.methods.int8_aware import Int8Aware
from narrows.compress.methods.magnitude import MagnitudePruning
from narrows.compress.methods.mixed_precision import MixedPrecision
from narrows.compress.methods.sparsesep import SparseSep
from narrows.compress.methods.surgery import DynamicNetworkSurgery
from narrows.compress.methods.ternary import TernaryWeights
from narrows.compress.methods.units import UnitPruning
from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError

T = TypeVar("T")

METHODS: Final[Mapping[str, type[Method]]] = MappingProxyType(
    {
        method.name: method
        for method in (
            DeepIoT,
            UnitPruning,
            MagnitudePruning,
            DynamicNetworkSurgery,
            SparseSep,
            DeadUnits,
            Distillation,
            BinaryConnect,
            BinaryNet,
            TernaryWeights,
            CodebookSharing,
            MixedPrecision,
            FixedPointTraining,
            Int8Aware,
        )
    }
)
_NONE: Final = "none"
# A bare word is a string: cost=macs stands for cost="macs".
_WORD: Final = re.compile(
    r"(?<=[=\[,])\s*(?!true\b|false\b|inf\b|nan\b)([A-Za-z_][\w.]*)(?=\s*[,\]]|\s*$)"
)


def method_of(text: str) -> Method:
    """The method of a line: its name, and its settings as TOML writes those of an inline table.

    Args:
        text: NAME or NAME:KEY=VALUE,...; a word needs no quotes, and a dot names what is inside.

    Raises:
        ConfigError: There is no such method, a setting is not known or missing, or has a value
            that it cannot have.

    Example:
        >>> method = method_of("units:shares=[0.7,0.5],cost=macs,retrain.epochs=5")
        >>> method.shares, method.cost, method.retrain.epochs
        ((0.7, 0.5), 'macs', 5)
    """
    name, _, settings = text.partition(":")
    if name not in METHODS:
        msg = f"no method {name!r}: choose from {', '.join(METHODS)}"
        raise ConfigError(msg)
    try:
        return settings_of(METHODS[name], settings)
    except ConfigError as error:
        msg = f"method {name!r}: {error}"
        raise ConfigError(msg) from None


def settings_of(kind: type[T], text: str) -> T:
    """A dataclass of settings from text, as TOML writes those of an inline table.

    Args:
        kind: The dataclass.
        text: KEY=VALUE,...; what is not stated is as the class has it, and `none` is None.

    Raises:
        ConfigError: A setting is not known or missing, or has a value that it cannot have.

    Example:
        >>> from narrows.train import TrainSettings
        >>> settings_of(TrainSettings, "epochs=3,patience=none").epochs
        3
    """
    try:
        table: dict[str, Any] = tomllib.loads("settings = {" + _WORD.sub(r'"\1"', text) + "}")
    except tomllib.TOMLDecodeError as error:
        msg = f"{text!r}: {error}; expected KEY=VALUE,KEY=VALUE"
        raise ConfigError(msg) from None
    named = {"name": kind.name} if issubclass(kind, Method) else {}
    return from_dict(kind, {**named, **_filled(kind, table["settings"])})


def _filled(kind: Any, table: Any) -> dict[str, Any]:
    """What is stated, and the defaults of what is not, those of settings inside too."""
    if not isinstance(table, dict):
        msg = f"{kind.__name__} is {table!r}: expected KEY=VALUE"
        raise ConfigError(msg)
    made, hints = dict(table), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inside = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
        if made.get(field.name) == _NONE and type(None) in get_args(hint):
            made[field.name] = None
        elif field.name in made and inside:
            stated = made[field.name]
            if get_origin(hint) in (dict, Mapping):
                made[field.name] = {key: _filled(inside[0], one) for key, one in stated.items()}
            else:
                made[field.name] = _filled(inside[0], stated)
        elif field.name not in made and field.default is not dataclasses.MISSING:
            made[field.name] = to_dict(field.default)
        elif field.name not in made and field.default_factory is not dataclasses.MISSING:
            made[field.name] = to_dict(field.default_factory())
    return made
