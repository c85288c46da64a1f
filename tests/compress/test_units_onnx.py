"""Layers that removal puts in place of PyTorch's answer the same as ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import test_units_exact as patterns
import torch
from test_units_again import Normed
from torch import Tensor, nn

from narrows.compress.attention import ReducedAttention
from narrows.compress.counted import CountedGroupNorm, CountedLayerNorm
from narrows.compress.recurrent import RecurrentStack
from narrows.compress.removal import remove_units
from narrows.compress.units import find_units
from narrows.zoo.export import export

IMAGE = (3, patterns.H, patterns.H)
SHORT = (3, patterns.H, 2)  # as few steps as can be: exporting takes time for each


def unequal(network: nn.Module, x: Tensor) -> nn.Module:
    """Every second unit of every group stays, and one more of every second group."""
    keep = {
        group.name: sorted({*range(0, group.size, 2), number % 2})
        for number, group in enumerate(find_units(network, x).groups)
    }
    return remove_units(network, x, keep).eval()


@pytest.mark.parametrize(
    ("make", "shape", "layers"),
    [
        (lambda: patterns.Attention("module"), IMAGE, {ReducedAttention, CountedLayerNorm}),
        (lambda: patterns.normed(2), IMAGE, {CountedGroupNorm}),
        (Normed, IMAGE, set()),
        (lambda: patterns.states(nn.LSTM), (3, 2, 2), {RecurrentStack}),
        (lambda: patterns.states(nn.GRU), (3, 2, 2), {RecurrentStack}),
        (
            lambda: patterns.sense(nn.RNN, num_layers=2, bidirectional=True, nonlinearity="relu"),
            SHORT,
            {RecurrentStack},
        ),
    ],
)
def test_onnx_runtime_answers_as_pytorch(
    make: Callable[[], nn.Module], shape: tuple[int, ...], layers: set[type[nn.Module]]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    smaller = unequal(make(), x[:1])
    assert layers <= {type(module) for module in smaller.modules()}
    proto = export(smaller, shape)
    options = {"providers": ["CPUExecutionProvider"]}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), **options)
    with torch.no_grad():
        expected = smaller(x).numpy()
    (answered,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
