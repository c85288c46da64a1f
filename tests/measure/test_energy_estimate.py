from __future__ import annotations

import numpy as np
import onnx
import pytest

from narrows.config import from_dict, to_dict
from narrows.graph import load
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights
from narrows.measure.energy_estimate import (
    ADD_PJ,
    MAC_PJ,
    MULTIPLY_PJ,
    READ_32_BITS_PJ,
    EnergyEstimate,
    estimated_energy_j,
)

CLASSES = 512


def network() -> onnx.ModelProto:
    """Two convolutions, one of them depthwise, and a classifier."""
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (8, CLASSES)}
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 16, 16] x) => (float[N, 512] y) {'
        "a = Conv<pads=[1, 1, 1, 1]>(x, w1) b = Relu(a)"
        "c = Conv<pads=[1, 1, 1, 1], group=8>(b, w2) d = Relu(c)"
        "m = GlobalAveragePool(d) f = Flatten(m) y = MatMul(f, w3)}"
    )
    for name, shape in shapes.items():
        values = random.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


CONVOLUTION_MACS = 16 * 16 * 8 * (27 + 9)
PRODUCT_MACS = 8 * CLASSES
WEIGHTS = 8 * 27 + 8 * 9 + 8 * CLASSES
PLANE = 8 * 16 * 16


def test_the_table_is_that_of_the_slides() -> None:
    assert ADD_PJ == {"int8": 0.03, "int32": 0.1, "float16": 0.4, "float32": 0.9}
    assert MULTIPLY_PJ == {"int8": 0.2, "int32": 3.1, "float16": 1.1, "float32": 3.7}
    assert READ_32_BITS_PJ == {"sram": 5, "dram": 640}
    assert pytest.approx({"int8": 0.3, "float16": 1.5, "float32": 4.6}) == MAC_PJ


def test_a_float_network_is_counted_by_hand() -> None:
    found = estimated_energy_j(load(network()))
    macs = CONVOLUTION_MACS + PRODUCT_MACS
    assert found.label == "estimated"
    assert found.macs == {"float32": macs}
    assert found.weight_bytes == 4 * WEIGHTS
    # written and read: x once, a b c d twice each, m f twice each, y once
    values = 3 * 256 + 2 * 4 * PLANE + 2 * 2 * 8 + CLASSES
    assert found.activation_bytes == 4 * values
    assert found.compute_j == pytest.approx(macs * 4.6e-12)
    assert found.weights_j == pytest.approx(WEIGHTS * 640e-12)
    assert found.activations_j == pytest.approx(values * 5e-12)
    assert found.energy_j == pytest.approx(found.compute_j + found.weights_j + found.activations_j)


def test_int8_multiplies_in_integers_and_moves_a_quarter() -> None:
    original = load(network())
    random = np.random.default_rng(1)
    samples = [random.normal(0, 1, (4, 3, 16, 16)).astype(np.float32) for _ in range(4)]
    plain = estimated_energy_j(original)
    found = estimated_energy_j(load(quantize_static(original, samples)))
    assert found.macs["int8"] == CONVOLUTION_MACS + PRODUCT_MACS
    assert sum(found.macs.values()) == found.macs["int8"]
    assert found.compute_j == pytest.approx(plain.compute_j * 0.3 / 4.6)
    assert found.weight_bytes < 0.5 * plain.weight_bytes
    assert found.activation_bytes < 0.7 * plain.activation_bytes
    assert found.energy_j < 0.5 * plain.energy_j


def test_eight_bit_weights_alone_save_reading_and_no_arithmetic() -> None:
    original = load(network())
    plain = estimated_energy_j(original)
    found = estimated_energy_j(load(quantize_weights(original)))
    assert found.macs == plain.macs
    assert found.compute_j == plain.compute_j
    assert found.activation_bytes == plain.activation_bytes
    assert found.weight_bytes < plain.weight_bytes


def test_half_floats_have_their_own_price() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float16[N, 4] x) => (float16[N, 2] y)'
        " {y = MatMul(x, w)}"
    )
    values = np.ones((4, 2), np.float16)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    found = estimated_energy_j(load(model))
    assert found.macs == {"float16": 8}
    assert found.compute_j == pytest.approx(8 * 1.5e-12)
    assert found.weight_bytes == 16


def test_where_data_lives_is_a_choice_and_is_told() -> None:
    model = load(network())
    near = estimated_energy_j(model, weights="sram")
    far = estimated_energy_j(model, activations="dram")
    assert near.weights_j == pytest.approx(far.weights_j / 128)
    assert far.activations_j == pytest.approx(near.activations_j * 128)
    assert any("read once from SRAM" in text for text in near.assumptions)
    assert any("45 nm" in text for text in near.assumptions)


def test_operators_without_a_rule_are_told() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 8, 8] x) => (float[N, 1] y)'
        " {y = Det(x)}"
    )
    found = estimated_energy_j(load(onnx.parser.parse_model(text)))
    assert found.assumptions[-1].endswith("are missing: 1 Det")


def test_an_estimate_survives_json() -> None:
    found = estimated_energy_j(load(network()))
    assert from_dict(EnergyEstimate, to_dict(found)) == found
