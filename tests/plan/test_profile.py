import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from plan_samples import DEVICE, LINK

from narrows.config import from_dict, to_dict, write_json
from narrows.errors import ConfigError
from narrows.graph.cost import node_costs
from narrows.graph.load import load
from narrows.measure.integer_probes import in_integers
from narrows.measure.probes import probe_networks
from narrows.measure.profiling import predict_by_macs_s, predict_head_s, with_slower_integers
from narrows.plan.profile import (
    Cloud,
    Device,
    Link,
    load_cloud,
    load_device,
    load_link,
    presets,
)

LOADERS: dict[str, Any] = {"device": load_device, "link": load_link, "cloud": load_cloud}
NAMED = [(kind, name) for kind in LOADERS for name in presets(kind)]
NOT_NUMBERS = {"name", "here", "rates_from", "threads", "sources"}


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_every_number_of_a_preset_names_its_source(kind: str, name: str) -> None:
    profile = LOADERS[kind](name)
    numbers = {field.name for field in fields(profile)} - NOT_NUMBERS
    assert numbers <= set(profile.sources), numbers - set(profile.sources)
    assert all(len(text) > 3 for text in profile.sources.values())


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_presets_survive_a_round_trip_through_json(kind: str, name: str) -> None:
    profile = LOADERS[kind](name)
    again = from_dict(type(profile), json.loads(json.dumps(to_dict(profile))))
    assert again == profile


def test_presets_cover_slow_and_fast_links_and_devices() -> None:
    assert {"lora", "nb-iot", "lte-m", "ble", "3g", "4g", "wifi", "loopback"} <= set(
        presets("link")
    )
    slowdowns = [load_device(name).slowdown for name in presets("device")]
    assert min(slowdowns) <= 1 < 500 < max(slowdowns)
    assert predict_by_macs_s([], load_device("x86-core").rates) == 0.0


def test_boards_gain_less_from_integers_than_the_machine_their_rates_are_from() -> None:
    floats = next(probe_networks(1, seed=4))
    costs = [node_costs(load(proto)) for proto in (floats, in_integers(floats))]

    def gain(name: str) -> float:
        in_floats, in_int8 = (predict_head_s(c, load_device(name).rates) for c in costs)
        return in_floats / in_int8

    gains = {name: gain(name) for name in presets("device")}
    for dotless in ("raspberry-pi-4", "raspberry-pi-3b-plus", "cortex-a53", "esp32-s3"):
        assert gains[dotless] < gains["raspberry-pi-5"] == gains["x86-core"]


def test_slower_integers_leave_the_rest_as_it_is() -> None:
    rates = load_device("x86-core").rates
    slower = with_slower_integers(rates, 3.0)
    for before, after in zip(rates.kernels, slower.kernels, strict=True):
        factor = 3.0 if before.kind.endswith("-int8") else 1.0
        assert after.seconds_per == tuple(factor * s for s in before.seconds_per)
    assert any(entry.kind == "conv-pointwise-int8" for entry in rates.kernels)


def test_a_users_own_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "yard.json"
    write_json(path, replace(LINK, name="yard"))
    assert load_link(path).name == "yard"


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no link profile 'pigeon'.*lora"):
        load_link("pigeon")


def test_a_file_of_another_kind_is_refused_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    write_json(path, LINK)
    with pytest.raises(ConfigError, match="bandwidth_up_bits_per_s"):
        load_device(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bandwidth_up_bits_per_s": 0.0}, "bandwidth_up_bits_per_s"),
        ({"round_trip_s": -1.0}, "round_trip_s"),
        ({"jitter_s": float("nan")}, "jitter_s"),
    ],
)
def test_impossible_links_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(LINK, **changes)


def test_impossible_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="slowdown"):
        replace(DEVICE, slowdown=0.0)


def test_the_three_kinds_are_distinct_classes() -> None:
    assert isinstance(load_device("raspberry-pi-4"), Device)
    assert isinstance(load_link("4g"), Link)
    assert isinstance(load_cloud("x86-core"), Cloud)
