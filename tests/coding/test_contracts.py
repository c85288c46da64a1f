"""The shipped contract checks over every member of each table; they find broken members."""

import inspect
from dataclasses import dataclass, fields

import array_api_strict
import numpy as np
import pytest

from narrows.coding import CODERS, QUANTIZERS, TRANSFORMS
from narrows.coding.base import Coder, Quantizer
from narrows.coding.coders import Raw
from narrows.coding.quantizers import (
    Affine,
    Codebook,
    FixedPoint,
    Product,
    Residual,
    Sign,
    Uniform,
)
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
    Affine(bits=4),
    Affine(bits=4, granularity="channel"),
    Affine(bits=5, granularity="channel"),
    FixedPoint(integer_bits=8, fraction_bits=14, rounding="stochastic"),
    FixedPoint(integer_bits=10, fraction_bits=-2),
    Codebook(levels=300, start="density"),
    Codebook(levels=5, start="random", seed=3),
    Codebook(levels=2, reserve_zero=True),
    Codebook(levels=64, reserve_zero=True),
    Product(levels=3, length=3),
    Residual(levels=2, stages=5),
    Sign(scale="none"),
    Sign(scale="mean", stochastic=True),
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


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("zero", "zero becomes"),
        ("once", "twice is not"),
        ("order", "less symbol"),
        ("bin", "above a bin"),
        ("shape", "comes back"),
        ("neighbours", "alone"),
    ],
)
def test_contract_check_finds_a_broken_quantizer(fault, message):
    check_quantizer(Faulty())
    with pytest.raises(AssertionError, match=message):
        check_quantizer(Faulty(fault=fault))


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
class Faulty(Quantizer):
    """Plain rounding with one fault."""

    name = "faulty"
    fault: str = ""

    def fitter(self, shape):
        return Uniform().fitter(shape)

    def quantize(self, x, table):
        shift = {"zero": 0.75, "neighbours": float(len(x))}.get(self.fault, 0.0)
        symbols = Uniform().quantize(x + np.float32(shift), table)
        return -symbols if self.fault == "order" else symbols

    def dequantize(self, symbols, table):
        values = Uniform().dequantize(symbols, table)
        changes = {
            "zero": values - np.float32(0.75),
            "once": values + np.float32(0.5),
            "order": -values,
        }
        changes |= {"bin": values / 2, "shape": values[..., :1]}
        return changes.get(self.fault, values)


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
