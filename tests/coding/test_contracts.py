"""The shipped contract checks over every member of each table; they find broken members."""

import inspect
from dataclasses import dataclass, fields

import array_api_strict
import numpy as np
import pytest

from narrows.coding import CODERS, QUANTIZERS, TRANSFORMS
from narrows.coding.base import Coder
from narrows.coding.coders import Raw
from narrows.coding.quantizers import Affine, Uniform
from narrows.testing.coders import check_coder
from narrows.testing.quantizers import check_quantizer
from narrows.testing.transforms import check_transform

TABLES = {**CODERS, **QUANTIZERS, **TRANSFORMS}
SETTINGS = (
    Uniform(step=0.1),
    Uniform(step=0.7, threshold=0.66),
    Uniform(step=0.7, threshold=0.6, shift=0.2),
    Uniform(step=0.7, threshold=0.95),
    Uniform(step=2.0, threshold=0.55, fit_shift=True),
    Affine(bits=2),
    Affine(bits=5, granularity="channel"),
)


@pytest.mark.parametrize("name", sorted(CODERS))
def test_coder_keeps_its_contract(name):
    check_coder(CODERS[name](), hostile_payloads=1200, hostile_tables=300)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_quantizer_keeps_its_contract(name):
    check_quantizer(QUANTIZERS[name](), namespaces=[array_api_strict])


@pytest.mark.parametrize("quantizer", SETTINGS, ids=repr)
def test_quantizer_keeps_its_contract_at_other_settings(quantizer):
    check_quantizer(quantizer, namespaces=[array_api_strict])


@pytest.mark.parametrize("quantizer", [Uniform(), Affine(), *SETTINGS], ids=repr)
def test_torch_gives_the_same_symbols(quantizer):
    torch = pytest.importorskip("torch")
    check_quantizer(quantizer, namespaces=[torch])


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_transform_keeps_its_contract(name):
    check_transform(TRANSFORMS[name]())


@pytest.mark.parametrize("name", sorted(TABLES))
def test_member_is_a_value(name):
    member = TABLES[name]()
    assert member == type(member)()
    assert hash(member) == hash(type(member)())
    assert eval(repr(member), {type(member).__name__: type(member)}) == member
    assert type(member).name == name
    assert ">>>" in inspect.getdoc(type(member))
    for field in fields(member):
        with pytest.raises(AttributeError):
            setattr(member, field.name, 1)


@dataclass(frozen=True)
class Broken(Coder):
    """Raw with one fault."""

    name = "broken"
    fault: str = ""

    def fitter(self, shape):
        return Raw().fitter(shape)

    def validate(self, shape, table):
        if self.fault != "trusts tables":
            Raw().validate(shape, table)

    def encode(self, symbols, table):
        if self.fault == "wraps":
            symbols = symbols.astype(np.int16).astype(np.int32)
        return Raw().encode(symbols, table)

    def decode(self, data, shape, table):
        if self.fault == "leaks errors" and len(data) < 3:
            raise IndexError
        if self.fault == "wrong shape" and data[:1] == b"\0":
            return np.zeros(3, np.int32)
        if self.fault == "memory":
            np.ones(40 * int(np.prod(shape)), np.uint8)
        return Raw().decode(data, shape, table)


@pytest.mark.parametrize(
    "fault", ["wraps", "leaks errors", "wrong shape", "memory", "trusts tables"]
)
def test_contract_check_finds_a_broken_coder(fault):
    check_coder(Broken())
    with pytest.raises((AssertionError, IndexError)):
        check_coder(Broken(fault=fault))
