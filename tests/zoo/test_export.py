"""A torch module becomes plain ONNX, and stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from narrows.graph.ort import run, session
from narrows.zoo.export import export

# What the exporter makes of a flattening over channels that come last.
GATHERING = {"Shape", "Range", "Gather", "Squeeze", "Unsqueeze"}


def network(*, channels_last: bool) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    return made.to(memory_format=torch.channels_last) if channels_last else made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_however_weights_lie_the_graph_is_plain_and_the_module_stays(
    channels_last: bool, training: bool
) -> None:
    module = network(channels_last=channels_last).train(training)
    proto = export(module, (3, 8, 8))
    assert not GATHERING & {node.op_type for node in proto.graph.node}
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert all(part.training == training for part in module.modules())
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(x)).numpy()
    found = run(session(proto), {"input": x})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
