"""The networks of cuts.py: torchvision's and timm's at small sizes, recurrent ones, int8 ones.

Their weights are random, brought to life on random inputs; one network is trained.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from narrows.graph import Model, load
from narrows.zoo.export import export
from narrows.zoo.libraries import timm_network, torchvision_network
from narrows.zoo.sources import resolve


class Recurrent(nn.Module):
    """Two recurrent layers over windows (time, axes), as for inertial sensors."""

    def __init__(self, cell: type[nn.Module]) -> None:
        super().__init__()
        self.before = nn.Linear(6, 12)
        self.first = cell(12, 16, batch_first=True, bidirectional=True)
        self.second = cell(32, 16, batch_first=True)
        self.after = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Windows (n, time, 6) to scores (n, 5)."""
        y, _ = self.first(torch.relu(self.before(x)))
        y, _ = self.second(y)
        return self.after(y.mean(dim=1))


def enliven(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Make outputs depend on inputs about as much as in a trained network.

    As constructed, some networks scale their blocks by 1e-6, end in zeros, or shrink the signal
    layer by layer until only the biases are left. So tiny scales are drawn anew, and each batch
    normalisation is set to the power of what reaches it. (Its mean is left at 0: taking that out
    as well makes random networks chaotic, they then magnify any rounding layer by layer.)
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def set_power(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean.zero_()
        norm.running_var.fill_(inputs[0].square().mean())

    module.eval()
    with torch.no_grad():
        for name, value in module.named_parameters():
            if not name.endswith("bias") and value.abs().max() < 1e-4:
                value.normal_(0, 0.1, generator=generator)
        hooks = [norm.register_forward_pre_hook(set_power) for norm in norms]
        module(torch.randn((16, *shape), generator=generator))
    for hook in hooks:
        hook.remove()
    return module


def from_torchvision(name: str, size: int) -> onnx.ModelProto:
    module, shape = torchvision_network(name, size=size, pretrained=False, seed=0)
    return export(enliven(module, shape), shape, name=name)


def trained() -> onnx.ModelProto:
    """EfficientNet-Lite0 with its trained weights, at its own input size."""
    return onnx.load(str(resolve("zoo:efficientnet_lite0")))


def vgg11(size: int, width: int = 256) -> onnx.ModelProto:
    """VGG-11 with a classifier of narrower layers: its 124 million weights show nothing here."""
    module, shape = torchvision_network("vgg11", size=size, pretrained=False, seed=0)
    features = module.classifier[0].in_features
    module.classifier[0] = nn.Linear(features, width)
    module.classifier[3] = nn.Linear(width, width)
    module.classifier[6] = nn.Linear(width, 1000)
    return export(enliven(module, shape), shape, name="vgg11")


def from_timm(name: str, size: int) -> onnx.ModelProto:
    module, shape = timm_network(name, size=size, pretrained=False, seed=0)
    return export(enliven(module, shape), shape, name=name)


def recurrent(cell: type[nn.Module]) -> onnx.ModelProto:
    torch.manual_seed(0)
    return export(Recurrent(cell).eval(), (50, 6))


class Calibration:
    """Random inputs for the static quantizer."""

    def __init__(self, model: Model, count: int = 4) -> None:
        rng = np.random.default_rng(3)
        shape = model.input.at(1)
        self._left = iter(
            {model.input.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(count)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next input; None at the end."""
        return next(self._left, None)


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Int8 QDQ by ONNX Runtime's static quantization, U8S8, weights per channel."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, before)
        logging.disable(logging.WARNING)  # it recommends its own preprocessing
        quantize_static(
            before,
            after,
            Calibration(load(proto)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        logging.disable(logging.NOTSET)
        return onnx.load(after)


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "vgg11": lambda: vgg11(64),
    "resnet18": lambda: from_torchvision("resnet18", 64),
    "resnet50": lambda: from_torchvision("resnet50", 64),
    "mobilenet_v2": lambda: from_torchvision("mobilenet_v2", 64),
    "mobilenet_v3_small": lambda: from_torchvision("mobilenet_v3_small", 64),
    "mobilenet_v3_large": lambda: from_torchvision("mobilenet_v3_large", 64),
    "efficientnet_lite0": lambda: from_timm("efficientnet_lite0", 64),
    "efficientnet_b0": lambda: from_torchvision("efficientnet_b0", 64),
    "googlenet": lambda: from_torchvision("googlenet", 64),
    "inception_v3": lambda: from_torchvision("inception_v3", 96),
    "densenet121": lambda: from_torchvision("densenet121", 64),
    "squeezenet1_1": lambda: from_torchvision("squeezenet1_1", 64),
    "shufflenet_v2_x1_0": lambda: from_torchvision("shufflenet_v2_x1_0", 64),
    "mnasnet1_0": lambda: from_torchvision("mnasnet1_0", 64),
    "regnet_y_400mf": lambda: from_torchvision("regnet_y_400mf", 64),
    "convnext_tiny": lambda: from_torchvision("convnext_tiny", 64),
    "swin_t": lambda: from_torchvision("swin_t", 64),
    "vit_tiny": lambda: from_timm("vit_tiny_patch16_224", 224),
    "mobilevit_s": lambda: from_timm("mobilevit_s", 64),
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "resnet18_int8": lambda: quantized(from_torchvision("resnet18", 64)),
    "mobilenet_v2_int8": lambda: quantized(from_torchvision("mobilenet_v2", 64)),
    "efficientnet_lite0_trained": trained,
    "efficientnet_lite0_int8": lambda: quantized(from_timm("efficientnet_lite0", 64)),
}
