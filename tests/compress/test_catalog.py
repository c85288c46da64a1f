"""A method from a line, as a user types it."""

from __future__ import annotations

import pytest

from narrows.compress import BinaryNet, DeepIoT, DynamicNetworkSurgery, SurgerySettings, UnitPruning
from narrows.compress.catalog import METHODS, method_of, settings_of
from narrows.errors import ConfigError
from narrows.train import TrainSettings


def test_settings_are_read_with_lists_words_and_what_is_inside() -> None:
    assert method_of(
        "deepiot:share=0.05, search.epochs=3, finetune.epochs=4, cost=macs"
    ) == DeepIoT(
        share=0.05, search=TrainSettings(epochs=3), finetune=TrainSettings(epochs=4), cost="macs"
    )
    text = "surgery:training.epochs=9,training.optimizer=adamw,settings.c_rate=-1,skip=[conv1,ip2]"
    assert method_of(text) == DynamicNetworkSurgery(
        training=TrainSettings(epochs=9, optimizer="adamw"),
        settings=SurgerySettings(c_rate=-1),
        skip=("conv1", "ip2"),
    )
    assert method_of(
        "units:shares=[0.5],cost=latency,multiple=16,max_drop=0.01,retrain.epochs=2"
    ) == (
        UnitPruning(
            shares=(0.5,),
            cost="latency",
            multiple=16,
            max_drop=0.01,
            retrain=TrainSettings(epochs=2),
        )
    )
    assert method_of("sparsesep").name == "sparsesep"
    text = "binarynet:norm=shift,training.epochs=9,training.optimizer=shift_adamax"
    training = TrainSettings(epochs=9, optimizer="shift_adamax", weight_decay=0)
    assert method_of(f"{text},training.weight_decay=0") == BinaryNet(
        training=training, norm="shift"
    )
    assert not method_of(
        "magnitude:by=layer,targets=[0.5],retrain.epochs=1,scale_dropout=false"
    ).scale_dropout  # type: ignore[attr-defined]


def test_every_method_is_in_the_table_under_its_name() -> None:
    assert all(kind.name == name for name, kind in METHODS.items())
    smaller = {"deepiot", "units", "magnitude", "surgery", "sparsesep", "dead_units"}
    fewer_bits = {"codebooks", "mixed_precision", "fixed_point", "int8_aware"}
    one_bit = {"binaryconnect", "binarynet", "ternary"}
    assert set(METHODS) == smaller | fewer_bits | one_bit | {"distillation"}


def test_none_is_nothing_where_a_setting_may_be_left_out() -> None:
    pruning = method_of("units:shares=[0.5],cost=macs,retrain=none")
    assert pruning == UnitPruning(shares=(0.5,), cost="macs", retrain=None)
    assert settings_of(TrainSettings, "epochs=2,patience=none").patience is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prune", "no method 'prune': choose from deepiot"),
        ("units:shares=0.5,retrain.epochs=1", "shares"),
        ("units:shares=[0.5]", "retrain"),
        ("units:shares=[0.5],retrain.epochs=0", "epochs is 0"),
        ("units:shares=[0.5],retrain.epochs=1,speed=2", "speed"),
        ("units:shares=[0.5", "expected KEY=VALUE"),
        ("units:shares=[0.5],cost=watts,retrain.epochs=1", "watts"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        method_of(text)
