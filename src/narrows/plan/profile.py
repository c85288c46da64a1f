"""Device, Link and Cloud: what the planner knows of the three places.

A profile is a small JSON file. `sources` says for every number where it comes from: a measurement,
a data sheet, a paper, or an estimate that is called one. Presets ship with the package:

    >>> sorted(presets("link"))[:3]
    ['3g', '4g', 'ble']
    >>> load_link("4g").round_trip_s
    0.05
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

from narrows.config import from_dict, read_json, to_dict
from narrows.errors import ConfigError
from narrows.measure.profiling import OperatorRates, with_slower_integers

P = TypeVar("P", "Device", "Link", "Cloud")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The place where the head runs.

    Args:
        name: What it is called in tables.
        here: This very machine: terms are timed in the plan instead of predicted from rates.
        rates: Seconds per unit of work for each kind of operator, fitted on `rates_from`. In the
            presets of boards that gain less from 8-bit integers than that machine, the kernels in
            integers are slower by the ratio of `int8_slowdown` (its number and its source are
            in the preset's file) to `slowdown`.
        rates_from: The machine the rates were fitted on.
        slowdown: Time here over time on `rates_from`, for all computing.
        threads: Threads that inference uses.
        memory_bytes: Memory left for weights and activations; None where it does not bind.
        active_power_w: Power while computing; None unknown, then energies are None.
        idle_power_w: Power while waiting for the answer; None unknown.
        encode_s_per_symbol: Entropy coding, a symbol, on `rates_from`.
        encode_overhead_s: Entropy coding, a payload, on `rates_from`.
        picture_encode_s_per_pixel: By picture format, on `rates_from`.
        sources: Field name → where its number comes from.
    """

    FORMAT: ClassVar[int] = 1

    name: str
    here: bool = False
    rates: OperatorRates
    rates_from: str
    slowdown: float
    threads: int
    memory_bytes: int | None
    active_power_w: float | None
    idle_power_w: float | None
    encode_s_per_symbol: float
    encode_overhead_s: float
    picture_encode_s_per_pixel: Mapping[str, float]
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check_positive(self, ("slowdown", "threads"))
        _check_not_negative(self, ("encode_s_per_symbol", "encode_overhead_s"))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What lies between device and cloud.

    Args:
        name: What it is called in tables.
        bandwidth_up_bits_per_s: Device to cloud, net of the radio's own framing.
        bandwidth_down_bits_per_s: Cloud to device.
        round_trip_s: There and back of an empty message, median.
        jitter_s: What a deadline must allow for on top of the median.
        overhead_bytes_up: Protocol bytes a call beside the frame.
        overhead_bytes_down: The same for the reply.
        price_per_byte: Money, both directions alike.
        energy_j_per_byte_up: Device energy for a byte sent.
        energy_j_per_byte_down: Device energy for a byte received.
        sources: Field name → where its number comes from.
    """

    FORMAT: ClassVar[int] = 1

    name: str
    bandwidth_up_bits_per_s: float
    bandwidth_down_bits_per_s: float
    round_trip_s: float
    jitter_s: float
    overhead_bytes_up: int
    overhead_bytes_down: int
    price_per_byte: float
    energy_j_per_byte_up: float
    energy_j_per_byte_down: float
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check_positive(self, ("bandwidth_up_bits_per_s", "bandwidth_down_bits_per_s"))
        _check_not_negative(
            self,
            (
                "round_trip_s",
                "jitter_s",
                "overhead_bytes_up",
                "overhead_bytes_down",
                "price_per_byte",
                "energy_j_per_byte_up",
                "energy_j_per_byte_down",
            ),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The place where the tail runs.

    Args:
        name: What it is called in tables.
        here: This very machine: terms are timed in the plan instead of predicted from rates.
        rates: Seconds per unit of work for each kind of operator, fitted on `rates_from`.
        rates_from: The machine the rates were fitted on.
        slowdown: Time here over time on `rates_from`, for all computing; below 1 for faster.
        threads: Threads that inference uses.
        service_s: What a call costs beside decoding and inference.
        queue_s: Waiting before a call is taken up, median.
        decode_s_per_symbol: Entropy decoding, a symbol, on `rates_from`.
        picture_decode_s_per_pixel: By picture format, on `rates_from`.
        price_per_call: Money a request.
        price_per_s: Money a second of computing.
        sources: Field name → where its number comes from.
    """

    FORMAT: ClassVar[int] = 1

    name: str
    here: bool = False
    rates: OperatorRates
    rates_from: str
    slowdown: float
    threads: int
    service_s: float
    queue_s: float
    decode_s_per_symbol: float
    picture_decode_s_per_pixel: Mapping[str, float]
    price_per_call: float
    price_per_s: float
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check_positive(self, ("slowdown", "threads"))
        _check_not_negative(
            self, ("service_s", "queue_s", "decode_s_per_symbol", "price_per_call", "price_per_s")
        )


def presets(kind: str) -> tuple[str, ...]:
    """Names of the profiles that ship with narrows; `kind` is "device", "link" or "cloud"."""
    folder = resources.files("narrows.plan") / "presets" / kind
    return tuple(sorted(p.name.removesuffix(".json") for p in folder.iterdir()))


def load_device(source: str | Path) -> Device:
    """A device profile: the name of a preset, or the path of a JSON file.

    Raises:
        ConfigError: There is no such preset or file, or it does not hold a device.
    """
    return _load(source, Device)


def load_link(source: str | Path) -> Link:
    """A link profile: the name of a preset, or the path of a JSON file.

    Raises:
        ConfigError: There is no such preset or file, or it does not hold a link.
    """
    return _load(source, Link)


def load_cloud(source: str | Path) -> Cloud:
    """A cloud profile: the name of a preset, or the path of a JSON file.

    Raises:
        ConfigError: There is no such preset or file, or it does not hold a cloud.
    """
    return _load(source, Cloud)


def _load(source: str | Path, cls: type[P]) -> P:
    kind = cls.__name__.lower()
    if Path(source).is_file():
        return read_json(source, cls)
    if str(source) not in presets(kind):
        known = ", ".join(presets(kind))
        msg = f"no {kind} profile {str(source)!r}: give the path of a JSON file, or one of {known}"
        raise ConfigError(msg)
    data = _preset(kind, str(source))
    if "rates" not in data:
        return from_dict(cls, data)
    # Rates are long and shared: presets name a file of them. They were fitted on a machine that
    # computes in integers far faster than in floats; other machines gain less.
    rates = from_dict(OperatorRates, _preset("rates", data["rates"]))
    slower = data.pop("int8_slowdown", data["slowdown"]) / data["slowdown"]
    data["rates"] = to_dict(rates if slower == 1 else with_slower_integers(rates, slower))
    return from_dict(cls, data)


def _preset(kind: str, name: str) -> dict[str, Any]:
    file = resources.files("narrows.plan") / "presets" / kind / f"{name}.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    del data["format"]
    return data


def _check_positive(value: Device | Link | Cloud, names: tuple[str, ...]) -> None:
    _check(value, names, lambda number: 0 < number < float("inf"), "above zero")


def _check_not_negative(value: Device | Link | Cloud, names: tuple[str, ...]) -> None:
    _check(value, names, lambda number: 0 <= number < float("inf"), "not negative")


def _check(
    value: Device | Link | Cloud, names: tuple[str, ...], ok: Callable[[float], bool], rule: str
) -> None:
    for name in names:
        if not ok(getattr(value, name)):
            kind = type(value).__name__.lower()
            msg = f"{kind} {value.name!r}: {name} = {getattr(value, name)}: it must be {rule}"
            raise ConfigError(msg)
