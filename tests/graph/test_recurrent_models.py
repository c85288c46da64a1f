"""Recurrent networks as PyTorch exports them, in integers: near the original, cut, and told of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from narrows.graph.cost import total_macs
from narrows.graph.cuts import find_cuts
from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantized import weight_bearing
from narrows.graph.split import check_equal
from narrows.measure.execution import execution
from narrows.zoo.bilstm import BiLSTM
from narrows.zoo.deepsense import DeepSense, DeepSenseUnits
from narrows.zoo.export import export

NEAR = 0.05  # of the deviation of the answers


def plainly_exported(module: Any, shape: tuple[int, ...]) -> onnx.ModelProto:
    """By the default exporter, whose file declares values that simplifying removes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *shape),),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            verbose=False,
        )
    proto: onnx.ModelProto = program.model_proto
    assert len(proto.graph.value_info) > 0
    return proto


class Stacked(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, kind: str, both: bool) -> None:
        super().__init__()
        self.cells = getattr(torch.nn, kind)(
            8, 16, num_layers=2, batch_first=True, bidirectional=both
        )
        self.out = torch.nn.Linear(16 * (1 + both), 5)

    def forward(self, x: Any) -> Any:
        return self.out(self.cells(x)[0][:, -1])


def deepsense() -> Any:
    units = DeepSenseUnits(own=((8, 8),) * 3, merged=(8, 8, 8), hidden=(24, 16))
    return DeepSense(classes=6, units=units)


# Network → what makes it, the shape of a sample, and its operators with weights in integers.
NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int]] = {
    "bilstm": (
        lambda: BiLSTM(20, 29, forward_units=(24, 16), merge="levels"),
        (30, 20),
        5,
    ),
    "deepsense": (deepsense, (20, 120), 14),
    "gru both ways": (lambda: Stacked("GRU", both=True), (12, 8), 5),
    "lstm both ways": (lambda: Stacked("LSTM", both=True), (12, 8), 3),
}


@cache
def exported(name: str, export_by: Callable[..., onnx.ModelProto]) -> Model:
    torch.manual_seed(0)
    make, shape, _ = NETWORKS[name]
    return load(export_by(make(), shape))


def samples(model: Model, count: int, seed: int = 0) -> Any:
    shape = (count, *model.input.shape)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "export_by"),
    [
        *((name, export) for name in NETWORKS),
        ("gru both ways", plainly_exported),
        ("lstm both ways", plainly_exported),
    ],
)
def test_an_exported_network_runs_wholly_in_integers(
    name: str, export_by: Callable[..., onnx.ModelProto]
) -> None:
    original, count = exported(name, export_by), NETWORKS[name][2]
    made = load(quantize_static(original, [samples(original, 16)], recurrent="all"))
    held = weight_bearing(made.proto)
    assert (len(held.int8), held.floating, held.weights_only) == (count, (), ())
    assert total_macs(made) == total_macs(original)
    x = samples(original, 16, seed=1)
    exact, found = (run(session(m.proto), {m.input.name: x})[0] for m in (original, made))
    assert np.std(found - exact) < NEAR * np.std(exact)
    ran = execution(made, original=original)
    assert (ran.int8, ran.weight_bearing, ran.int8_share) == (count, count, 1.0)
    assert ran.removed is not None
    assert ran.removed.units == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_cut_of_it_is_exact(name: str) -> None:
    original = exported(name, export)
    x = samples(original, 4)
    made = load(quantize_static(original, [x], recurrent="all"))
    cuts = find_cuts(made)
    assert len(cuts) > 3
    assert cuts[-1].head_macs == total_macs(original)
    for cut in cuts:
        assert check_equal(made, cut, x).exact
        assert check_equal(made, cut, x, optimise=True).error <= 1e-5
    floats = [cut.tensor for cut in cuts if cut.dtype == "float32"][1:-1]
    # Between two layers of the stacked ones nothing but states is there.
    assert bool(floats) == ("both ways" in name)


def test_a_small_deepsense_keeps_its_grus_in_float() -> None:
    original = exported("deepsense", export)
    held = weight_bearing(quantize_static(original, [samples(original, 4)]))
    assert (len(held.int8), len(held.floating)) == (10, 2)
